"""Batches by length: each pair goes to the smallest bucket that holds both its sides.

The pairs that do not fill a batch move on to the next larger bucket. The order of the batches is shuffled.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from optical_jax.data.batches.tokens import TokenizedPairs
from optical_jax.errors import ConfigError
from optical_jax.types import TextInputs


class Buckets:
    """The layout of `data.batching=buckets`: one shape a padded length."""

    def __init__(self, pairs: TokenizedPairs, buckets: tuple[int, ...], batch: int):
        self.pairs, self.batch = pairs, batch
        self.lengths = np.maximum(pairs.student.lengths, pairs.teacher.lengths)
        self.buckets = _used_buckets(buckets, int(self.lengths.max()))

    @property
    def row_lengths(self) -> tuple[int, ...]:
        """Tokens of a row, over all batches."""
        return self.buckets

    def arrange(self, pairs: Int[np.ndarray, "places"], rng: np.random.Generator) -> Int[np.ndarray, "batches B"]:
        pairs = rng.permutation(pairs)
        bucket_of = np.searchsorted(self.buckets, self.lengths[pairs])
        batches = []
        waiting = pairs[:0]
        for i in range(len(self.buckets)):
            waiting = np.concatenate([waiting, pairs[bucket_of == i]])
            full = len(waiting) // self.batch
            batches.append(waiting[: full * self.batch].reshape(full, self.batch))
            waiting = waiting[full * self.batch :]
        return rng.permutation(np.concatenate(batches))

    def side(
        self, name: str, pairs: Int[np.ndarray, "B"], rows: slice, weights: Float[np.ndarray, "V"] | None
    ) -> TextInputs:
        """One side of a batch, "student" or "teacher": those rows of it, padded as the whole batch is."""
        longest = int(self.lengths[pairs].max())
        length = self.buckets[int(np.searchsorted(self.buckets, longest))]
        return getattr(self.pairs, name).rows(pairs[rows], length, weights)


def _used_buckets(buckets: tuple[int, ...], longest: int) -> tuple[int, ...]:
    """The buckets up to the first that holds the longest text."""
    if not buckets or list(buckets) != sorted(set(buckets)) or buckets[0] < 1:
        raise ConfigError(f"data.buckets={buckets} must be lengths in rising order")
    if buckets[-1] < longest:
        raise ConfigError(
            f"data.buckets={buckets} hold no text of {longest} tokens; add {longest}, or lower student.max_length and "
            "teacher.max_length"
        )
    return tuple(buckets[: int(np.searchsorted(buckets, longest)) + 1])

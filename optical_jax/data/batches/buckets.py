"""Length bucketing: each pair goes to the smallest bucket that holds both its sides.

Pairs that do not fill a batch move to the next larger bucket. The order of batches is shuffled.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from optical_jax.data.batches.tokens import TokenizedPairs
from optical_jax.errors import ConfigError
from optical_jax.types import TextInputs


class Buckets:
    """Batch layout of `data.batching=buckets`: one shape per padded length."""

    def __init__(self, pairs: TokenizedPairs, buckets: tuple[int, ...], batch: int):
        self.pairs, self.batch = pairs, batch
        self.lengths = np.maximum(pairs.student.lengths, pairs.teacher.lengths)
        self.buckets = _used_buckets(buckets, int(self.lengths.max()))

    @property
    def row_lengths(self) -> tuple[int, ...]:
        """Row lengths in tokens that occur in batches."""
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
        """Rows of one side of a batch, "student" or "teacher", padded to the length of the whole batch."""
        longest = int(self.lengths[pairs].max())
        length = self.buckets[int(np.searchsorted(self.buckets, longest))]
        return getattr(self.pairs, name).rows(pairs[rows], length, weights)


def _used_buckets(buckets: tuple[int, ...], longest: int) -> tuple[int, ...]:
    """The buckets up to the first that holds the longest text."""
    if not buckets or list(buckets) != sorted(set(buckets)) or buckets[0] < 1:
        raise ConfigError(f"data.buckets={buckets} must be in rising order; use lengths such as 16 32 64")
    if buckets[-1] < longest:
        raise ConfigError(
            f"data.buckets={buckets} are too short for a text of {longest} tokens; add {longest}, or decrease "
            "student.max_length and teacher.max_length"
        )
    return tuple(buckets[: int(np.searchsorted(buckets, longest)) + 1])

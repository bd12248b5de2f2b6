"""Training batches: batch i is a pure function of the data, the seed and i.

Each language has an endless stream of pairs: permutation after permutation of its pairs, drawn from the seed. An epoch
is ceil(pairs / global_batch) batches; it takes a fixed number of pairs from every stream (its share, by temperature or
weights), so at temperature 1 every pair once, and the few places that are left in the last batch go to the first pairs
of the next permutation: nothing is lost, and no pair is ever seen twice more than another of its language.

Within an epoch each pair goes to the smallest bucket that holds both its sides; the pairs that do not fill a batch
move on to the next larger bucket. The order of the batches is shuffled.

So a position is one number, whatever the number of processes: process p of P takes rows [p B / P, (p + 1) B / P).
"""

from __future__ import annotations

import math
import threading
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import grain
import numpy as np
from jaxtyping import Float, Int

from optical_jax.config import DataConfig
from optical_jax.data.pairs import TokenizedPairs, idf_table, join_pairs
from optical_jax.errors import ConfigError
from optical_jax.types import Batch

ENDLESS = 2**40
"""Batches of the source: as good as without end."""
PREFETCHED_BATCHES = 2
CACHED_EPOCHS = 2


@dataclass(frozen=True)
class Epoch:
    """Which pairs make up every batch of one epoch."""

    pairs: Int[np.ndarray, "batches B"]
    """Rows of the joined pairs."""
    lengths: Int[np.ndarray, "batches"]
    """Padded length of each batch."""


class EpochPlan:
    """Pairs, shares and buckets; epoch e in O(pairs), whatever came before it."""

    def __init__(self, sizes: Mapping[str, int], lengths: Int[np.ndarray, "N"], cfg: DataConfig, seed: int):
        self.sizes, self.lengths, self.seed, self.batch = dict(sizes), lengths, seed, cfg.global_batch
        self.buckets = _used_buckets(cfg.buckets, int(lengths.max()))
        self.batches = math.ceil(len(lengths) / cfg.global_batch)
        self.quotas = language_quotas(self.sizes, cfg, self.batches * cfg.global_batch)

    def epoch(self, number: int) -> Epoch:
        first, parts = 0, []
        for language, size in self.sizes.items():
            start = number * self.quotas[language]
            parts.append(first + self._stream(language, size, start, start + self.quotas[language]))
            first += size
        rng = self._rng("epoch", number)
        pairs = rng.permutation(np.concatenate(parts))
        bucket_of = np.searchsorted(self.buckets, self.lengths[pairs])
        batches, lengths = [], []
        waiting = pairs[:0]
        for i, length in enumerate(self.buckets):
            waiting = np.concatenate([waiting, pairs[bucket_of == i]])
            full = len(waiting) // self.batch
            batches.append(waiting[: full * self.batch].reshape(full, self.batch))
            lengths += [length] * full
            waiting = waiting[full * self.batch :]
        order = rng.permutation(self.batches)
        return Epoch(np.concatenate(batches)[order], np.array(lengths)[order])

    def _stream(self, language: str, size: int, start: int, stop: int) -> Int[np.ndarray, "n"]:
        """Places [start, stop) of the language's permutations, one after the other."""
        if stop == start:
            return np.zeros(0, np.int64)
        first, last = start // size, (stop - 1) // size
        whole = [
            self._rng("language", zlib.crc32(language.encode()), k).permutation(size) for k in range(first, last + 1)
        ]
        return np.concatenate(whole)[start - first * size : stop - first * size]

    def _rng(self, purpose: str, *numbers: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, zlib.crc32(purpose.encode()), *numbers])


def language_quotas(sizes: Mapping[str, int], cfg: DataConfig, places: int) -> dict[str, int]:
    """How many of an epoch's places each language gets: by data.weights, or pairs ** (1 / temperature).

    Whole numbers by the largest remainder; a language with a weight above 0 gets one place at least.
    """
    if cfg.weights:
        weights = _parse_weights(cfg.weights, sizes)
    elif cfg.temperature > 0:
        largest = max(sizes.values())
        weights = {language: (size / largest) ** (1 / cfg.temperature) for language, size in sizes.items()}
    else:
        raise ConfigError(f"data.temperature={cfg.temperature} must be above 0 (1 takes the languages as they are)")
    total = sum(weights.values())
    exact = {language: places * weight / total for language, weight in weights.items()}
    quotas = {language: max(math.floor(share), int(share > 0)) for language, share in exact.items()}
    by_remainder = sorted(exact, key=lambda language: quotas[language] - exact[language])
    for language in by_remainder[: max(0, places - sum(quotas.values()))]:
        quotas[language] += 1
    while sum(quotas.values()) > places:  # the places that tiny shares were given
        quotas[max(quotas, key=lambda language: quotas[language])] -= 1
    return quotas


def _parse_weights(entries: tuple[str, ...], sizes: Mapping[str, int]) -> dict[str, float]:
    weights = {}
    for entry in entries:
        language, _, value = entry.partition("=")
        try:
            weights[language] = float(value)
        except ValueError:
            raise ConfigError(f"data.weights={entry}: not LANG=NUMBER") from None
        if not 0 <= weights[language] < math.inf:
            raise ConfigError(f"data.weights={entry}: a weight is a number from 0 up")
    if unknown := sorted(weights.keys() - sizes.keys()):
        raise ConfigError(f"data.weights={unknown[0]}=...: no bitext of this language; there are {', '.join(sizes)}")
    if missing := sorted(sizes.keys() - weights.keys()):
        raise ConfigError(f"data.weights: none for {missing[0]}; give every language one (0 leaves it out)")
    if not any(weights.values()):
        raise ConfigError("data.weights are all 0; give one language more")
    return {language: weights[language] for language in sizes}


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


class BatchSource:
    """Batch i as a random-access source for grain; one process's rows of it."""

    def __init__(
        self,
        pairs: TokenizedPairs,
        plan: EpochPlan,
        rows: slice,
        student_weights: Float[np.ndarray, "V"] | None,
        teacher_weights: Float[np.ndarray, "V"] | None,
    ):
        self.pairs, self.plan, self.rows = pairs, plan, rows
        self.student_weights, self.teacher_weights = student_weights, teacher_weights
        self._epochs: dict[int, Epoch] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, index: int) -> Batch:
        number, step = divmod(int(index), self.plan.batches)
        epoch = self._epoch(number)
        rows, length = epoch.pairs[step, self.rows], int(epoch.lengths[step])
        return Batch(
            student=self.pairs.student.rows(rows, length, self.student_weights),
            teacher=self.pairs.teacher.rows(rows, length, self.teacher_weights),
        )

    def _epoch(self, number: int) -> Epoch:
        with self._lock:
            if number not in self._epochs:
                while len(self._epochs) >= CACHED_EPOCHS:
                    del self._epochs[min(self._epochs)]
                self._epochs[number] = self.plan.epoch(number)
            return self._epochs[number]


class Loader:
    """An endless iterator over batches; the next ones are made in a thread meanwhile."""

    def __init__(self, source: BatchSource, fingerprint: str):
        self._source, self._fingerprint = source, fingerprint
        options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=PREFETCHED_BATCHES)
        self._batches = iter(grain.MapDataset.source(source).to_iter_dataset(options))

    @property
    def epoch_size(self) -> int:
        """Batches of an epoch."""
        return self._source.plan.batches

    @property
    def buckets(self) -> tuple[int, ...]:
        """Padded lengths that occur."""
        return self._source.plan.buckets

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        return next(self._batches)

    def state(self) -> dict[str, Any]:
        """The position, for `restore`: plain numbers and strings, the same in every process."""
        return {"next_batch": int(self._batches.get_state()["next_index"]), "fingerprint": self._fingerprint}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on as if the batches before that position had been taken.

        Raises:
          ConfigError: the position belongs to other data, another seed or batch size.
        """
        if state["fingerprint"] != self._fingerprint:
            raise ConfigError(
                f"the saved data position ({state['fingerprint']}) is of other pairs, seed or buckets than these "
                f"({self._fingerprint}); use the same data and settings, or a new run folder"
            )
        self._batches.set_state({"next_index": int(state["next_batch"])})


def make_loader(
    pairs: Mapping[str, TokenizedPairs],
    cfg: DataConfig,
    seed: int,
    *,
    idf: bool = False,
    process_index: int = 0,
    process_count: int = 1,
) -> Loader:
    """The batches of a run, from the first on.

    Args:
      pairs: tokenised pairs by language.
      idf: give every token its inverse document frequency in these pairs as weight.
      process_index, process_count: each process gets its equal part of every batch's rows.

    Raises:
      ConfigError: buckets, weights, temperature or batch size cannot be.
    """
    if cfg.global_batch < 1 or cfg.global_batch % process_count:
        raise ConfigError(
            f"data.global_batch={cfg.global_batch} does not divide over {process_count} processes; use a multiple of it"
        )
    joined = join_pairs(list(pairs.values()))
    lengths = np.maximum(joined.student.lengths, joined.teacher.lengths)
    plan = EpochPlan({language: len(p) for language, p in pairs.items()}, lengths, cfg, seed)
    part = cfg.global_batch // process_count
    rows = slice(process_index * part, (process_index + 1) * part)
    tables = (idf_table(joined.student), idf_table(joined.teacher)) if idf else (None, None)
    return Loader(BatchSource(joined, plan, rows, *tables), _fingerprint(joined, plan))


def _fingerprint(pairs: TokenizedPairs, plan: EpochPlan) -> str:
    """Of all that decides what batch i holds."""
    digest = blake2b(repr((plan.sizes, plan.quotas, plan.buckets, plan.batch, plan.seed)).encode(), digest_size=8)
    for side in (pairs.student, pairs.teacher):
        digest.update(side.ids.data)
        digest.update(side.offsets.data)
    return digest.hexdigest()

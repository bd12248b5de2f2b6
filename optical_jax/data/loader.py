"""Training batches: batch i is a pure function of the data, the seed and i.

`epochs` says which pairs an epoch holds, a layout (`buckets` or `packing`) in which batches and shapes they go.

So a position is one number, whatever the number of processes: process p of P takes rows [p B / P, (p + 1) B / P).
"""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any

import grain
import numpy as np
from jaxtyping import Float, Int

from optical_jax.config import DataConfig
from optical_jax.data.buckets import Buckets
from optical_jax.data.epochs import Streams, language_quotas
from optical_jax.data.packing import PACKED_AHEAD, Packing
from optical_jax.data.pairs import FlatTokens, TokenizedPairs, idf_table, join_pairs
from optical_jax.data.vector_cache import CachedTexts
from optical_jax.errors import ConfigError
from optical_jax.types import Batch, PackedInputs, TextInputs, TokenVectors

ENDLESS = 2**40
"""Batches of the source: as good as without end."""
PREFETCHED_BATCHES = 2
CACHED_EPOCHS = 2


Weights = tuple[Float[np.ndarray, "V"] | None, Float[np.ndarray, "V"] | None]
"""Weight of a token by its id, for the student's and the teacher's side."""


class BatchSource:
    """Batch i as a random-access source for grain; one process's rows of it."""

    def __init__(self, streams: Streams, layout: Buckets | Packing, batch: int, rows: slice, weights: Weights):
        self.streams, self.layout, self.rows, self.weights = streams, layout, rows, weights
        self.cached: CachedTexts | None = None
        self.batches = sum(streams.quotas.values()) // batch
        self._epochs: dict[int, Int[np.ndarray, "batches B"]] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, index: int) -> Batch:
        number, step = divmod(int(index), self.batches)
        pairs = self.epoch(number)[step]
        return Batch(self.layout.side("student", pairs, self.rows, self.weights[0]), self._teacher(pairs))

    def _teacher(self, pairs: Int[np.ndarray, "B"]) -> TextInputs | PackedInputs | TokenVectors:
        if self.cached is not None:
            found = self.cached.rows(pairs[self.rows], self.weights[1])
            if found is not None:
                return found
        return self.layout.side("teacher", pairs, self.rows, self.weights[1])

    def epoch(self, number: int) -> Int[np.ndarray, "batches B"]:
        """The pairs of every batch of an epoch."""
        with self._lock:
            if number not in self._epochs:
                while len(self._epochs) >= CACHED_EPOCHS:
                    del self._epochs[min(self._epochs)]
                pairs = self.streams.epoch(number)
                self._epochs[number] = self.layout.arrange(pairs, self.streams.rng("epoch", number))
            return self._epochs[number]


class Batches:
    """An endless iterator over a source's batches; the next ones are made in threads meanwhile."""

    def __init__(self, source: Any, fingerprint: str, threads: int = 1):
        """
        Args:
          source: `source[i]` is batch i for every i below `len(source)`, and nothing else decides it.
          fingerprint: of all that decides what batch i holds.
          threads: batches that are made at a time.
        """
        self._fingerprint = fingerprint
        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(PREFETCHED_BATCHES, threads))
        self._batches = iter(grain.MapDataset.source(source).to_iter_dataset(options))

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
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


class Loader(Batches):
    """The batches of a run that learns from bitext."""

    def __init__(self, source: BatchSource, fingerprint: str):
        super().__init__(source, fingerprint)
        self._source = source

    @property
    def epoch_size(self) -> int:
        """Batches of an epoch."""
        return self._source.batches

    @property
    def layout(self) -> Buckets | Packing:
        return self._source.layout

    @property
    def teacher_texts(self) -> FlatTokens:
        return self.layout.pairs.teacher

    def pairs_of(self, start: int, stop: int) -> Int[np.ndarray, "n"]:
        """The pairs of batches [start, stop), each once, in the order in which they come."""
        source, size = self._source, self.epoch_size
        if stop - start > size:
            return np.arange(len(self.teacher_texts))
        steps = [source.epoch(step // size)[step % size] for step in range(start, stop)]
        _, first = np.unique(np.concatenate(steps), return_index=True)
        return np.concatenate(steps)[np.sort(first)]

    def read_teacher_from(self, cached: CachedTexts) -> None:
        """Batches that are made from now on have the teacher's vectors instead of its tokens, where all are there."""
        self._source.cached = cached


def make_loader(
    pairs: Mapping[str, TokenizedPairs],
    cfg: DataConfig,
    seed: int,
    *,
    versions: Sequence[Mapping[str, TokenizedPairs]] = (),
    idf: bool = False,
    process_index: int = 0,
    process_count: int = 1,
    shards: int = 1,
    parts: int = 1,
) -> Loader:
    """The batches of a run, from the first on.

    Args:
      pairs: tokenised pairs by language.
      versions: the same pairs tokenised in other ways (another side, other words switched), taken in turn with `pairs`.
      idf: give every token its inverse document frequency in these pairs as weight.
      process_index, process_count: each process gets its equal part of every batch's rows.
      shards: ways the batch is split over the devices.
      parts: parts a batch is worked through in (gradient accumulation).

    Raises:
      ConfigError: buckets, weights, temperature or batch size cannot be.
    """
    if cfg.global_batch < 1 or cfg.global_batch % process_count:
        raise ConfigError(
            f"data.global_batch={cfg.global_batch} does not divide over {process_count} processes; use a multiple of it"
        )
    each = [join_pairs(list(one.values())) for one in (pairs, *versions)]
    joined = join_pairs(each)
    sizes, batch = {language: len(p) for language, p in pairs.items()}, cfg.global_batch
    quotas = language_quotas(sizes, cfg, math.ceil(len(each[0]) / batch) * batch)
    streams = Streams(sizes, quotas, seed, len(each))
    if cfg.batching == "packed":
        if shards % process_count:
            raise ConfigError(
                f"data.batching=packed: {shards} shards of a batch do not divide over {process_count} processes; "
                "choose mesh.data and mesh.fsdp so that they do, or data.batching=buckets"
            )
        layout = Packing(joined, cfg.row_length, batch, shards, parts)
    else:
        layout = Buckets(joined, cfg.buckets, batch)
    part = batch // process_count
    rows = slice(process_index * part, (process_index + 1) * part)
    weights = (lowest_idf([p.student for p in each]), lowest_idf([p.teacher for p in each])) if idf else (None, None)
    source = BatchSource(streams, layout, batch, rows, weights)
    if isinstance(layout, Packing):
        every = (pairs for number in itertools.count() for pairs in source.epoch(number))
        layout.learn_rows(itertools.islice(every, math.ceil(PACKED_AHEAD / batch)))
    return Loader(source, _fingerprint(joined, source, cfg))


def lowest_idf(versions: Sequence[FlatTokens]) -> Float[np.ndarray, "V"]:
    """Weight by id over versions of the same texts, each by itself: a marker in all texts of one weighs nothing."""
    size = max(max(int(tokens.ids.max()), tokens.pad_id) for tokens in versions) + 1
    return np.minimum.reduce([idf_table(tokens, size) for tokens in versions])


def _fingerprint(pairs: TokenizedPairs, source: BatchSource, cfg: DataConfig) -> str:
    """Of all that decides what batch i holds."""
    layout = source.layout.buckets if isinstance(source.layout, Buckets) else "packed"
    sizes, quotas = dict(source.streams.sizes), dict(source.streams.quotas)
    digest = blake2b(repr((sizes, quotas, layout, cfg.global_batch, source.streams.seed)).encode(), digest_size=8)
    for side in (pairs.student, pairs.teacher):
        digest.update(side.ids.data)
        digest.update(side.offsets.data)
    return digest.hexdigest()

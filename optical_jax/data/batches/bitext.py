"""Data loader for bitext: batch i is a pure function of the data, the seed and i.

`epochs` chooses the pairs of an epoch, a layout (`buckets` or `packing`) the batches and their shapes. A position is
one number, whatever the number of processes: process p of P takes rows [p B / P, (p + 1) B / P).
"""

from __future__ import annotations

import itertools
import math
import threading
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Protocol, TypeVar

import numpy as np
from jaxtyping import Float, Int

from optical_jax.config import DataConfig
from optical_jax.data.batches.buckets import Buckets
from optical_jax.data.batches.epochs import Streams, language_quotas
from optical_jax.data.batches.iterator import CACHED_EPOCHS, ENDLESS, Batches
from optical_jax.data.batches.packing import PACKED_AHEAD, Packing
from optical_jax.data.batches.tokens import FlatTokens, TokenizedPairs, idf_table, join_pairs
from optical_jax.data.batches.vector_cache import CachedTexts
from optical_jax.errors import ConfigError
from optical_jax.types import Batch, PackedInputs, TextInputs, TokenVectors

Weights = tuple[Float[np.ndarray, "V"] | None, Float[np.ndarray, "V"] | None]
"""Token weights by id, for the student's and the teacher's side."""


class BatchSource:
    """Random-access source of batches for grain; one process's rows of batch i."""

    def __init__(self, streams: Streams, layout: Buckets | Packing, batch: int, rows: slice):
        self.streams, self.layout, self.rows = streams, layout, rows
        self.weights: Weights = None, None
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
        """Pairs of every batch of an epoch."""
        with self._lock:
            if number not in self._epochs:
                while len(self._epochs) >= CACHED_EPOCHS:
                    del self._epochs[min(self._epochs)]
                pairs = self.streams.epoch(number)
                self._epochs[number] = self.layout.arrange(pairs, self.streams.rng("epoch", number))
            return self._epochs[number]


class ImageVectors(Protocol):
    """Lookup of image vectors by image index."""

    def rows(self, pictures: Int[np.ndarray, "B"]) -> TokenVectors: ...


@dataclass(frozen=True)
class ImageCaptions:
    """Tokenised captions, each with its image."""

    captions: Sequence[Mapping[str, FlatTokens]]
    """Captions by language; several entries are versions of the same captions, used alternately."""
    picture: Mapping[str, Int[np.ndarray, "n"]]
    """Language -> image index of each caption."""


class ImageSource(BatchSource):
    """Batches whose teacher side is precomputed vectors of the captions' images."""

    vectors: ImageVectors
    picture: Int[np.ndarray, "n"]
    """Image index of each caption, in the order of the joined pairs."""

    def _teacher(self, pairs: Int[np.ndarray, "B"]) -> TokenVectors:
        # Further rows are other versions of the same captions.
        return self.vectors.rows(self.picture[pairs[self.rows] % len(self.picture)])


class MixedSource:
    """Interleaved batches of bitext and captioned images: of the first n, floor(n * share) are of images."""

    def __init__(self, bitext: BatchSource, pictures: ImageSource, share: float):
        self.bitext, self.pictures, self.share = bitext, pictures, share

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, index: int) -> Batch:
        of_images = self.images_before(index)
        if self.images_before(index + 1) > of_images:
            return self.pictures[of_images]
        return self.bitext[index - of_images]

    def images_before(self, index: int) -> int:
        """Number of image batches before `index`."""
        return math.floor(int(index) * self.share)


class Loader(Batches):
    """Data loader of a student's training."""

    def __init__(self, source: BatchSource, fingerprint: str, mixed: MixedSource | None = None):
        super().__init__(source if mixed is None else mixed, fingerprint)
        self._source, self._mixed = source, mixed

    @property
    def epoch_size(self) -> int:
        """Batches per epoch of the bitext."""
        return self._source.batches

    @property
    def layout(self) -> Buckets | Packing:
        return self._source.layout

    @property
    def teacher_texts(self) -> FlatTokens:
        return self.layout.pairs.teacher

    def pairs_of(self, start: int, stop: int) -> Int[np.ndarray, "n"]:
        """Distinct bitext pairs of batches [start, stop), in order of first use."""
        source, size = self._source, self.epoch_size
        if self._mixed is not None:
            start, stop = (step - self._mixed.images_before(step) for step in (start, stop))
        if start == stop:
            return np.zeros(0, np.int64)
        if stop - start > size:
            return np.arange(len(self.teacher_texts))
        steps = [source.epoch(step // size)[step % size] for step in range(start, stop)]
        _, first = np.unique(np.concatenate(steps), return_index=True)
        return np.concatenate(steps)[np.sort(first)]

    def read_teacher_from(self, cached: CachedTexts) -> None:
        """Use cached teacher vectors instead of tokens in all further batches for which all are cached."""
        self._source.cached = cached

    def read_images_from(self, vectors: ImageVectors) -> None:
        """Set the source of image vectors; call it before the first batch is taken."""
        assert self._mixed is not None, "made without images"
        self._mixed.pictures.vectors = vectors


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
    pictures: ImageCaptions | None = None,
) -> Loader:
    """Data loader of a student's training, from the first batch on.

    Args:
      pairs: tokenised pairs by language.
      versions: other versions of the same pairs (another side, code-switched), used alternately with `pairs`.
      idf: weigh every token by its inverse document frequency in these pairs.
      process_index, process_count: each process gets an equal part of every batch's rows.
      shards: number of shards of the batch over the devices.
      parts: number of parts of gradient accumulation.
      pictures: captions whose teacher side is their images, in cfg.pictures_share of the batches.

    Raises:
      ConfigError: buckets, weights, temperature or batch size are not valid.
    """
    if cfg.global_batch < 1 or cfg.global_batch % process_count:
        raise ConfigError(
            f"data.global_batch={cfg.global_batch} does not divide over {process_count} processes; use a multiple of it"
        )
    each, mixed = [pairs, *versions], None
    split: Any = {"process_index": process_index, "process_count": process_count, "shards": shards, "parts": parts}
    source = make_source(BatchSource, each, cfg, seed, **split)
    if idf:
        joined = [join_pairs(list(one.values())) for one in each]
        source.weights = lowest_idf([p.student for p in joined]), lowest_idf([p.teacher for p in joined])
    if pictures is not None:
        # The layout depends on the captions' lengths alone; images have one length.
        captions = [{language: TokenizedPairs(t, t) for language, t in one.items()} for one in pictures.captions]
        # Another seed, as the bitext may be the same captions, which would come in the same order.
        own_seed = zlib.crc32(f"pictures {seed}".encode())
        of_images = make_source(ImageSource, captions, cfg, own_seed, **split)
        of_images.picture = np.concatenate(list(pictures.picture.values()))
        mixed = MixedSource(source, of_images, cfg.pictures_share)
    return Loader(source, _fingerprint(source, cfg, mixed), mixed)


Source = TypeVar("Source", bound=BatchSource)


def make_source(
    kind: type[Source],
    versions: Sequence[Mapping[str, TokenizedPairs]],
    cfg: DataConfig,
    seed: int,
    *,
    process_index: int,
    process_count: int,
    shards: int,
    parts: int,
) -> Source:
    """Source of one process's rows of batches of these pairs, in the layout of `cfg`."""
    sizes, batch = {language: len(of) for language, of in versions[0].items()}, cfg.global_batch
    quotas = language_quotas(sizes, cfg, math.ceil(sum(sizes.values()) / batch) * batch)
    layout = make_layout(
        join_pairs([join_pairs(list(one.values())) for one in versions]), cfg, shards, parts, process_count
    )
    part = batch // process_count
    rows = slice(process_index * part, (process_index + 1) * part)
    source = kind(Streams(sizes, quotas, seed, len(versions)), layout, batch, rows)
    if isinstance(layout, Packing):
        every = (pairs for number in itertools.count() for pairs in source.epoch(number))
        layout.learn_rows(itertools.islice(every, math.ceil(PACKED_AHEAD / batch)))
    return source


def make_layout(
    joined: TokenizedPairs, cfg: DataConfig, shards: int, parts: int, process_count: int
) -> Buckets | Packing:
    if cfg.batching != "packed":
        return Buckets(joined, cfg.buckets, cfg.global_batch)
    if shards % process_count:
        raise ConfigError(
            f"data.batching=packed: {shards} shards of a batch do not divide over {process_count} processes; "
            "change mesh.data and mesh.fsdp, or use data.batching=buckets"
        )
    return Packing(joined, cfg.row_length, cfg.global_batch, shards, parts)


def lowest_idf(versions: Sequence[FlatTokens]) -> Float[np.ndarray, "V"]:
    """Lowest idf by token id over versions of the same texts: a marker in all texts of a version weighs nothing."""
    size = max(max(int(tokens.ids.max()), tokens.pad_id) for tokens in versions) + 1
    return np.minimum.reduce([idf_table(tokens, size) for tokens in versions])


def _fingerprint(source: BatchSource, cfg: DataConfig, mixed: MixedSource | None) -> str:
    """Hash of everything that determines the batches."""
    digest = blake2b(digest_size=8)
    for one in (source, *([mixed.pictures] if mixed else [])):
        layout = one.layout.buckets if isinstance(one.layout, Buckets) else "packed"
        sizes, quotas = dict(one.streams.sizes), dict(one.streams.quotas)
        digest.update(repr((sizes, quotas, layout, cfg.global_batch, one.streams.seed)).encode())
        for side in (one.layout.pairs.student, one.layout.pairs.teacher):
            digest.update(side.ids.data)
            digest.update(side.offsets.data)
    if mixed:
        digest.update(repr(mixed.share).encode())
        digest.update(mixed.pictures.picture.data)
    return digest.hexdigest()

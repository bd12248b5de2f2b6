"""Data loader for captioned images: batch i is a pure function of the data, the seed and i."""

from __future__ import annotations

import functools
import math
import zlib
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, cast

import numpy as np
from jaxtyping import Float16, Float32, Int

from optical_jax.config import DataConfig, HeadConfig
from optical_jax.data.batches.epochs import Streams, language_quotas
from optical_jax.data.batches.iterator import CACHED_EPOCHS, ENDLESS, Batches
from optical_jax.data.batches.tokens import TOKENIZE_AT_ONCE, FlatTokens, flatten_tokens
from optical_jax.data.images.captions import ImageTextSet
from optical_jax.data.images.files import Images
from optical_jax.data.pixels import Augmentation, PictureRecipe, augmented_pixels, picture_pixels
from optical_jax.data.tokenization import Side, tokenize
from optical_jax.errors import ConfigError
from optical_jax.types import ImageInputs, ImageTextBatch, TextInputs, TokenVectors

PASSES = 2**31
"""More passes over a language than ever occur; each takes the next caption of every image."""
LENGTH_STEP = 8
"""Texts are padded to the longest one, rounded up to a multiple of this within the maximum length."""
AUGMENT = zlib.crc32(b"augment")


class HeldVectors:
    """Precomputed token vectors of all captions: float16, in memory, without padding."""

    def __init__(self, vectors: Sequence[Float16[np.ndarray, "n E"]]) -> None:
        """
        Args:
          vectors: of each caption, one or more.
        """
        self._ends = np.cumsum([len(one) for one in vectors])
        self._flat = np.concatenate(vectors)
        self.longest = max(map(len, vectors))

    def rows(self, captions: Int[np.ndarray, "B"]) -> TokenVectors:
        """Vectors of the given captions, padded to the longest of all."""
        starts = np.where(captions > 0, self._ends[captions - 1], 0)
        mask = np.arange(self.longest) < (self._ends[captions] - starts)[:, None]  # [B, L]
        at = np.where(mask, starts[:, None] + np.arange(self.longest), 0)
        vectors = np.where(mask[:, :, None], self._flat[at], np.float16(0))
        return TokenVectors(vectors=vectors, mask=mask)  # pyright: ignore[reportArgumentType]


class PixelRows:
    """Lazy array of pixels [N, H, W, 3]: images are decoded when a slice is read."""

    dtype = np.dtype(np.float32)

    def __init__(self, pictures: Images, ids: Sequence[str], recipe: PictureRecipe) -> None:
        """
        Args:
          pictures: images by id.
          ids: of the N images, in order.
          recipe: preprocessing of the encoder.
        """
        self.pictures, self.ids, self.recipe = pictures, list(ids), recipe

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self.ids), *self.recipe.size, 3

    def __getitem__(self, rows: slice) -> Float32[np.ndarray, "n H W 3"]:
        """
        Raises:
          DataError: an image is corrupt.
        """
        ids = self.ids[rows]
        found = np.empty((len(ids), *self.recipe.size, 3), np.float32)
        for row, identity in enumerate(ids):
            found[row] = picture_pixels(self.pictures[identity], self.recipe)
        return found


class ImageTextSource:
    """Random-access source of image-text batches; one process's rows of batch i.

    A pair is an image with one of its captions in a language. Each language has a stream of random permutations of its
    pairs, of which an epoch takes its share (see `epochs`). The first caption of a pair is random; later permutations
    cycle through the others, so that they are used equally often.
    """

    def __init__(
        self,
        found: ImageTextSet,
        pictures: Images,
        tokens: FlatTokens,
        recipe: PictureRecipe,
        augmentation: Augmentation | None,
        cfg: DataConfig,
        seed: int,
        *,
        length: int,
        rows: slice,
    ) -> None:
        """
        Args:
          tokens: of the captions of `captions_in_order`.
          length: padded length of every text.
          rows: this process's rows of the global batch.
        """
        self.tokens, self.augmentation, self.length, self.rows, self.seed = tokens, augmentation, length, rows, seed
        self.held: HeldVectors | None = None
        self.batch = cfg.global_batch
        by_language = {language: found.captions_of_images(language) for language in found.captions}
        self.pixels = PixelRows(pictures, list(dict.fromkeys(p for of in by_language.values() for p in of)), recipe)
        number = {picture: n for n, picture in enumerate(self.pixels.ids)}
        self.picture = np.array([number[picture] for of in by_language.values() for picture in of], np.int32)
        self.counts = np.array([len(captions) for of in by_language.values() for captions in of.values()])
        self.first = np.cumsum(self.counts) - self.counts
        sizes = {language: len(of) for language, of in by_language.items()}
        self.batches = math.ceil(sum(sizes.values()) / self.batch)
        quotas = language_quotas(sizes, cfg, self.batches * self.batch)
        self.streams = Streams(sizes, quotas, seed, PASSES)
        self.begin = self.streams.rng("captions").integers(PASSES, size=len(self.picture))
        self._epoch = functools.lru_cache(CACHED_EPOCHS)(self._arrange)

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, index: int) -> ImageTextBatch:
        """
        Raises:
          DataError: an image is corrupt.
        """
        pairs, captions = self.pairs_of(int(index))
        arrays: Any = self.picture[pairs[self.rows]]
        return ImageTextBatch(
            images=ImageInputs(self._pixels(int(index), arrays)),  # pyright: ignore[reportArgumentType]
            texts=self._texts(captions[self.rows]),
            picture=arrays,
        )

    def _texts(self, captions: Int[np.ndarray, "b"]) -> TextInputs | TokenVectors:
        return self.tokens.rows(captions, self.length) if self.held is None else self.held.rows(captions)

    def pairs_of(self, index: int) -> tuple[Int[np.ndarray, "B"], Int[np.ndarray, "B"]]:
        """Pairs of a global batch, and the index of each one's caption among all."""
        number, step = divmod(index, self.batches)
        version, pairs = np.divmod(self._epoch(number)[step], len(self.picture))
        return pairs, self.first[pairs] + (self.begin[pairs] + version) % self.counts[pairs]

    def _pixels(self, index: int, pictures: Int[np.ndarray, "b"]) -> Float32[np.ndarray, "b H W 3"]:
        every = self.pixels
        chosen = PixelRows(every.pictures, [every.ids[n] for n in pictures.tolist()], every.recipe)
        if self.augmentation is None:
            return chosen[:]
        found = np.empty(chosen.shape, np.float32)
        for n, identity in enumerate(chosen.ids):
            # Keyed by the row of the global batch, independent of the number of processes.
            key = (self.seed, AUGMENT, index, self.rows.start + n)
            found[n] = augmented_pixels(chosen.pictures[identity], chosen.recipe, self.augmentation, key)
        return found

    def _arrange(self, number: int) -> Int[np.ndarray, "batches B"]:
        places = self.streams.epoch(number)
        return self.streams.rng("epoch", number).permutation(places).reshape(-1, self.batch)


class ImageLoader(Batches):
    """Data loader of an image-text teacher's training."""

    def __init__(self, source: ImageTextSource, fingerprint: str, threads: int) -> None:
        super().__init__(source, fingerprint, threads)
        self._source = source

    @property
    def epoch_size(self) -> int:
        """Batches per epoch."""
        return self._source.batches

    @property
    def text_length(self) -> int:
        """Padded length of every text, in tokens."""
        return self._source.length

    @property
    def texts(self) -> FlatTokens:
        """Tokens of all captions, in the order of `captions_in_order`."""
        return self._source.tokens

    def read_texts_from(self, held: HeldVectors) -> None:
        """Use precomputed vectors instead of the captions' tokens in all further batches."""
        self._source.held = held


def captions_in_order(found: ImageTextSet) -> list[str]:
    """All caption texts, by language, image and caption."""
    return [
        found.captions[language][caption].text
        for language in found.captions
        for captions in found.captions_of_images(language).values()
        for caption in captions
    ]


def make_image_loader(
    found: ImageTextSet,
    tokenizer: Any,
    head: HeadConfig,
    recipe: PictureRecipe,
    cfg: DataConfig,
    seed: int,
    *,
    side: Side = "query",
    max_length: int | None = None,
    augmentation: Augmentation | None = None,
    threads: int = 4,
    process_index: int = 0,
    process_count: int = 1,
) -> ImageLoader:
    """Data loader of an image-text teacher's training, from the first batch on.

    Args:
      found: a set with its images.
      tokenizer: a fast tokenizer of transformers.
      head: markers and lengths of the texts.
      recipe: size and normalisation of the images.
      cfg: global_batch, and temperature or weights for language sampling.
      seed: of the order, the captions and the augmentation.
      side: of the texts.
      max_length: in tokens; None takes the head's.
      augmentation: None for none.
      threads: batches decoded in parallel; each takes its own memory.
      process_index, process_count: each process gets an equal part of every batch's rows.

    Raises:
      ConfigError: the set was read without images, or batch size, threads, temperature or weights are not valid.
    """
    if found.pictures is None:
        raise ConfigError(f"images={found.name} was read as text only; read it with its images")
    if cfg.global_batch < 1 or cfg.global_batch % process_count:
        raise ConfigError(
            f"data.global_batch={cfg.global_batch} does not divide over {process_count} processes; use a multiple of it"
        )
    if threads < 1:
        raise ConfigError(f"data.threads={threads} is not valid; use at least 1")
    texts = captions_in_order(found)
    chunks = (
        tokenize(tokenizer, texts[i : i + TOKENIZE_AT_ONCE], head, side, max_length)
        for i in range(0, len(texts), TOKENIZE_AT_ONCE)
    )
    tokens = flatten_tokens(chunks, cast(int, tokenizer.pad_token_id))
    limit = max_length or (head.query_length if side == "query" else head.document_length)
    length = min(limit, -(-int(tokens.lengths.max()) // LENGTH_STEP) * LENGTH_STEP)
    part = cfg.global_batch // process_count
    rows = slice(process_index * part, (process_index + 1) * part)
    source = ImageTextSource(found, found.pictures, tokens, recipe, augmentation, cfg, seed, length=length, rows=rows)
    return ImageLoader(source, _fingerprint(source, cfg), threads)


def _fingerprint(source: ImageTextSource, cfg: DataConfig) -> str:
    """Hash of everything that determines the batches, except the contents of image files."""
    streams = source.streams
    settings = (dict(streams.sizes), dict(streams.quotas), cfg.global_batch, source.seed, source.length)
    pictures = (source.pixels.ids, source.pixels.recipe, source.augmentation)
    digest = blake2b(repr((settings, pictures)).encode(), digest_size=8)
    for array in (source.tokens.ids, source.tokens.offsets, source.picture, source.counts):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()

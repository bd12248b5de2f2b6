"""Encode images in batches, with decoding in threads while the device computes."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from optical_jax.config import ImageEncoderConfig, TowerConfig, identity
from optical_jax.data.images.files import Rgb
from optical_jax.data.pixels import PictureRecipe, patch_grid, picture_pixels
from optical_jax.errors import ConfigError
from optical_jax.models.late_interaction import encode_tokens
from optical_jax.params import fingerprint
from optical_jax.partitioning import constrain, shards_in_context
from optical_jax.retrieval.blocks import Block, cut_into_blocks, rows_of, without_gaps
from optical_jax.retrieval.search import Advance
from optical_jax.towers.tower import Tower, encode_batch, to_device
from optical_jax.types import ImageInputs, Params, mean_pool

BATCH = 32
"""Images per batch."""
AHEAD = 2
"""Batches decoded or computed ahead."""


def encode_images(
    tower: Tower,
    pictures: Mapping[str, Rgb],
    ids: Sequence[str],
    *,
    pooled: bool = False,
    batch_size: int = BATCH,
    threads: int | None = None,
    advance: Advance = lambda count: None,
) -> Iterator[Block]:
    """Encode images, each decoded once, and yield their vectors in blocks, as `retrieval.search.rank` takes them.

    Memory holds a few batches of pixels and the vectors of about one block. Under `jax.set_mesh` a batch is sharded
    over the mesh.

    Args:
      tower: an image tower with its recipe.
      pictures: images by id; RGB bytes [H, W, 3], decoded on access.
      ids: of the N images to encode; block positions are indices into these.
      pooled: one vector per image, the normalised mean of its vectors.
      batch_size: images per batch, rounded up to a multiple of the shards.
      threads: for decoding; None uses one per core, at most eight.
      advance: called with the number of images just encoded.

    Raises:
      ConfigError: a text tower, no recipe, or a recipe of another size than the tower's.
      DataError: a broken image; the message names its file.
    """
    recipe = recipe_of(tower)
    if batch_size < 1:
        raise ConfigError(f"batch_size={batch_size} is below 1; give at least 1")
    tower, shards = to_device(tower), shards_in_context()
    encode = _encode_pooled if pooled else encode_batch
    most = -(-min(batch_size, max(len(ids), 1)) // shards) * shards
    held: list[np.ndarray] = []
    first = count = 0
    threads = threads or min(os.cpu_count() or 1, 8)
    for vectors in _encoded_batches(
        lambda inputs: encode(tower.params, inputs, tower.cfg), pictures, ids, recipe, most, threads
    ):
        held.append(vectors)
        count += len(vectors)
        advance(len(vectors))
        if count >= rows_of(vectors.shape[1]) or first + count == len(ids):
            yield from _blocks(np.concatenate(held), first)
            held, first, count = [], first + count, 0


def grid_of(tower: Tower, height: int, width: int) -> tuple[tuple[int, int], tuple[float, float, float, float]]:
    """Patch grid (rows, columns) of an image of that size, and the part of it that it covers; see `patch_grid`."""
    encoder = tower.cfg.encoder
    assert isinstance(encoder, ImageEncoderConfig), "a text tower has no recipe"
    return patch_grid(height, width, recipe_of(tower), encoder.patch_size)


def recipe_of(tower: Tower) -> PictureRecipe:
    """Image preprocessing of a tower.

    Raises:
      ConfigError: a text tower, or a model without preprocessor_config.json.
    """
    if tower.recipe is None:
        raise ConfigError(
            "the tower has no image preprocessing; load part='image' of a folder with preprocessor_config.json"
        )
    return tower.recipe


def image_tower_sha256(tower: Tower) -> str:
    """SHA-256 of weights, config and preprocessing, which determine the vectors of an image."""
    about = [fingerprint(tower.params), identity(tower.cfg), repr(recipe_of(tower))]
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()


def _encoded_batches(
    encode: Callable[[ImageInputs], Any],
    pictures: Mapping[str, Rgb],
    ids: Sequence[str],
    recipe: PictureRecipe,
    most: int,
    threads: int,
) -> Iterator[np.ndarray]:
    """Vectors [n, L, E], batch by batch; n is `most` except for the last."""
    starts = iter(range(0, len(ids), most))
    decoding: list[list[Future[np.ndarray]]] = []
    running: list[tuple[Any, int]] = []

    def collect() -> np.ndarray:
        found, real = running.pop(0)
        return np.asarray(found)[:real]

    with ThreadPoolExecutor(threads) as pool:

        def decode_next() -> None:
            if (start := next(starts, None)) is not None:
                batch = ids[start : start + most]
                decoding.append([pool.submit(_pixels, pictures, identity, recipe) for identity in batch])

        try:
            for _ in range(AHEAD):
                decode_next()
            while decoding:
                pixels = np.zeros((most, *recipe.size, 3), np.float32)
                batch = decoding.pop(0)
                for row, one in enumerate(batch):
                    pixels[row] = one.result()
                real: Any = np.arange(most) < len(batch)
                inputs = ImageInputs(pixels, real)  # pyright: ignore[reportArgumentType]
                running.append((encode(inputs), len(batch)))
                decode_next()
                # One batch is read back while the next is computed.
                if len(running) == AHEAD:
                    yield collect()
            while running:
                yield collect()
        finally:
            # A caller that stops early does not wait for images that were not started.
            pool.shutdown(wait=True, cancel_futures=True)


@functools.partial(jax.jit, static_argnums=2)
def _encode_pooled(params: Params, inputs: ImageInputs, cfg: TowerConfig) -> jax.Array:
    # Replicated, so that every process has all vectors on its host.
    return constrain(mean_pool(encode_tokens(params, inputs, cfg)).vectors, (None,) * 3)


def _pixels(pictures: Mapping[str, Rgb], identity: str, recipe: PictureRecipe) -> np.ndarray:
    return picture_pixels(pictures[identity], recipe)


def _blocks(vectors: np.ndarray, first: int) -> Iterator[Block]:
    mask = np.ones(vectors.shape[:2], bool)
    for rows in cut_into_blocks(mask.sum(axis=1)):
        chosen = np.arange(len(vectors))[rows]
        yield Block(first + chosen, without_gaps(vectors, mask, chosen))

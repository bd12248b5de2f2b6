"""Cache of the teacher's image vectors: each image is encoded once, then read from disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path

import jax
import numpy as np

from optical_jax.config import ImageTowerConfig
from optical_jax.data.batches.captioned_images import CaptionedImages
from optical_jax.data.batches.vector_cache import RECORD, CachedImages
from optical_jax.data.images.files import refuse_broken
from optical_jax.errors import ConfigError
from optical_jax.progress import ProgressReport
from optical_jax.towers.images import encode_images, recipe_of
from optical_jax.towers.tower import Tower
from optical_jax.training.student.teacher_cache import GIB, bytes_under, open_cache
from optical_jax.types import TokenVectors


def vectors_per_image(tower: Tower) -> int:
    """Vectors per image: patches, or 1 if pooled."""
    if tower.cfg.head.pooling != "none":
        return 1
    assert isinstance(tower.cfg, ImageTowerConfig), "a tower of pictures"
    height, width = recipe_of(tower).size
    return (height // tower.cfg.encoder.patch_size) * (width // tower.cfg.encoder.patch_size)


def image_keys(tower: Tower, digests: list[bytes]) -> list[bytes]:
    """A 16-byte cache key for every image: its digest and its preprocessing."""
    recipe = repr(recipe_of(tower)).encode()
    return [blake2b(recipe + digest, digest_size=16).digest() for digest in digests]


def cached_images(
    tower: Tower,
    pairs: CaptionedImages,
    root: Path,
    most_gib: float,
    mesh: jax.sharding.Mesh,
    say: Callable[[str], None],
) -> CachedImages:
    """The vectors of all images from the cache under `root`; missing ones are encoded first.

    Raises:
      ConfigError: they would take more than `most_gib`, or there are several processes.
      DataError: images are broken; all are named.
    """
    if jax.process_count() > 1:
        raise ConfigError(f"data.pictures is for one process, and there are {jax.process_count()}; leave it out")
    keys, length = image_keys(tower, pairs.digests), vectors_per_image(tower)
    cache = open_cache(root, tower.params, tower.cfg)
    # `get`, not `in`: damaged vectors are encoded again. The same picture under two names is encoded once.
    place = {key: n for n, key in reversed(list(enumerate(keys))) if cache.get(key) is None}
    missing = sorted(place.values())
    needed = bytes_under(root) + len(missing) * (2 * length * tower.cfg.vector_width + RECORD.itemsize)
    if missing and needed > most_gib * GIB:
        raise ConfigError(
            f"teacher.cache_gib={most_gib:g}: with the vectors of {len(missing):,} pictures the cache takes "
            f"{needed / GIB:.1f} GiB; give more, or one vector a picture (--teacher.pooling auto)"
        )
    if missing:
        refuse_broken([pairs.pictures.sources[pairs.ids[n]] for n in missing])
        # Rows are of lengths that kernels do not take.
        plain = replace(tower, cfg=replace(tower.cfg, encoder=replace(tower.cfg.encoder, attention="xla")))
        with jax.set_mesh(mesh), ProgressReport("picture vectors", len(missing), "pictures") as progress:
            ids = [pairs.ids[n] for n in missing]
            for block in encode_images(plain, pairs.pictures, ids, advance=progress.advance):
                found = [missing[n] for n in block.positions.tolist()]
                vectors = np.asarray(block.vectors.vectors)[: len(found), :length]
                cache.append([keys[n] for n in found], list(vectors))
        cache.close()
        cache.reload()
    known = len(keys) - len(missing)
    say(f"picture vectors: {len(missing):,} pictures encoded, {known:,} known; all are in {cache.folder}")
    return CachedImages(cache, keys, length)


class PlaceholderImages:
    """Placeholder image vectors of the right shape, for a dry run."""

    def __init__(self, tower: Tower):
        self.shape = vectors_per_image(tower), tower.cfg.vector_width

    def rows(self, pictures: np.ndarray) -> TokenVectors:
        T, E = self.shape
        vectors = np.full((len(pictures), T, E), E**-0.5, np.float16)
        return TokenVectors(vectors, np.ones((len(pictures), T), bool))  # pyright: ignore[reportArgumentType]

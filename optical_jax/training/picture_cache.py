"""What the teacher's tower of pictures makes of a run's pictures: each encoded once, then read from disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path

import jax
import numpy as np

from optical_jax.data.image_loader import PixelRows
from optical_jax.data.picture_pairs import PicturePairs
from optical_jax.data.vector_cache import RECORD, CachedPictures
from optical_jax.errors import ConfigError
from optical_jax.image_batches import encode_in_batches
from optical_jax.models.late_interaction import encode_tokens, tower_specs
from optical_jax.partitioning import params_shardings
from optical_jax.picture_teacher import PictureTeacher
from optical_jax.progress import ProgressReport
from optical_jax.training.teacher_cache import GIB, bytes_under, open_cache
from optical_jax.types import ImageInputs, Params, TokenVectors

AT_ONCE = 256
"""Pictures that are decoded and encoded between two writes: a kill costs them."""


def picture_keys(teacher: PictureTeacher, digests: list[bytes]) -> list[bytes]:
    """A key of 16 bytes for every picture: of its file and how it becomes pixels."""
    recipe = repr(teacher.recipe).encode()
    return [blake2b(recipe + digest, digest_size=16).digest() for digest in digests]


def cached_pictures(
    teacher: PictureTeacher,
    pairs: PicturePairs,
    root: Path,
    most_gib: float,
    batch: int,
    mesh: jax.sharding.Mesh,
    say: Callable[[str], None],
) -> CachedPictures:
    """The vectors of all pictures, read from the cache under `root`; those it lacks are encoded first.

    Raises:
      ConfigError: they would take more than `most_gib`, or there are several processes.
      DataError: a picture is broken.
    """
    if jax.process_count() > 1:
        raise ConfigError(f"data.pictures is for one process, and there are {jax.process_count()}; leave it out")
    keys = picture_keys(teacher, pairs.digests)
    cache = open_cache(root, teacher.params, teacher.cfg)
    # `get`, not `in`: damaged vectors are encoded again. The same picture under two names is encoded once.
    place = {key: n for n, key in reversed(list(enumerate(keys))) if cache.get(key) is None}
    missing = sorted(place.values())
    needed = bytes_under(root) + len(missing) * (2 * teacher.length * teacher.cfg.vector_width + RECORD.itemsize)
    if missing and needed > most_gib * GIB:
        raise ConfigError(
            f"teacher.cache_gib={most_gib:g}: with the vectors of {len(missing):,} pictures the cache takes "
            f"{needed / GIB:.1f} GiB; give more, or one vector a picture (--teacher.pooling auto)"
        )
    # Rows are short, and of lengths that kernels do not take.
    cfg = replace(teacher.cfg, encoder=replace(teacher.cfg.encoder, attention="xla"))

    @jax.jit
    def encode(params: Params, inputs: ImageInputs) -> jax.Array:
        return encode_tokens(params, inputs, cfg).vectors.astype("float16")

    if missing:
        with jax.set_mesh(mesh), ProgressReport("picture vectors", len(missing), "pictures") as progress:
            params = jax.device_put(teacher.params, params_shardings(tower_specs(cfg), mesh))
            for start in range(0, len(missing), AT_ONCE):
                some = missing[start : start + AT_ONCE]
                pixels = PixelRows(pairs.pictures, [pairs.ids[n] for n in some], teacher.recipe)
                found = encode_in_batches(pixels, batch, lambda inputs: encode(params, inputs))
                cache.append([keys[n] for n in some], list(np.asarray(found.vectors)))
                progress.advance(len(some))
        cache.close()
        cache.reload()
    say(f"picture vectors: {len(missing):,} pictures encoded, {len(keys):,} read from {cache.folder}")
    return CachedPictures(cache, keys, teacher.length)


class MadeUpPictures:
    """Vectors of the right shape, for a dry run."""

    def __init__(self, teacher: PictureTeacher):
        self.shape = teacher.length, teacher.cfg.vector_width

    def rows(self, pictures: np.ndarray) -> TokenVectors:
        T, E = self.shape
        vectors = np.full((len(pictures), T, E), E**-0.5, np.float16)
        return TokenVectors(vectors, np.ones((len(pictures), T), bool))  # pyright: ignore[reportArgumentType]

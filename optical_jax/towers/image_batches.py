"""Encode image arrays in batches of one shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Array, Float

from optical_jax.errors import DataError
from optical_jax.partitioning import shards_in_context
from optical_jax.types import ImageInputs, TokenVectors


def encode_in_batches(
    pixels: Any, batch_size: int, encode: Callable[[ImageInputs], Float[Array, "B L E"]]
) -> TokenVectors:
    """Vectors of all images, as NumPy arrays.

    Args:
      pixels: float images [N, height, width, 3], or an object whose slices are such arrays.
      batch_size: images per batch; under `jax.set_mesh` rounded up to a multiple of the shards.
      encode: vectors of one batch.

    Raises:
      DataError: no images, or not such an array.
    """
    shape, dtype = getattr(pixels, "shape", ()), getattr(pixels, "dtype", None)
    if len(shape) != 4 or shape[-1] != 3 or not shape[0] or not np.issubdtype(np.dtype(dtype), np.floating):
        raise DataError(
            f"images must be one float array [images, height, width, 3], normalised; this is {type(pixels).__name__} "
            f"{list(shape)} {dtype}"
        )
    shards, N = shards_in_context(), shape[0]
    most = -(-min(batch_size, N) // shards) * shards
    running: list[Any] = []
    found: list[np.ndarray] = []
    for start in range(0, N, most):
        batch = np.asarray(pixels[start : start + most], np.float32)
        real = np.arange(most) < len(batch)
        batch = np.pad(batch, ((0, most - len(batch)), (0, 0), (0, 0), (0, 0)))
        running.append(encode(ImageInputs(batch, real)))  # pyright: ignore[reportArgumentType]
        # One batch is read back while the next is computed.
        if len(running) == 2:
            found.append(np.asarray(running.pop(0)))
    found += [np.asarray(one) for one in running]
    vectors = np.concatenate(found)[:N]
    mask: Any = np.ones(vectors.shape[:2], bool)
    return TokenVectors(vectors=vectors, mask=mask)  # pyright: ignore[reportArgumentType]

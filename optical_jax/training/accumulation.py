"""Gradient accumulation: a batch worked through in equal parts, one in memory at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from optical_jax.config import TowerConfig
from optical_jax.models.late_interaction import encode_tokens
from optical_jax.partitioning import constrain
from optical_jax.types import ImageInputs, PackedInputs, Params, TextInputs, TokenVectors


def mean_over_parts(f: Callable[[Any], Any], batch: Any, parts: int) -> Any:
    """Mean of `f` over equal parts of the batch, one part in memory at a time (gradient accumulation)."""
    if parts == 1:
        return f(batch)

    pieces = split_in_parts(batch, parts)
    zero = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(f, jax.tree.map(lambda x: x[0], pieces)))
    total, _ = jax.lax.scan(lambda acc, piece: (jax.tree.map(jnp.add, acc, f(piece)), None), zero, pieces)
    return jax.tree.map(lambda x: x / parts, total)


def split_in_parts(batch: Any, parts: int) -> Any:
    """The arrays [B, ...] of a batch as [parts, B / parts, ...].

    Row i goes to part i % parts: every device keeps its own rows, and nothing travels between devices.
    """

    def split(x: jax.Array) -> jax.Array:
        x = x.reshape(x.shape[0] // parts, parts, *x.shape[1:]).swapaxes(0, 1)
        return constrain(x, (None, "batch") + (None,) * (x.ndim - 2))

    return jax.tree.map(split, batch)


def join_parts(x: jax.Array) -> jax.Array:
    """The inverse of `split_in_parts`."""
    return constrain(x.swapaxes(0, 1).reshape(-1, *x.shape[2:]), ("batch",) + (None,) * (x.ndim - 2))


def encode_in_parts(
    params: Params, inputs: TextInputs | PackedInputs | ImageInputs, tower: TowerConfig, parts: int
) -> TokenVectors:
    """Encode a batch part by part; the backward pass computes each part again, so that one is in memory at a time.

    For the teachers' trainings: the loss sees the vectors of the whole batch, all its negatives included. A student's
    loss sees one part at a time (`mean_over_parts`).
    """
    if parts == 1:
        return encode_tokens(params, inputs, tower)

    def encode(part: Any) -> TokenVectors:
        return encode_tokens(params, part, tower)

    pieces = jax.lax.map(jax.checkpoint(encode, prevent_cse=False), split_in_parts(inputs, parts))
    return jax.tree.map(join_parts, pieces)

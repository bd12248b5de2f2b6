"""Parameters as specs: shape, logical axes and initialiser of every tensor, before any is made.

One spec tree answers every question about a model's parameters: how to draw them, how to shard them, how many there
are, what a checkpoint must hold.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from optical_jax.types import Params

Initializer = Callable[[jax.Array, tuple[int, ...]], jax.Array]


def normal(stddev: float = 0.02) -> Initializer:
    """Gaussian of the given width; 0.02 is BERT's."""
    return lambda key, shape: stddev * jax.random.normal(key, shape, jnp.float32)


def zeros(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return jnp.zeros(shape, jnp.float32)


def ones(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return jnp.ones(shape, jnp.float32)


bert_normal = normal(0.02)


@dataclass(frozen=True)
class Spec:
    """One parameter: its shape, a logical name for every dimension, and how it is drawn."""

    shape: tuple[int, ...]
    axes: tuple[str | None, ...]
    init: Initializer = bert_normal

    def __post_init__(self) -> None:
        if len(self.shape) != len(self.axes):
            raise ValueError(f"{len(self.shape)} dimensions {self.shape} but {len(self.axes)} axes {self.axes}")


SpecTree = Mapping[str, Any]


def is_spec(x: Any) -> bool:
    return isinstance(x, Spec)


def map_specs(f: Callable[[Spec], Any], specs: SpecTree) -> Any:
    """The tree with `f` applied to every spec."""
    return jax.tree.map(f, specs, is_leaf=is_spec)


def stack_specs(specs: SpecTree, layers: int) -> SpecTree:
    """Specs of `layers` equal blocks stacked along a new first axis, as `jax.lax.scan` wants them."""

    def stacked(spec: Spec) -> Spec:
        def init(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
            return jax.vmap(lambda k: spec.init(k, shape[1:]))(jax.random.split(key, shape[0]))

        return replace(spec, shape=(layers, *spec.shape), axes=("layers", *spec.axes), init=init)

    return map_specs(stacked, specs)


def init_params(specs: SpecTree, key: jax.Array) -> Params:
    """Draw every parameter, float32. A tensor's values depend on its path and the key, not on its neighbours."""

    def draw_all(key: jax.Array) -> Params:
        def draw(path: Any, spec: Spec) -> jax.Array:
            # A checksum: Python's own hash of a string differs from process to process.
            return spec.init(jax.random.fold_in(key, zlib.crc32(jax.tree_util.keystr(path).encode())), spec.shape)

        return jax.tree_util.tree_map_with_path(draw, specs, is_leaf=is_spec)

    return jax.jit(draw_all)(key)


def abstract_params(specs: SpecTree) -> Params:
    """The tree of `jax.ShapeDtypeStruct`s: shapes without memory."""
    return map_specs(lambda spec: jax.ShapeDtypeStruct(spec.shape, jnp.float32), specs)


def count_params(specs: SpecTree) -> int:
    return sum(math.prod(spec.shape) for spec in jax.tree.leaves(specs, is_leaf=is_spec))

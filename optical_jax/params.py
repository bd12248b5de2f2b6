"""Parameters as specs: shape, logical axes and initialiser of every tensor, before any is made.

One spec tree answers every question about a model's parameters: how to draw them, how to shard them, how many there
are, what a checkpoint must hold.
"""

from __future__ import annotations

import hashlib
import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from optical_jax.types import Params

Initializer = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


def normal(stddev: float = 0.02) -> Initializer:
    """Gaussian of the given width; 0.02 is BERT's."""
    return lambda rng, shape: np.float32(stddev) * rng.standard_normal(shape, np.float32)


def zeros(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.zeros(shape, np.float32)


def ones(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.ones(shape, np.float32)


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

    return map_specs(lambda spec: replace(spec, shape=(layers, *spec.shape), axes=("layers", *spec.axes)), specs)


def init_params(specs: SpecTree, key: jax.Array) -> Params:
    """Draw every parameter, float32. A tensor's values depend on its path and the key, not on its neighbours.

    By NumPy: a compiled program that draws them all takes longer to compile than the draws take.
    """

    def draw_all(seed: np.ndarray) -> Params:
        def draw(path: Any, spec: Spec) -> np.ndarray:
            # A checksum: Python's own hash of a string differs from process to process.
            own = zlib.crc32(jax.tree_util.keystr(path).encode())
            return spec.init(np.random.default_rng([*np.asarray(seed).ravel().tolist(), own]), spec.shape)

        return jax.tree_util.tree_map_with_path(draw, specs, is_leaf=is_spec)

    seed = jax.random.key_data(key)
    if isinstance(seed, Tracer):  # under jit or eval_shape
        return jax.pure_callback(draw_all, abstract_params(specs), seed)
    # Not jnp.asarray, which compiles a program for every shape.
    return jax.device_put(draw_all(np.asarray(seed)))


def abstract_params(specs: SpecTree) -> Params:
    """The tree of `jax.ShapeDtypeStruct`s: shapes without memory."""
    return map_specs(lambda spec: jax.ShapeDtypeStruct(spec.shape, jnp.float32), specs)


def count_params(specs: SpecTree) -> int:
    return sum(math.prod(spec.shape) for spec in jax.tree.leaves(specs, is_leaf=is_spec))


def fingerprint(params: Params) -> str:
    """sha256 over names, shapes and bytes of all parameters, in name order."""
    digest = hashlib.sha256()
    named = [(jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(params)]
    for name, leaf in sorted(named, key=lambda item: item[0]):
        array = np.asarray(leaf)
        digest.update(f"{name}{array.shape}{array.dtype}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()

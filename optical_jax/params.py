"""Parameter specs: shape, logical axes and initialiser of every parameter.

A model's spec tree defines the initialisation, sharding, count and checkpoint structure of its parameters.
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
    """Normal initialiser; stddev 0.02 is BERT's."""
    return lambda rng, shape: np.float32(stddev) * rng.standard_normal(shape, np.float32)


def zeros(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.zeros(shape, np.float32)


def ones(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.ones(shape, np.float32)


bert_normal = normal(0.02)


@dataclass(frozen=True)
class Spec:
    """One parameter: shape, logical axis of every dimension, and initialiser."""

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
    """Specs of `layers` equal blocks stacked along a new first axis, for `jax.lax.scan`."""

    return map_specs(lambda spec: replace(spec, shape=(layers, *spec.shape), axes=("layers", *spec.axes)), specs)


def init_params(specs: SpecTree, key: jax.Array) -> Params:
    """Initialise every parameter, float32. Values depend only on a parameter's path and the key.

    By NumPy: compiling a program that initialises all of them would take longer.
    """

    def draw_all(seed: np.ndarray) -> Params:
        def draw(path: Any, spec: Spec) -> np.ndarray:
            # A checksum, as Python's hash of a string differs between processes.
            own = zlib.crc32(jax.tree_util.keystr(path).encode())
            return spec.init(np.random.default_rng([*np.asarray(seed).ravel().tolist(), own]), spec.shape)

        return jax.tree_util.tree_map_with_path(draw, specs, is_leaf=is_spec)

    seed = jax.random.key_data(key)
    if isinstance(seed, Tracer):  # under jit or eval_shape
        return jax.pure_callback(draw_all, abstract_params(specs), seed)
    # Not jnp.asarray, which compiles for every shape.
    return jax.device_put(draw_all(np.asarray(seed)))


def abstract_params(specs: SpecTree) -> Params:
    """Parameters as a tree of `jax.ShapeDtypeStruct`s."""
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

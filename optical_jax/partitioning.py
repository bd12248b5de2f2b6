"""Device mesh, and the sharding rules from logical axes to mesh axes."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import jax
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from optical_jax.config import Config, ImageStageConfig, MeshConfig, TeacherStageConfig
from optical_jax.errors import ConfigError, MachineError
from optical_jax.params import SpecTree, map_specs

MESH_AXES = ("data", "fsdp", "tensor")

RULES: dict[str, str | tuple[str, ...] | None] = {
    # arrays
    "batch": ("data", "fsdp"),
    "length": None,
    # parameters
    "layers": None,
    "vocab": "tensor",
    "embed": "fsdp",
    "heads": "tensor",
    "head_width": None,
    "mlp": "tensor",
    "position": None,
    "vector": None,
}
"""Logical axis -> mesh axes. None keeps the axis whole on every device."""

Axes = tuple[str | None, ...]
"""The logical axis of every dimension of an array."""


def find_devices() -> Sequence[Any]:
    """All devices.

    Raises:
      MachineError: no device of the platform in JAX_PLATFORMS.
    """
    try:
        return jax.devices()
    except (AssertionError, RuntimeError) as error:
        # Without the platform's plugin it is a bare assertion.
        asked = getattr(jax.config, "jax_platforms", None) or ""
        why = f" ({str(error).splitlines()[0]})" if str(error) else ""
        raise MachineError(
            f"JAX_PLATFORMS={asked}: JAX finds no such device{why}; install the extra for it (cuda13, tpu), or unset "
            "JAX_PLATFORMS"
        ) from error


def make_mesh(cfg: MeshConfig, devices: Sequence[Any] | None = None) -> Mesh:
    """The ("data", "fsdp", "tensor") mesh over all devices.

    Raises:
      ConfigError: the sizes do not multiply to the number of devices.
      MachineError: as `find_devices`.
    """
    devices = find_devices() if devices is None else devices
    fixed = cfg.fsdp * cfg.tensor
    if cfg.fsdp < 1 or cfg.tensor < 1 or (cfg.data < 1 and cfg.data != -1):
        raise ConfigError(f"mesh={cfg} has a size below 1; only mesh.data may be -1 (the remaining devices)")
    data = len(devices) // fixed if cfg.data == -1 else cfg.data
    if data * fixed != len(devices):
        raise ConfigError(
            f"mesh data={cfg.data} x fsdp={cfg.fsdp} x tensor={cfg.tensor} does not match {len(devices)} device(s); "
            f"choose sizes whose product is {len(devices)}"
        )
    # Sizes by position, as the parameter's name changed between JAX 0.10 and 0.12. Auto axes explicitly: with Explicit,
    # now the default, every product would need the sharding of its result.
    return jax.make_mesh((data, cfg.fsdp, cfg.tensor), MESH_AXES, axis_types=(AxisType.Auto,) * 3, devices=devices)


def over_all_devices() -> AbstractContextManager[Any]:
    """Context with a data-parallel mesh over all devices; a null context for one device."""
    return jax.set_mesh(make_mesh(MeshConfig())) if jax.device_count() > 1 else nullcontext()


def batch_shards(mesh: Mesh) -> int:
    """Number of shards of a batch."""
    return mesh.shape["data"] * mesh.shape["fsdp"]


def shards_in_context() -> int:
    """Number of shards of a batch over the mesh in context (`jax.set_mesh`); 1 without one."""
    mesh = jax.sharding.get_mesh()
    return 1 if mesh.empty else batch_shards(mesh)


def check_divisible(cfg: Config | TeacherStageConfig | ImageStageConfig, mesh: Mesh) -> None:
    """Raise ConfigError where a batch, or a part of it, does not divide over the mesh."""
    data, fsdp = mesh.shape["data"], mesh.shape["fsdp"]
    shards = batch_shards(mesh)
    batch, parts = cfg.data.global_batch, cfg.training.accumulate
    if batch % (shards * parts):
        by = f" in training.accumulate={parts} parts" if parts > 1 else ""
        raise ConfigError(
            f"data.global_batch={batch}{by} does not divide into {shards} shards (mesh data={data} x fsdp={fsdp}); "
            f"use a multiple of {shards * parts}"
        )


def partition_spec(axes: Axes) -> PartitionSpec:
    """PartitionSpec of an array by the logical axes of its dimensions."""
    return PartitionSpec(*(None if axis is None else RULES[axis] for axis in axes))


def named_sharding(mesh: Mesh, axes: Axes) -> NamedSharding:
    return NamedSharding(mesh, partition_spec(axes))


def params_shardings(specs: SpecTree, mesh: Mesh) -> Any:
    """Shardings of a spec tree. Dimensions that do not divide evenly are replicated."""

    return map_specs(lambda spec: named_sharding(mesh, split_evenly(spec.shape, spec.axes, mesh)), specs)


def split_evenly(shape: Sequence[int], axes: Axes, mesh: Mesh | AbstractMesh) -> Axes:
    """`axes`, with None (replicated) for dimensions that do not divide evenly over the mesh."""

    def ways(axis: str | None) -> int:
        names = None if axis is None else RULES[axis]
        return math.prod(mesh.shape[name] for name in ((names,) if isinstance(names, str) else names or ()))

    return tuple(axis if size % ways(axis) == 0 else None for size, axis in zip(shape, axes, strict=True))


def constrain(x: jax.Array, axes: Axes) -> jax.Array:
    """Sharding constraint by logical axes; a no-op without a mesh in context (``jax.set_mesh``)."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or math.prod(mesh.shape.values()) == 1:
        return x
    return jax.lax.with_sharding_constraint(x, partition_spec(axes))


def by_shard(f: Callable[..., Any], *arrays: jax.Array, axes: Sequence[Axes] | None = None) -> Any:
    """shard_map of `f` by logical axes, without communication between shards.

    Without a mesh in context, or on one device, `f` is called on whole arrays.

    Args:
      f: returns an array, or a tree of arrays, sharded as the first of `arrays`.
      arrays: its arguments.
      axes: logical axes of each; None shards only the batch, their first dimension.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or math.prod(mesh.shape.values()) == 1:
        return f(*arrays)
    axes = [("batch",) + (None,) * (x.ndim - 1) for x in arrays] if axes is None else axes
    specs = tuple(partition_spec(split_evenly(x.shape, of, mesh)) for x, of in zip(arrays, axes, strict=True))
    # check_vma=False: Pallas kernels do not declare over which axes their results vary.
    return jax.shard_map(f, in_specs=specs, out_specs=specs[0], check_vma=False)(*arrays)


def platform() -> str:
    """Platform of the devices: "cpu", "tpu", "cuda" (NVIDIA of compute capability 8 and above) or "gpu" (others)."""
    name = jax.default_backend()
    capability = getattr(jax.devices()[0], "compute_capability", "") if name == "gpu" else ""
    # AMD reports names such as gfx90a.
    return "cuda" if re.fullmatch(r"\d+\.\d+", str(capability)) and float(capability) >= 8.0 else name

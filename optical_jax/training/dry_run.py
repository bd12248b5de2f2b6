"""`train.py --dry-run`: what a run will cost. Compiles, times a step of each shape, writes nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from optical_jax.training.estimate import compiled_memory_bytes

TIMED_STEPS = 2


class TimedStep(NamedTuple):
    state: Any
    """After the timed steps; that before them is donated."""
    compile_seconds: float
    seconds: float
    """Of the quickest step."""
    peak_bytes: int
    """Of a device; 0 where the compiler does not tell."""


def time_step(step: Any, state: Any, *inputs: Any) -> TimedStep:
    """Compile a jitted step(state, *inputs) -> (state, metrics) and time it."""
    began = time.monotonic()
    compiled = step.lower(state, *inputs).compile()
    compile_seconds, seconds = time.monotonic() - began, []
    for _ in range(TIMED_STEPS):
        began = time.monotonic()
        state, metrics = compiled(state, *inputs)
        jax.block_until_ready((state, metrics))
        seconds.append(time.monotonic() - began)
    memory = compiled_memory_bytes(compiled)
    return TimedStep(state, compile_seconds, min(seconds), memory["peak"] if memory else 0)


def print_mesh(mesh: jax.sharding.Mesh) -> None:
    shape = " x ".join(f"{name} {size}" for name, size in mesh.shape.items())
    print(f"mesh: {shape} on {jax.device_count()} {jax.devices()[0].device_kind}")


def print_memory(peak_bytes: int) -> None:
    if peak_bytes:
        print(f"memory: {peak_bytes / 2**20:.0f} MiB a device for a step, parameters and optimizer state included")


def best_seconds(work: Callable[..., Any], *args: Any) -> float:
    """Of some calls, after one that compiles."""
    jax.block_until_ready(work(*args))
    seconds = []
    for _ in range(TIMED_STEPS):
        began = time.monotonic()
        jax.block_until_ready(work(*args))
        seconds.append(time.monotonic() - began)
    return min(seconds)

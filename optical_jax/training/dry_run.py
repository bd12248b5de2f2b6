"""What a training will cost (`--dry-run`): compiles and times a step of each batch shape, writes nothing."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from optical_jax.config import TowerConfig
from optical_jax.models.late_interaction import encode_tokens, tower_specs
from optical_jax.params import abstract_params
from optical_jax.partitioning import named_sharding, params_shardings
from optical_jax.progress import clock
from optical_jax.runs.folder import RunConfig
from optical_jax.training.estimate import compiled_memory_bytes, parameter_counts, side_forward_flops
from optical_jax.training.loop import put
from optical_jax.training.optimizer import NOTHING_FROZEN, trained_part
from optical_jax.training.state import init_train_state
from optical_jax.training.task import Prepared
from optical_jax.types import TokenVectors

TIMED_STEPS = 2


def dry_run(cfg: RunConfig, prepared: Prepared) -> None:
    """Print parameters, FLOPs, memory and time of a training."""
    assert prepared.cost is not None, "a dry run comes before a training"
    mesh, loader, cost = prepared.mesh, prepared.loader, prepared.cost()
    trained = jax.eval_shape(lambda params: trained_part(params, prepared.frozen), abstract_params(prepared.specs))
    for name, tower in cost.towers.items():
        count = parameter_counts(tower)
        print(f"{name}: {count['all']:,} parameters, {count['body']:,} of them outside the embeddings")
        if name in cost.trained and prepared.frozen != NOTHING_FROZEN:
            some = jax.tree.leaves(cost.trained[name](trained))
            print(f"{name}: {sum(leaf.size for leaf in some):,} of its parameters are trained")
    shape = " x ".join(f"{name} {size}" for name, size in mesh.shape.items())
    print(f"mesh: {shape} on {jax.device_count()} {jax.devices()[0].device_kind}")

    cost.stand_in()
    by_shape: dict[str, list[Any]] = {}
    sample = [next(loader) for _ in range(min(prepared.epoch_size, cost.sampled))]
    for batch in sample:
        by_shape.setdefault(cost.shape(batch), []).append(batch)
    parts = list(cost.flops(sample[0]))
    parts = parts if len(parts) > 1 else []
    width = max(map(len, (cost.columns, *by_shape)))
    heads = [f"{cost.columns:<{width}}", "of steps", f"GFLOP/{cost.unit}", *parts, "compile s", "step s"]
    print("  ".join(heads))

    B, steps, fill = cfg.data.global_batch, cfg.training.steps, cost.fill
    fills = math.ceil(fill.texts / B) if fill else 0
    seconds = flops = fill_seconds = fill_flops = 0.0
    peak, sharding = 0, named_sharding(mesh, ("batch",))
    with jax.set_mesh(mesh):
        state = init_train_state(prepared.params, prepared.specs, mesh, prepared.tx, prepared.frozen)
        for shape, batches in sorted(by_shape.items()):
            share, batch = len(batches) / len(sample), batches[0]
            if fill and not isinstance(side := fill.side(batch), TokenVectors):
                params = jax.device_put(fill.params, params_shardings(tower_specs(fill.tower), mesh))
                fill_seconds += fills * share * best_seconds(encoder_of(fill.tower), params, put(side, sharding))
                fill_flops += fills * share * side_forward_flops(side, fill.tower)
                batch = fill.filled(batch)
            timed = time_step(prepared.step, state, *prepared.constants, put(batch, sharding))
            state, by_part = timed.state, cost.flops(batch)
            total = sum(by_part.values())
            peak, seconds, flops = max(peak, timed.peak_bytes), seconds + share * timed.seconds, flops + share * total
            cells = [f"{shape:<{width}}", f"{share:.1%}", f"{total / B / 1e9:.3f}"]
            cells += [f"{by_part[part] / total:.1%}" for part in parts]
            cells += [f"{timed.compile_seconds:.1f}", f"{timed.seconds:.3f}"]
            print("  ".join(f"{cell:>{len(head)}}" for cell, head in zip(cells, heads, strict=True)))

    in_all = (flops * steps + fill_flops) / 1e12
    at_most = "at most " if cost.upper_bound else ""
    print(f"flops: {at_most}{flops / B / 1e9:.3f} GFLOP a {cost.unit} on average, {in_all:.2f} TFLOP in all")
    if fill:
        print(
            f"{fill.name}: {fill.texts:,} texts encoded before the first step{', if none is there yet' * fill.kept}: "
            f"{fill_flops / 1e12:.2f} TFLOP and about {clock(fill_seconds)}, counted in"
        )
    for note in cost.notes:
        print(note)
    if peak:
        print(f"memory: {peak / 2**20:.0f} MiB a device for a step, parameters and optimizer state included")
    unit = "queries" if cost.unit == "query" else f"{cost.unit}s"
    epochs, in_all = steps / prepared.epoch_size, clock(fill_seconds + steps * seconds)
    print(f"time: {steps} steps of {B} {unit}, {epochs:.1f} epochs: about {in_all}")
    print(f"      at {B / seconds:.1f} {unit}/s, without dev retrievals and saves")


def encoder_of(tower: TowerConfig) -> Callable[..., jax.Array]:
    return jax.jit(lambda params, inputs: encode_tokens(params, inputs, tower).vectors)


class TimedStep(NamedTuple):
    state: Any
    """After the timed steps; the one given is donated."""
    compile_seconds: float
    seconds: float
    """Of the quickest step."""
    peak_bytes: int
    """Of a device; 0 where the compiler does not report it."""


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


def best_seconds(work: Callable[..., Any], *args: Any) -> float:
    """Seconds of the quickest of some calls, after one that compiles."""
    jax.block_until_ready(work(*args))
    seconds = []
    for _ in range(TIMED_STEPS):
        began = time.monotonic()
        jax.block_until_ready(work(*args))
        seconds.append(time.monotonic() - began)
    return min(seconds)

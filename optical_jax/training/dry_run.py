"""`train.py --dry-run`: what a run will cost. Compiles, times a step of each shape, writes nothing."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax

from optical_jax.config import Config
from optical_jax.models.late_interaction import encode_tokens, tower_specs
from optical_jax.params import abstract_params
from optical_jax.partitioning import named_sharding, params_shardings
from optical_jax.progress import clock
from optical_jax.training.estimate import compiled_memory_bytes, parameter_counts, side_forward_flops, step_cost
from optical_jax.training.loop import put
from optical_jax.training.optimizer import NOTHING_FROZEN, Frozen, make_optimizer, trained_part
from optical_jax.training.state import init_train_state
from optical_jax.training.step import make_train_step
from optical_jax.training.student.image_cache import MadeUpPictures
from optical_jax.training.student.teacher_cache import as_if_cached, texts_to_fill
from optical_jax.types import TokenVectors

if TYPE_CHECKING:
    from optical_jax.commands.train import Parts

SAMPLED_BATCHES = 200
"""Batches that are looked at to learn how often each shape occurs."""
TIMED_STEPS = 2


def dry_run(cfg: Config, parts: Parts) -> None:
    """Print parameters, FLOPs a pair, memory and time."""
    mesh, student, teacher = parts.mesh, parts.student.cfg, parts.teacher.cfg
    for name, tower in (("student", student), ("teacher", teacher)):
        count = parameter_counts(tower)
        print(f"{name}: {count['all']:,} parameters, {count['body']:,} of them outside the embeddings")
    frozen = Frozen.of(cfg.student, student.encoder)
    if frozen != NOTHING_FROZEN:
        trained = jax.eval_shape(lambda params: trained_part(params, frozen), abstract_params(tower_specs(student)))
        print(f"student: {sum(leaf.size for leaf in jax.tree.leaves(trained)):,} of its parameters are trained")
    print_mesh(mesh)
    print("rows x tokens (student, teacher)  of steps  GFLOP/pair  student  teacher   loss  compile s  step s")

    if parts.pictures:
        parts.loader.read_pictures_from(MadeUpPictures(parts.pictures[0]))
    by_shape: dict[str, list[Any]] = {}
    sample = [next(parts.loader) for _ in range(min(parts.loader.epoch_size, SAMPLED_BATCHES))]
    batch: Any
    for batch in sample:
        shapes = (shape_of(side) for side in (batch.student, batch.teacher))
        by_shape.setdefault(", ".join(shapes), []).append(batch)

    batch_size, steps = cfg.data.global_batch, cfg.training.steps
    step_seconds, flops, peak = 0.0, 0.0, 0
    fill_seconds, fill_flops = 0.0, 0.0
    texts = texts_to_fill(cfg.teacher, teacher, parts.loader, steps)
    longest = int(parts.loader.teacher_texts.lengths.max())
    tx = make_optimizer(cfg.optimizer, cfg.training.steps)
    with jax.set_mesh(mesh):
        train_step: Any = make_train_step(cfg, student, teacher, mesh, tx)
        taught = jax.device_put(parts.teacher.params, params_shardings(tower_specs(teacher), mesh))
        state = init_train_state(parts.student.params, tower_specs(student), mesh, tx, frozen)
        encode = jax.jit(lambda params, inputs: encode_tokens(params, inputs, teacher).vectors)
        for shape, batches in sorted(by_shape.items()):
            share = len(batches) / len(sample)
            side = batches[0].teacher
            if texts and not isinstance(side, TokenVectors):
                inputs = put(side, named_sharding(mesh, ("batch",)))
                fill_seconds += share * best_seconds(encode, taught, inputs)
                fill_flops += share * side_forward_flops(side, teacher)
                batches = [as_if_cached(batches[0], teacher, longest), *batches[1:]]
            batch = put(batches[0], named_sharding(mesh, ("batch",)))
            timed = time_step(train_step, state, taught, batch)
            state = timed.state
            cost = step_cost(cfg, student, teacher, batch)
            peak = max(peak, timed.peak_bytes)
            step_seconds, flops = step_seconds + share * timed.seconds, flops + share * cost.flops / batch_size
            print(
                f"{shape:>32}  {share:>8.1%}  {cost.flops / batch_size / 1e9:>10.3f}  "
                f"{cost.student_flops / cost.flops:>7.1%}  {cost.teacher_flops / cost.flops:>7.1%}  "
                f"{cost.transport_flops / cost.flops:>5.1%}  {timed.compile_seconds:>9.1f}  {timed.seconds:>6.3f}"
            )

    epochs, fills = steps / parts.loader.epoch_size, math.ceil(texts / batch_size)
    fill_seconds, fill_flops = fills * fill_seconds, fills * fill_flops
    in_all = flops * batch_size * steps + fill_flops
    print(f"flops: {flops / 1e9:.3f} GFLOP a pair on average, {in_all / 1e12:.2f} TFLOP in all")
    if texts:
        print(
            f"teacher.cache: {texts:,} texts encoded before the first step, if none is there yet: "
            f"{fill_flops / 1e12:.2f} TFLOP and about {clock(fill_seconds)}, counted in"
        )
    elif cfg.teacher.cache:
        print(f"teacher.cache: more than teacher.cache_gib={cfg.teacher.cache_gib:g}; the teacher runs in every step")
    told = fill_seconds + steps * step_seconds
    print_memory(peak)
    print(f"time: {steps} steps of {batch_size} pairs, {epochs:.1f} epochs: about {clock(told)}")
    print(f"      at {batch_size / step_seconds:.1f} pairs/s, without dev retrievals and saves")


def shape_of(side: Any) -> str:
    """Rows and tokens; of pictures, encoded before, their vectors."""
    held = side.mask if isinstance(side, TokenVectors) else side.ids
    return " x ".join(map(str, held.shape)) + (" patches" if isinstance(side, TokenVectors) else "")


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

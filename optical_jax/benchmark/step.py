"""Benchmark of the distillation step, with and without transport, and of PyTorch's, interleaved on the same pairs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from optical_jax.benchmark.devices import peak_bytes, peak_flops
from optical_jax.benchmark.presets import MAX_LENGTH, Work
from optical_jax.benchmark.profile import measure_profile
from optical_jax.benchmark.timing import Times, paired_ratio
from optical_jax.config import (
    Attention,
    Config,
    DataConfig,
    LossConfig,
    OptimizerConfig,
    OtConfig,
    Remat,
    StudentConfig,
    TeacherConfig,
    TrainingConfig,
)
from optical_jax.data.batches.bitext import Loader, make_loader
from optical_jax.models.attention import choose_attention
from optical_jax.models.late_interaction import tower_specs
from optical_jax.partitioning import (
    batch_shards,
    check_divisible,
    make_mesh,
    named_sharding,
    params_shardings,
    platform,
)
from optical_jax.training.estimate import compiled_memory_bytes, model_flops, step_cost
from optical_jax.training.loop import put
from optical_jax.training.optimizer import make_optimizer
from optical_jax.training.state import init_train_state
from optical_jax.training.step import count_tokens, make_train_step
from optical_jax.training.student.teacher_cache import use_teacher_cache
from optical_jax.types import Batch, TokenVectors

WARM_UP_STEPS = 2


def step_config(batch: int, steps: int, data: DataConfig, attention: Attention, remat: Remat) -> Config:
    """Config of the benchmarked step: 50 plain Sinkhorn iterations at epsilon 0.05, AdamW without clipping."""
    return Config(
        teacher=TeacherConfig(attention=attention),
        student=StudentConfig(attention=attention, remat=remat),
        data=replace(data, global_batch=batch),
        loss=LossConfig("transport", OtConfig(epsilon=0.05, iterations=50, relaxation=1.0)),
        optimizer=OptimizerConfig(peak_lr=1e-5, warmup_steps=0, schedule="constant", clip_norm=0.0),
        training=TrainingConfig(steps=steps + WARM_UP_STEPS),
    )


class Runner:
    """A compiled training step with its state on the devices."""

    def __init__(self, cfg: Config, work: Work):
        self.mesh = make_mesh(cfg.mesh)
        check_divisible(cfg, self.mesh)
        tx = make_optimizer(cfg.optimizer, cfg.training.steps)
        self.sharding = named_sharding(self.mesh, ("batch",))
        with jax.set_mesh(self.mesh):
            self.step: Any = make_train_step(cfg, work.tower, work.tower, self.mesh, tx)
            self.state = init_train_state(work.student, tower_specs(work.tower), self.mesh, tx)
            self.teacher = jax.device_put(work.teacher, params_shardings(tower_specs(work.tower), self.mesh))
        self.compiled: dict[str, Any] = {}
        self.compile_seconds = 0.0
        self.loss = float("nan")

    def compile(self, batch: Batch) -> Any:
        """The step compiled for this batch shape, cached."""
        key = str(jax.tree.map(np.shape, batch))
        if key not in self.compiled:
            began = time.perf_counter()
            with jax.set_mesh(self.mesh):
                self.compiled[key] = self.step.lower(self.state, self.teacher, put(batch, self.sharding)).compile()
            self.compile_seconds += time.perf_counter() - began
        return self.compiled[key]

    def run(self, batch: Batch) -> float:
        """Run one step; returns its seconds, with transfers of batch and metrics."""
        compiled = self.compile(batch)
        began = time.perf_counter()
        self.state, metrics = compiled(self.state, self.teacher, put(batch, self.sharding))
        jax.block_until_ready(self.state)
        self.loss = float(metrics["loss"])
        return time.perf_counter() - began


@dataclass(frozen=True)
class Waste:
    """Real and padded tokens of batches, by side."""

    real: tuple[int, int]
    padded: tuple[int, int]

    @property
    def share(self) -> float:
        return 1.0 - sum(self.real) / sum(self.padded)


def tokens_of(batches: list[Batch]) -> Waste:
    sides = [[getattr(batch, name) for batch in batches] for name in ("student", "teacher")]
    real = [int(sum(count_tokens(each) for each in side)) for side in sides]
    # Cached vectors are not encoded, so they have no padding.
    padded = [sum(count_tokens(x) if isinstance(x, TokenVectors) else x.ids.size for x in side) for side in sides]
    return Waste((real[0], real[1]), (int(padded[0]), int(padded[1])))


def measure_step(
    work: Work,
    cfg: Config,
    *,
    cache: str = "",
    trace: str = "",
    peer: Callable[[int], dict[str, float]] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Benchmark a training step.

    Args:
      work: towers, and exactly the pairs of all steps, warm-up included.
      cfg: of `step_config`.
      cache: folder for teacher vectors, which are encoded before the first step; empty encodes them in the step.
      trace: folder for a profile of two more steps, for xprof; empty for none. Its summary is under "profile".
      peer: runs the peer's step i on the same pairs and returns its seconds and loss.
    """
    batch, steps = cfg.data.global_batch, cfg.training.steps - WARM_UP_STEPS
    cfg = replace(cfg, teacher=replace(cfg.teacher, cache=cache))
    uniform = replace(cfg, loss=replace(cfg.loss, ot=replace(cfg.loss.ot, plan="uniform")))
    ours = Runner(cfg, work)
    loader = bitext_loader(cfg, work, batch_shards(ours.mesh))
    result: dict[str, Any] = {}
    if cache:
        began = time.perf_counter()
        use_teacher_cache(cfg.teacher, ours.teacher, work.tower, loader, (0, loader.epoch_size), batch, ours.mesh, say)
        result["teacher_cache"] = {"fill_seconds": time.perf_counter() - began}
    batches = [next(loader) for _ in range(loader.epoch_size)]
    for each in batches:
        ours.compile(each)
    say(f"compiled {len(ours.compiled)} shape(s) in {ours.compile_seconds:.1f} s")
    seconds: dict[str, list[float]] = {"ours": [], "uniform": [], "peer": []}
    ours.run(batches[0])
    # Before the second state is created, which a training does not have.
    peak = peak_bytes()
    without = Runner(uniform, work)
    for each in batches:
        without.compile(each)
    without.run(batches[0])
    if peer is not None:
        peer(0)
    for i, each in enumerate(batches[1:], start=1):
        turn = {"ours": ours.run(each), "uniform": without.run(each)}
        if peer is not None:
            turn["peer"] = peer(i)["seconds"]
        if i >= WARM_UP_STEPS:
            for name, value in turn.items():
                seconds[name].append(value)
            say(f"step {i + 1 - WARM_UP_STEPS}/{steps}  " + "  ".join(f"{k} {v:.3f} s" for k, v in turn.items()))
    timed = batches[WARM_UP_STEPS:]
    figures = step_metrics(cfg, work, ours, timed, seconds["ours"], peak)
    figures["transport_share"] = 1.0 - 1.0 / paired_ratio(seconds["ours"], seconds["uniform"])
    result["step"] = figures | row_metrics(cfg, work, loader)
    if trace:
        # One batch repeatedly, so that only one program runs.
        profile = measure_profile(lambda: ours.run(timed[0]), ours.compile(timed[0]).as_text(), trace)
        if profile is None:
            say(f"the trace in {trace} has no operations of the step, as on some backends: no table and no plot")
        else:
            result["profile"] = profile
    if peer is not None:
        peer_rate = batch * steps / sum(seconds["peer"])
        result["peer"] = {
            "pairs_per_second": peer_rate,
            **Times(tuple(seconds["peer"])).as_json(),
            "ratio": figures["pairs_per_second"] / peer_rate,
            "median_ratio": paired_ratio(seconds["peer"], seconds["ours"]),
        }
    return result


def bitext_loader(cfg: Config, work: Work, shards: int) -> Loader:
    # All texts fit, so that no bucket is too short.
    assert max(work.pairs.student.lengths.max(), work.pairs.teacher.lengths.max()) <= MAX_LENGTH
    return make_loader({"xx": work.pairs}, cfg.data, cfg.seed, shards=shards)


def row_metrics(cfg: Config, work: Work, loader: Loader) -> dict[str, Any]:
    """Length of the longest rows in tokens, and the attention implementation of the student for it."""
    length = max(loader.layout.row_lengths)
    encoder = replace(work.tower.encoder, attention=cfg.student.attention)
    return {"row_length": length, "attention": choose_attention(encoder, length, platform())}


def step_metrics(
    cfg: Config, work: Work, ours: Runner, timed: list[Batch], seconds: list[float], peak: int
) -> dict[str, Any]:
    """Results of the timed steps. `peak`: peak memory in bytes until the end of the first step.

    Real tokens are those in the loss, of student and teacher, encoded in the step or read from the cache, so that steps
    with and without a cache are comparable. FLOPs count encoded tokens only.
    """
    times, tokens = Times(tuple(seconds)), tokens_of(timed)
    cached = isinstance(timed[0].teacher, TokenVectors)
    useful = model_flops(work.tower, work.tower, tokens.real[0], 0 if cached else tokens.real[1])
    done = sum(step_cost(cfg, work.tower, work.tower, batch).flops for batch in timed)
    counted = sum((ours.compile(batch).cost_analysis() or {}).get("flops", float("nan")) for batch in timed)
    most_flops, source = peak_flops(work.tower.encoder.dtype)
    memory = compiled_memory_bytes(ours.compile(timed[0]))
    return {
        **times.as_json(),
        "pairs_per_second": cfg.data.global_batch * len(timed) / times.total,
        "real_tokens_per_second": sum(tokens.real) / times.total,
        "padded_tokens_per_second": sum(tokens.padded) / times.total,
        "padding_waste": tokens.share,
        "padding_waste_student": 1.0 - tokens.real[0] / tokens.padded[0],
        "padding_waste_teacher": 1.0 - tokens.real[1] / tokens.padded[1],
        "model_flops_per_second": useful / times.total,
        "counted_flops_per_second": done / times.total,
        "compiler_flops_per_second": counted / times.total,
        "mfu": useful / times.total / most_flops,
        "peak_flops": most_flops,
        "peak_source": source,
        "compile_seconds": ours.compile_seconds,
        "shapes": len(ours.compiled),
        "step_bytes": memory["peak"] if memory else None,
        "peak_bytes": peak,
        "last_loss": ours.loss,
    }

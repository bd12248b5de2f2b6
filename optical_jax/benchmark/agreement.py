"""Agreement of loss curves with and without each optimisation (packing, caching, rematerialisation)."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from typing import Any

import numpy as np

from optical_jax.benchmark.presets import Work, first_pairs
from optical_jax.benchmark.step import Runner, bitext_loader
from optical_jax.config import Config
from optical_jax.partitioning import batch_shards
from optical_jax.training.student.teacher_cache import use_teacher_cache

STEPS = 10
PEAK_LR = 1e-4
"""Ten times the benchmark's learning rate, so that the loss changes visibly."""


def measure_agreement(work: Work, cfg: Config) -> dict[str, Any]:
    """Losses of ten steps on one batch, plain and with each optimisation, and their largest differences.

    Plain: padded batches, no rematerialisation, XLA attention, the teacher encoded in the step. These settings of
    `cfg` are ignored.
    """
    batch = cfg.data.global_batch
    work = replace(work, pairs=first_pairs(work.pairs, batch))
    plain = replace(
        cfg,
        data=replace(cfg.data, batching="buckets"),
        student=replace(cfg.student, attention="xla", remat="none"),
        teacher=replace(cfg.teacher, attention="xla", cache=""),
        optimizer=replace(cfg.optimizer, peak_lr=PEAK_LR),
    )
    packed = replace(plain, data=replace(cfg.data, batching="packed"))
    curves: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as cache:
        cached = replace(packed, teacher=replace(packed.teacher, cache=cache))
        for name, each in {
            "plain": plain,
            "packed rows": packed,
            "packed rows, teacher cache": cached,
            "packed rows, remat dots": replace(packed, student=replace(packed.student, remat="dots")),
            "packed rows, remat full": replace(packed, student=replace(packed.student, remat="full")),
        }.items():
            curves[name] = losses(work, each)
    reference = np.array(curves["plain"])
    found: dict[str, Any] = {
        name: {"most_apart": float(np.abs(np.array(curve) - reference).max()), "losses": curve}
        for name, curve in curves.items()
        if name != "plain"
    }
    return found | {"plain": {"losses": curves["plain"]}, "loss_first": reference[0], "loss_last": reference[-1]}


def losses(work: Work, cfg: Config) -> list[float]:
    runner = Runner(cfg, work)
    loader = bitext_loader(cfg, work, batch_shards(runner.mesh))
    if cfg.teacher.cache:
        pairs = cfg.data.global_batch
        use_teacher_cache(
            cfg.teacher,
            runner.teacher,
            work.tower,
            loader,
            (0, loader.epoch_size),
            pairs,
            runner.mesh,
            lambda line: None,
        )
    found = []
    for _ in range(STEPS):
        # Every batch has all pairs, in a different order.
        runner.run(next(loader))
        found.append(runner.loss)
    return found

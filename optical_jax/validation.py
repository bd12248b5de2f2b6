"""Checks of settings that need no data: what cannot be is refused before anything is read or compiled."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import Any, get_args

from optical_jax.config import Attention, Config, Remat
from optical_jax.errors import ConfigError

AT_LEAST_1 = (
    "data.global_batch", "data.min_chars", "data.row_length", "loss.ot.iterations", "training.steps",
    "training.accumulate", "training.log_every", "checkpoint.every", "checkpoint.keep",
)  # fmt: skip
AT_LEAST_0 = (
    "seed", "data.dev_pairs", "data.max_bad_lines", "loss.ot.threshold", "training.dev_every", "optimizer.warmup_steps",
    "optimizer.weight_decay", "optimizer.clip_norm", "optimizer.final_lr_fraction",
)  # fmt: skip
ABOVE_0 = ("teacher.cache_gib", "loss.ot.epsilon", "optimizer.peak_lr", "optimizer.eps", "data.temperature")


def validate(cfg: Config, *, needs_run: bool = True) -> None:
    """Refuse impossible values before anything is read or compiled.

    Raises:
      ConfigError: names the field, its value and the remedy.
    """

    def require(fine: bool, name: str, remedy: str) -> None:
        if not fine:
            raise ConfigError(f"{name}={_get(cfg, name)!r} is impossible; {remedy}")

    require(bool(cfg.run) or not needs_run, "run", "name a run folder: --run runs/x")
    require(bool(cfg.teacher.path), "teacher.path", "name a teacher: --teacher.path FOLDER_OR_HUB_NAME")
    for name in AT_LEAST_1:
        require(_get(cfg, name) >= 1, name, "give at least 1")
    for name in AT_LEAST_0:
        require(_get(cfg, name) >= 0, name, "give 0 or more")
    for name in ABOVE_0:
        require(0 < _get(cfg, name) < math.inf, name, "give a number above 0")
    for name in ("optimizer.b1", "optimizer.b2"):
        require(0 <= _get(cfg, name) < 1, name, "give a number from 0 to below 1")
    # Above, some pairs run in circles, limit or not.
    require(1 <= cfg.loss.ot.relaxation <= 1.9, "loss.ot.relaxation", "give a number from 1 to 1.9")
    for name in ("teacher.max_length", "student.max_length"):
        require(_get(cfg, name) >= 4, name, "give at least 4 tokens")
    require(cfg.student.remat in get_args(Remat), "student.remat", f"take one of {', '.join(get_args(Remat))}")
    for name, tower in (("teacher", cfg.teacher), ("student", cfg.student)):
        known = get_args(Attention)
        require(tower.attention in known, f"{name}.attention", f"take one of {', '.join(known)}")
        if tower.attention in ("cudnn", "splash") and tower.dtype != "bfloat16":
            raise ConfigError(
                f"{name}.attention={tower.attention} works in bfloat16, not in {name}.dtype={tower.dtype}; "
                f"add --{name}.dtype bfloat16"
            )
    require(cfg.data.max_chars >= cfg.data.min_chars, "data.max_chars", f"give at least min_chars={cfg.data.min_chars}")
    require(cfg.data.max_length_ratio >= 1, "data.max_length_ratio", "give 1 or more")
    require(cfg.student.vocab_size >= 100, "student.vocab_size", "give at least 100 pieces")
    figures = ("R@1", "R@10", "RR@10")
    require(cfg.checkpoint.best_metric in figures, "checkpoint.best_metric", f"take one of {', '.join(figures)}")
    if cfg.student.new_embeddings == "lexicon" and cfg.student.vocabulary == "keep":
        raise ConfigError(
            "student.new_embeddings='lexicon' is for a new vocabulary, and student.vocabulary='keep' makes none; "
            "add --student.vocabulary train"
        )
    size = dataclasses.astuple(cfg.student.size)
    require(min(size) > 0 or max(size) == min(size) == 0, "student.size", "give all four above 0, or none")
    if size[0] and size[0] % size[2]:
        raise ConfigError(f"student.size.width={size[0]} does not divide into heads={size[2]}; take a multiple")
    parse_licences(cfg.licences)
    buckets = cfg.data.buckets
    rising = bool(buckets) and min(buckets) > 0 and list(buckets) == sorted(set(buckets))
    if cfg.data.batching == "buckets":
        require(rising, "data.buckets", "give rising lengths, such as 16 32 64")
        longest = max(cfg.teacher.max_length, cfg.student.max_length)
        require(buckets[-1] >= longest, "data.buckets", f"the last must hold max_length={longest} tokens")


def parse_licences(entries: Iterable[str]) -> dict[str, str]:
    """Part -> licence, from NAME=LICENCE.

    Raises:
      ConfigError: an entry is not of that form, or a part has two licences.
    """
    found: dict[str, str] = {}
    for entry in entries:
        name, _, licence = (text.strip() for text in entry.partition("="))
        if not name or not licence:
            raise ConfigError(
                f"licences={entry!r} names no part or no licence; write NAME=LICENCE, such as tico19='CC0 1.0'"
            )
        if found.setdefault(name, licence) != licence:
            raise ConfigError(f"licences: {name} is {found[name]!r} and {licence!r}; give one licence a part")
    return found


def _get(cfg: Any, name: str) -> Any:
    for part in name.split("."):
        cfg = getattr(cfg, part)
    return cfg

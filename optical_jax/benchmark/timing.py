"""Timing: interleaved repeats after a warm-up, reported as median, fastest and slowest."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax


@dataclass(frozen=True)
class Times:
    """Seconds of repeated measurements."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def total(self) -> float:
        return sum(self.seconds)

    def as_json(self) -> dict[str, float]:
        return {"seconds": self.median, "fastest": min(self.seconds), "slowest": max(self.seconds)}


def clocked(work: Callable[[], Any]) -> float:
    """Seconds until the result of `work` is ready."""
    began = time.perf_counter()
    jax.block_until_ready(work())
    return time.perf_counter() - began


def in_turns(works: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, Times]:
    """Interleaved timing, A, B, A, B, ..., so that slow phases of the machine affect all; each has a warm-up run."""
    for work in works.values():
        jax.block_until_ready(work())
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            seconds[name].append(clocked(work))
    return {name: Times(tuple(each)) for name, each in seconds.items()}


def paired_ratio(a: Sequence[float], b: Sequence[float]) -> float:
    """Median of the ratios a / b over interleaved repeats."""
    return statistics.median(x / y for x, y in zip(a, b, strict=True))

"""How things are timed: after a warm-up, again and again in turns, and told as median and spread."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax


@dataclass(frozen=True)
class Times:
    """Seconds of repeats of one thing."""

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
    """Seconds until the result of `work` is there."""
    began = time.perf_counter()
    jax.block_until_ready(work())
    return time.perf_counter() - began


def in_turns(works: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, Times]:
    """A, B, A, B, ...: what slows the machine for a while slows both. Each runs once before it is timed."""
    for work in works.values():
        jax.block_until_ready(work())
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            seconds[name].append(clocked(work))
    return {name: Times(tuple(each)) for name, each in seconds.items()}


def paired_ratio(a: Sequence[float], b: Sequence[float]) -> float:
    """Median over the turns of a / b."""
    return statistics.median(x / y for x, y in zip(a, b, strict=True))

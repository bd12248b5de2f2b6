"""Benchmark results as tables, and comparison of two results files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Column, Table

from optical_jax.errors import ConfigError

ABOUT = ("work.", "device.", "versions.")
"""Prefixes of entries that describe the benchmark, rather than measurements."""


def read_metrics_file(path: str) -> dict[str, Any]:
    """Read a JSON file of results.

    Raises:
      ConfigError: the file is missing, or not a results file.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"compare={path}: no such file; use files that bench --json wrote") from None
    except (ValueError, UnicodeDecodeError):
        raise ConfigError(f"compare={path} is not JSON; use files that bench --json wrote") from None
    if not isinstance(found, dict) or not all(isinstance(found.get(part[:-1]), dict) for part in ABOUT):
        raise ConfigError(f"compare={path} is not a results file; use files that bench --json wrote")
    return found


def flat(figures: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Flatten nested keys, joined by dots."""
    for key, value in figures.items():
        name = f"{prefix}.{key}" if prefix else key
        if isinstance(value, Mapping):
            yield from flat(value, name)
        else:
            yield name, value


def format_value(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return f"{format_value(value[0])} to {format_value(value[-1])}, {len(value)} steps"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if value != value:
        return "?"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def print_metrics(figures: Mapping[str, Any], console: Console) -> None:
    """Print one table per part of the benchmark."""
    for part, found in figures.items():
        if not isinstance(found, Mapping):
            continue
        if part == "transport":
            print_solvers(found, console)
            continue
        if part == "profile":
            print_profile(found, console)
            continue
        table = Table("figure", "value", title=part, title_justify="left", min_width=60)
        for name, value in flat(found):
            table.add_row(name, format_value(value))
        console.print(table)


def print_solvers(found: Mapping[str, Any], console: Console) -> None:
    """Print the comparison of solvers: mean and maximum per column, L1 errors, time as a share of a step."""
    pairs = found["pairs"]
    about = f"{pairs['batch']} pairs of {pairs['student_tokens']:.0f} x {pairs['teacher_tokens']:.0f} tokens"
    console.print(f"transport: epsilon 0.05 or as named; {about}, vectors: {pairs['source']}")
    table = Table("solver, iterations", "ms", "step", "done", "marginal error", "off converged", box=SIMPLE)
    for name, one in found.items():
        if name == "pairs":
            continue
        share = "-" if one["share_of_step"] is None else f"{one['share_of_step']:.2%}"
        table.add_row(
            name,
            f"{1e3 * one['seconds']:.1f}",
            share,
            f"{one['iterations']:.0f}, {one['iterations_most']:.0f}",
            f"{one['marginal_error_mean']:.0e}, {one['marginal_error']:.0e}",
            f"{one['off_mean']:.0e}, {one['off']:.0e}",
        )
    console.print(table)


def print_profile(found: Mapping[str, Any], console: Console) -> None:
    """Print the profile of a step, as of `measure_profile`."""
    table = Table("part of the step", "ms", "share", title="profile", title_justify="left", box=SIMPLE)
    for part, seconds in found["seconds"].items():
        table.add_row(part, f"{1e3 * seconds:.1f}", f"{found['shares'][part]:.1%}")
    console.print(table)
    console.print(
        f"operations ran in {found['accounted']:.1%} of the {1e3 * found['step_seconds']:.1f} ms of a traced step"
    )


def print_comparison(a: Mapping[str, Any], b: Mapping[str, Any], names: tuple[str, str], console: Console) -> None:
    """Print all entries of two results, the ratio b / a of measurements, and the settings that differ."""
    of_a, of_b = dict(flat(a)), dict(flat(b))
    short = [Path(name).name for name in names]
    heads = short if short[0] != short[1] else list(names)
    table = Table(*(Column(head, overflow="fold") for head in ("figure", *heads)), Column("ratio", no_wrap=True))
    for name in of_a | of_b:
        x, y = (format_value(figures[name]) if name in figures else "" for figures in (of_a, of_b))
        table.add_row(name, x, y, ratio_of(name, of_a.get(name), of_b.get(name)))
    console.print(table)
    both = [name for name in of_a if name in of_b]
    lines = {
        "settings that differ": [name for name in both if name.startswith(ABOUT) and of_a[name] != of_b[name]],
        f"only in {heads[0]}": [name for name in of_a if name not in of_b],
        f"only in {heads[1]}": [name for name in of_b if name not in of_a],
    }
    for what, found in lines.items():
        if found:
            console.print(f"{what}: {', '.join(found)}", markup=False, highlight=False)


def ratio_of(name: str, a: Any, b: Any) -> str:
    """Ratio b / a of two measurements of equal sign; empty otherwise."""
    numbers = all(isinstance(x, int | float) and not isinstance(x, bool) for x in (a, b))
    return f"{b / a:.3f}" if numbers and not name.startswith(ABOUT) and a * b > 0 else ""

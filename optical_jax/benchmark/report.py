"""A bench's figures as tables for people, and two of them side by side."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from optical_jax.errors import ConfigError


def read_figures(path: str) -> dict[str, Any]:
    """A bench's JSON file.

    Raises:
      ConfigError: it is not there, or holds something else.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"compare={path}: no such file; name files that bench --json wrote") from None
    except (ValueError, UnicodeDecodeError):
        raise ConfigError(f"compare={path} is no JSON; name files that bench --json wrote") from None
    if not isinstance(found, dict) or "versions" not in found:
        raise ConfigError(f"compare={path} is JSON of something else; name files that bench --json wrote")
    return found


def flat(figures: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested keys as one, joined by dots."""
    for key, value in figures.items():
        name = f"{prefix}.{key}" if prefix else key
        if isinstance(value, Mapping):
            yield from flat(value, name)
        else:
            yield name, value


def told(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return f"{told(value[0])} to {told(value[-1])}, {len(value)} steps"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if value != value:
        return "?"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def print_figures(figures: Mapping[str, Any], console: Console) -> None:
    """One table a part; those of transport and of the profile have forms of their own."""
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
            table.add_row(name, told(value))
        console.print(table)


def print_solvers(found: Mapping[str, Any], console: Console) -> None:
    """Means before worsts. Errors and distances are L1; the share is of the step."""
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
    """Parts of a step in their order; see `measure_profile`."""
    table = Table("part of the step", "ms", "share", title="profile", title_justify="left", box=SIMPLE)
    for part, seconds in found["seconds"].items():
        table.add_row(part, f"{1e3 * seconds:.1f}", f"{found['shares'][part]:.1%}")
    console.print(table)
    console.print(
        f"operations ran in {found['accounted']:.1%} of the {1e3 * found['step_seconds']:.1f} ms of a traced step"
    )


def print_comparison(a: Mapping[str, Any], b: Mapping[str, Any], names: tuple[str, str], console: Console) -> None:
    """Every figure that both have, and b / a of the numbers."""
    of_a, of_b = dict(flat(a)), dict(flat(b))
    table = Table("figure", *names, "ratio")
    for name in [name for name in of_a if name in of_b]:
        x, y = of_a[name], of_b[name]
        numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in (x, y)) and x
        table.add_row(name, told(x), told(y), f"{y / x:.3f}" if numbers else "")
    console.print(table)

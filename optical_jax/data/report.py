"""What became of every line of a bitext, and how long its texts are: as JSON for env.json, as a table for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Int

from optical_jax.data.formats import InputFile

PERCENTILES = (50, 90, 99, 100)


@dataclass
class SideLengths:
    """Lengths in tokens of one side, after cutting."""

    tokens: int
    truncated: int
    """Texts that were cut to the limit."""
    percentiles: dict[str, int]

    @classmethod
    def of(cls, lengths: Int[np.ndarray, "N"], truncated: int) -> SideLengths:
        at = np.percentile(lengths, PERCENTILES, method="higher")
        return cls(int(lengths.sum()), truncated, {f"p{p}": int(v) for p, v in zip(PERCENTILES, at, strict=True)})


@dataclass
class BitextReport:
    """Every line of a language's files is kept, dropped for a reason, or listed as bad: the three add up."""

    language: str
    files: list[InputFile] = field(default_factory=list)
    lines: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    """Pairs left out, by reason."""
    bad_lines: list[str] = field(default_factory=list)
    """FILE:LINE: what, of lines that are no pair (data.max_bad_lines lets some be)."""
    english_characters: int = 0
    foreign_characters: int = 0
    lengths: dict[str, SideLengths] = field(default_factory=dict)
    """By tower (student, teacher), filled in by tokenisation."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"dropped": dict(sorted(self.dropped.items()))}


def print_reports(reports: Mapping[str, Iterable[BitextReport]], console: Any = None) -> None:
    """A table with a row a language and split; `reports` maps the split's name to its reports."""
    from rich.console import Console
    from rich.table import Table

    table = Table(
        "language", "split", "files", "lines", "pairs", "tokens", "truncated", "p50/p99", "left out", title="bitext"
    )
    for split, of_split in reports.items():
        for report in of_split:
            reasons = dict(report.dropped) | ({"bad lines": len(report.bad_lines)} if report.bad_lines else {})
            sides = report.lengths.values()
            table.add_row(
                report.language,
                split,
                str(len(report.files)),
                f"{report.lines:,}",
                f"{report.kept:,}",
                " / ".join(f"{side.tokens:,}" for side in sides),
                " / ".join(f"{side.truncated:,}" for side in sides),
                " ".join(
                    f"{name} {side.percentiles['p50']}/{side.percentiles['p99']}"
                    for name, side in report.lengths.items()
                ),
                ", ".join(f"{reason} {count:,}" for reason, count in sorted(reasons.items())),
            )
    (console or Console()).print(table)

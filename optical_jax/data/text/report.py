"""Bitext statistics (pairs kept, dropped by reason, bad lines, token lengths), as bitext.json and as printed lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Int

from optical_jax.data.text.formats import InputFile

PERCENTILES = (50, 90, 99, 100)


@dataclass
class SideLengths:
    """Lengths in tokens of one side, after truncation."""

    tokens: int
    truncated: int
    """Number of truncated texts."""
    percentiles: dict[str, int]
    unknown: float = 0.0
    """Share of unknown tokens ([UNK]), 0 to 1."""

    @classmethod
    def of(cls, lengths: Int[np.ndarray, "N"], truncated: int, unknown: float = 0.0) -> SideLengths:
        at = np.percentile(lengths, PERCENTILES, method="higher")
        percentiles = {f"p{p}": int(v) for p, v in zip(PERCENTILES, at, strict=True)}
        return cls(int(lengths.sum()), truncated, percentiles, unknown)


@dataclass
class BitextReport:
    """Counts of a language's lines: kept, dropped by reason, and bad lines add up to all lines."""

    language: str
    files: list[InputFile] = field(default_factory=list)
    lines: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    """Pairs left out, by reason."""
    notes: list[str] = field(default_factory=list)
    """FILE: how it was read, where that was recognised: encoding, delimiter, header, columns."""
    bad_lines: list[str] = field(default_factory=list)
    """FILE:LINE: reason, of malformed lines (up to data.max_bad_lines)."""
    warnings: list[str] = field(default_factory=list)
    """What looks wrong in the pairs of a file, with the setting that mends it (data/text/checks.py)."""
    refusals: list[str] = field(default_factory=list)
    """Those warnings for which training stops, unless data.checks=warn."""
    same_texts: bool = False
    """Dev pairs that are single lines of the training's own texts."""
    first: list[tuple[str, str]] = field(default_factory=list)
    """The first pairs as read, English and foreign, before filtering."""
    examples: dict[str, str] = field(default_factory=dict)
    """Reason -> FILE:LINE and text of the first pair that was left out for it."""
    english_characters: int = 0
    foreign_characters: int = 0
    lengths: dict[str, SideLengths] = field(default_factory=dict)
    """Token lengths by tower (student, teacher), set by tokenisation."""

    def as_json(self) -> dict[str, Any]:
        """All counts and warnings; the texts of pairs stay in their files."""
        counts = {name: value for name, value in asdict(self).items() if name not in ("first", "examples")}
        return counts | {"dropped": dict(sorted(self.dropped.items()))}


SHOWN = 60
"""Characters of a text in a printed pair."""


def short(text: str) -> str:
    """A text as it is shown in a line with others."""
    text = "".join(c if c.isprintable() else " " for c in text)
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."


def report_lines(reports: Mapping[str, Iterable[BitextReport]]) -> list[str]:
    """Printed summary, some lines per language and split; `reports` maps split names to reports."""
    lines = []
    for split, of_split in reports.items():
        for report in of_split:
            files = f"{len(report.files)} file" + "s" * (len(report.files) != 1)
            lines.append(f"{report.language} {split}: {report.kept:,} pairs of {report.lines:,} lines in {files}")
            lines += [f"  {note}" for note in report.notes]
            for name, side in report.lengths.items():
                p50, p99 = side.percentiles["p50"], side.percentiles["p99"]
                cut = f", {side.truncated:,} cut" if side.truncated else ""
                unknown = f"{100 * side.unknown:.1f} % unknown"
                lines.append(
                    f"  {name}: {side.tokens:,} tokens, {p50} a text (median), 99 % within {p99}{cut}, {unknown}"
                )
            reasons = dict(report.dropped) | ({"bad lines": len(report.bad_lines)} if report.bad_lines else {})
            if reasons:
                counted = (f"{reason.replace('_', ' ')} {count:,}" for reason, count in sorted(reasons.items()))
                lines.append("  left out: " + ", ".join(counted))
            lines += [f"  bad line: {line}" for line in report.bad_lines]
            if split == "train":
                lines += [f"  pair {n}: {short(a)} | {short(b)}" for n, (a, b) in enumerate(report.first, start=1)]
            lines += [f"  warning: {warning}" for warning in report.warnings if warning not in report.refusals]
            lines += [f"  WARNING, training stops: {warning}" for warning in report.refusals]
    return lines

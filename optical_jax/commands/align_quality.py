"""`python -m optical_jax align --bitext`: how good a run's plans are as word alignments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from optical_jax.alignment.quality import AlignmentQuality

FIGURES = ("AER", "precision", "recall", "F1")


def print_quality(found: Mapping[str, AlignmentQuality], console: Console) -> None:
    """A group of rows a language: the plan, and what it is compared with."""
    from optical_jax.evaluation.text_report import make_table, say, start_group

    agreement = ("same word", "same links")
    table = make_table(console, "lang", "links of", "pairs", *FIGURES, *agreement, left=2)
    for language, quality in found.items():
        start_group(console, table)
        figures = quality.figures()
        for system in ("plan", "aligner", "diagonal"):
            row = [f"{figures[system][name]:.3f}" for name in FIGURES] if system in figures else [""] * len(FIGURES)
            if system == "plan":
                agrees = figures.get("agreement", {"argmax": 0.0, "F1": 0.0})
                row += [f"{agrees['argmax']:.3f}", f"{agrees['F1']:.3f}"]
            elif system not in figures:
                continue
            count = figures["gold_pairs"] or figures["pairs"]
            first, style = (language, "bold") if system == "plan" else ("", None)
            table.add_row(first, system, str(count), *row, style=style)
    console.print(table)
    say(console, "same word: foreign words with a link of the aligner's that the plan gives most mass along")
    say(console, "same links: F1 of the plan's links with the aligner's")

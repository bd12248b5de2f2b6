"""Heat maps of transport plans between words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from optical_jax.plots.style import FAINT_INK, INK, drawing, measure, save

SHARES = LinearSegmentedColormap.from_list("shares", ["#f1f6fb", "#c9dff0", "#86bcdc", "#3c89bd", "#1b5794", "#0b2f5e"])
"""Colour map of shares of a word's mass from 0 to 1, of about uniform lightness steps."""
NUMBERED = 0.05
"""Smallest share that is printed as a number."""
CAPTION = "Which English word each foreign word is matched to"
PAGE = 10.8
"""Largest width in inches of panels side by side: at 700 pixels, words are then as large as body text."""
PANELS_A_ROW = 3
WORD_SIZE, NUMBER_SIZE, TITLE_SIZE, CAPTION_SIZE = 12, 10.5, 12, 15
CELL_WIDTH, CELL_HEIGHT = 0.66, 0.4
WIDEST_CELL = 1.25
MARGIN, PANEL_GAP, ROW_GAP, WORD_GAP = 0.2, 0.4, 0.35, 0.12
HEAD_HEIGHT, TITLE_HEIGHT, CAPTION_HEIGHT = 0.28, 0.28, 0.5
SLANT = 40
"""Rotation in degrees of column words that are wider than a cell."""
LONGEST_WORD = 30


class WordPlan(Protocol):
    """A transport plan between the words of two texts, such as `alignment.plans.AlignedPlan`."""

    @property
    def foreign(self) -> Sequence[str]: ...
    @property
    def english(self) -> Sequence[str]: ...
    def shares(self) -> Float[np.ndarray, "S T"]: ...


def draw_plans(plans: Sequence[WordPlan], path: Path, titles: Sequence[str] = ()) -> None:
    """Plot heat maps of plans, one panel per pair: foreign words as rows, English words as columns, rows in per cent.

    Args:
      plans: one or more, from `align_texts`.
      titles: one per plan, such as "Swahili · mbwa mkubwa", or empty.
    """
    words = [[shorten(word) for word in (*plan.foreign, *plan.english)] for plan in plans]
    with drawing([CAPTION, *titles, *(word for each in words for word in each)]):
        panels = [PlanPanel(plan, title) for plan, title in zip(plans, titles or [""] * len(plans), strict=True)]
        # As many side by side as fit; a column is as wide, and a row as high, as its largest panel.
        for count in range(min(PANELS_A_ROW, len(panels)), 0, -1):
            columns = [panels[n::count] for n in range(count)]
            widths = [max(p.label for p in c) + max(p.width for p in c) for c in columns]
            if sum(widths) + PANEL_GAP * (count - 1) <= PAGE or count == 1:
                break
        rows = [panels[n : n + count] for n in range(0, len(panels), count)]
        heights = [max(p.head for p in row) + max(p.height for p in row) for row in rows]
        width = max(sum(widths) + PANEL_GAP * (count - 1), measure(CAPTION, CAPTION_SIZE, bold=True)) + 2 * MARGIN
        height = sum(heights) + ROW_GAP * (len(rows) - 1) + CAPTION_HEIGHT + 2 * MARGIN

        figure = Figure(figsize=(width, height))
        # One set of axes over all of it, in inches from the upper left corner.
        page = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        page.set(xlim=(0, width), ylim=(height, 0))
        page.set_axis_off()
        page.text(MARGIN, MARGIN, CAPTION, size=CAPTION_SIZE, color=FAINT_INK, va="top", fontweight="bold")
        top = MARGIN + CAPTION_HEIGHT
        for row, row_height in zip(rows, heights, strict=True):
            left, head = MARGIN, max(p.head for p in row)
            for panel, column, column_width in zip(row, columns, widths, strict=False):
                panel.draw(page, left, left + max(p.label for p in column), top + head)
                left += column_width + PANEL_GAP
            top += row_height + ROW_GAP
        save(figure, path, dpi=150)


class PlanPanel:
    """One heat map and its size, in inches."""

    def __init__(self, plan: WordPlan, title: str) -> None:
        self.shares, self.title = plan.shares(), title
        self.rows, self.columns = [shorten(w) for w in plan.foreign], [shorten(w) for w in plan.english]
        across = [measure(word, WORD_SIZE) for word in self.columns]
        level = max(CELL_WIDTH, max(across) + WORD_GAP)
        self.slanted = level > WIDEST_CELL or level * len(across) > PAGE / 2
        self.cell = CELL_WIDTH if self.slanted else level
        turned = np.deg2rad(SLANT)
        self.label = max(measure(word, WORD_SIZE) for word in self.rows) + WORD_GAP
        self.head = (
            (max(across) * np.sin(turned) if self.slanted else 0.0) + HEAD_HEIGHT + (TITLE_HEIGHT if title else 0.0)
        )
        # The last slanted word may extend beyond its column, as may a long title.
        over = max((n + 0.5) * self.cell + w * np.cos(turned) for n, w in enumerate(across)) if self.slanted else 0.0
        named = measure(title, TITLE_SIZE, bold=True) - self.label
        self.width, self.height = max(self.cell * len(across), over, named), CELL_HEIGHT * len(self.rows)

    def draw(self, page: Any, edge: float, left: float, top: float) -> None:
        """Draw with the first cell at (left, top), and the title at the edge."""
        if self.title:
            page.text(edge, top - self.head, self.title, size=TITLE_SIZE, color=INK, fontweight="bold", va="top")
        for n, word in enumerate(self.columns):
            x = left + (n + 0.5) * self.cell
            turn = {"rotation": SLANT, "ha": "left", "rotation_mode": "anchor"} if self.slanted else {"ha": "center"}
            page.text(x, top - 0.1, word, size=WORD_SIZE, color=INK, va="baseline", **turn)
        for n, word in enumerate(self.rows):
            y = top + (n + 0.5) * CELL_HEIGHT
            page.text(left - WORD_GAP, y, word, size=WORD_SIZE, color=INK, ha="right", va="center_baseline")
        for (row, column), share in np.ndenumerate(self.shares):
            x, y = left + column * self.cell, top + row * CELL_HEIGHT
            page.add_patch(
                Rectangle((x + 0.015, y + 0.015), self.cell - 0.03, CELL_HEIGHT - 0.03, facecolor=SHARES(float(share)))
            )
            if share >= NUMBERED:
                page.text(
                    x + self.cell / 2,
                    y + CELL_HEIGHT / 2,
                    f"{100 * share:.0f}%",
                    size=NUMBER_SIZE,
                    color=readable_on(SHARES(float(share))),
                    ha="center",
                    va="center_baseline",
                )


def shorten(word: str) -> str:
    return word if len(word) <= LONGEST_WORD else word[: LONGEST_WORD - 1] + "…"


def readable_on(colour: Any) -> str:
    """Text colour, dark or white, with the higher contrast (WCAG) to the background colour."""
    behind = luminance(colour)
    return INK if (behind + 0.05) / (luminance(INK) + 0.05) > 1.05 / (behind + 0.05) else "white"


def luminance(colour: Any) -> float:
    """Relative luminance of an sRGB colour, as WCAG 2 defines it."""
    parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

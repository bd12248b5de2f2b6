"""Pictures of plans, of training, of results and of a step's time; and the style of all pictures that matplotlib draws.

Figures are objects of their own: pyplot, with its windows and its current figure, is left alone.
"""

from __future__ import annotations

import logging
import unicodedata
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontEntry, fontManager
from matplotlib.ft2font import FT2Font
from matplotlib.patches import Rectangle

if TYPE_CHECKING:
    from optical_jax.alignment.plans import AlignedPlan

log = logging.getLogger(__name__)

FONT = "DejaVu Sans"
"""Comes with matplotlib: Latin, Greek, Cyrillic, Arabic and some more."""
INK, FAINT_INK = "#12263f", "#5b6b7f"
SHARES = LinearSegmentedColormap.from_list("shares", ["#f1f6fb", "#c9dff0", "#86bcdc", "#3c89bd", "#1b5794", "#0b2f5e"])
"""From nothing to all of a word's mass; each step is darker by about as much as the last."""
NUMBERED = 0.05
"""Shares below it are left without a number."""
DEPTHS = (1, 5, 10, 100)
MOST_PIXELS = 8000


# ---- plans -------------------------------------------------------------------------------------------------------

CAPTION = "Which English word each foreign word is matched to"
PAGE = 10.8
"""Inches that panels may take side by side: at 700 pixels across, words are then as large as text."""
PANELS_A_ROW = 3
WORD_SIZE, NUMBER_SIZE, TITLE_SIZE, CAPTION_SIZE = 12, 10.5, 12, 15
CELL_WIDTH, CELL_HEIGHT = 0.66, 0.4
WIDEST_CELL = 1.25
MARGIN, PANEL_GAP, ROW_GAP, WORD_GAP = 0.2, 0.4, 0.35, 0.12
HEAD_HEIGHT, TITLE_HEIGHT, CAPTION_HEIGHT = 0.28, 0.28, 0.5
SLANT = 40
"""Degrees by which column words are turned where they are wider than a cell."""
LONGEST_WORD = 30


def draw_plans(plans: Sequence[AlignedPlan], path: Path, titles: Sequence[str] = ()) -> None:
    """Heat maps, a panel a pair: foreign words down, English words across, and where each row's mass goes, in per cent.

    Args:
      plans: one or more, from `align_texts`.
      titles: one a plan, such as "Swahili · mbwa mkubwa"; none for none.
    """
    words = [[shorten(word) for word in (*plan.foreign, *plan.english)] for plan in plans]
    with drawing([CAPTION, *titles, *(word for each in words for word in each)]):
        panels = [PlanPanel(plan, title) for plan, title in zip(plans, titles or [""] * len(plans), strict=True)]
        # As many side by side as the page holds; a column is as wide, a row as high, as its largest panel.
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
    """One heat map and the room it takes, in inches."""

    def __init__(self, plan: AlignedPlan, title: str) -> None:
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
        # The last slanted word hangs over its column; so may a long title.
        over = max((n + 0.5) * self.cell + w * np.cos(turned) for n, w in enumerate(across)) if self.slanted else 0.0
        named = measure(title, TITLE_SIZE, bold=True) - self.label
        self.width, self.height = max(self.cell * len(across), over, named), CELL_HEIGHT * len(self.rows)

    def draw(self, page: Any, edge: float, left: float, top: float) -> None:
        """With the first cell at (left, top), and the title at the edge."""
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


def measure(text: str, size: float, *, bold: bool = False) -> float:
    """Width of a text in inches, in the fonts of the moment."""
    figure = Figure(dpi=100)
    drawn = figure.text(0, 0, text, size=size, fontweight="bold" if bold else "normal")
    return drawn.get_window_extent(FigureCanvasAgg(figure).get_renderer()).width / 100


def readable_on(colour: Any) -> str:
    """Dark or white, whichever has more contrast (WCAG's ratio) with the colour behind."""
    behind = luminance(colour)
    return INK if (behind + 0.05) / (luminance(INK) + 0.05) > 1.05 / (behind + 0.05) else "white"


def luminance(colour: Any) -> float:
    """Relative luminance of an sRGB colour, as WCAG 2 defines it."""
    parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


# ---- curves ------------------------------------------------------------------------------------------------------

# Okabe and Ito's, which the colour-blind tell apart too; without its yellow, which is too faint on white.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
STROKES = ("-", (0, (5, 2)), (0, (1, 1.5)))
SYSTEMS: dict[str, dict[str, Any]] = {
    "untrained": {"color": "#d55e00", "linestyle": (0, (5, 2)), "linewidth": 1.5},
    "bm25": {"color": FAINT_INK, "linestyle": (0, (1, 1.5)), "linewidth": 1.8},
    "teacher": {"color": "#009e73", "linewidth": 0.9},
    "mt": {"color": "#cc79a7", "linewidth": 1.5},
    "mt-bm25": {"color": "#cc79a7", "linestyle": (0, (1, 1.5)), "linewidth": 1.8},
    "fused": {"color": "#e69f00", "linestyle": "-", "linewidth": 1.8},
    "dictionary": {"color": "#e69f00", "linestyle": (0, (1, 1.5)), "linewidth": 1.8},
}
OWN: dict[str, Any] = {"color": "#0072b2", "linewidth": 2.4}
LANGUAGES_A_ROW = 5


def draw_training(records: Sequence[Mapping[str, Any]], path: Path) -> None:
    """The records of a metrics.jsonl: loss by step; dev R@1, and RR@10 as a thin line, by step for each language."""
    losses = [(record["step"], record["loss"]) for record in records if "loss" in record]
    dev = [record for record in records if record.get("dev")]
    languages = list(dict.fromkeys(language for record in dev for language in record["dev"]))
    with drawing(languages):
        # The legend stands beside the panels, in as many columns as it takes.
        figure = Figure(figsize=(9.6 + 0.9 * (len(languages) // 13) if dev else 4.8, 3.6), layout="constrained")
        panels = figure.subplots(1, 2 if dev else 1, squeeze=False)[0]
        panels[0].plot([s for s, _ in losses], [x for _, x in losses], color=COLOURS[0], marker=".", markersize=5)
        panels[0].set(xlabel="step", title="training loss")
        if not losses:
            panels[0].set_axis_off()
            panels[0].text(0.5, 0.5, "none logged yet", transform=panels[0].transAxes, ha="center", color=FAINT_INK)
        for n, language in enumerate(languages):
            colour, stroke = COLOURS[n % len(COLOURS)], STROKES[n // len(COLOURS) % len(STROKES)]
            found = [(record["step"], record["dev"][language]) for record in dev if language in record["dev"]]
            for metric, look in (("R@1", {"linewidth": 2.0, "marker": "."}), ("RR@10", {"linewidth": 0.7})):
                points = [(step, figures[metric]) for step, figures in found if metric in figures]
                label = language if metric == "R@1" else None
                x, y = [step for step, _ in points], [value for _, value in points]
                panels[1].plot(x, y, label=label, color=colour, linestyle=stroke, **look)
        if dev:
            panels[1].set(xlabel="step", title="dev R@1 (thin: RR@10)", ylim=(-0.02, 1.02))
            panels[1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), ncols=1 + (len(languages) - 1) // 12)
        save(figure, path, dpi=110)


def draw_evaluation(figures: Mapping[str, Any], path: Path) -> None:
    """A metrics.json of eval.py: the share of relevant documents among the first k, a panel a language."""
    own = figures["system"]
    systems = {own: figures["languages"], **figures["references"]}
    languages = list(figures["languages"])
    title = f"{figures['collection']}, {figures['split']}: recall within the first k documents"
    with drawing([title, *languages]):
        rows = -(-len(languages) // LANGUAGES_A_ROW)
        columns = -(-len(languages) // rows)
        figure = Figure(figsize=(max(2.1 * columns + 0.8, 4.6), 2.0 * rows + 1.1), layout="constrained")
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, color=INK)
        grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
        lines = {}
        for n, panel in enumerate(grid.flat):
            if n >= len(languages):
                panel.set_axis_off()
                continue
            for system, by_language in systems.items():
                if found := by_language.get(languages[n]):
                    look = OWN if system == own else SYSTEMS[system]
                    values = [found[f"R@{k}"] for k in DEPTHS]
                    (lines[system],) = panel.plot(DEPTHS, values, marker=".", markersize=5, **look)
            panel.set(xscale="log", ylim=(-0.03, 1.03), title=languages[n])
            panel.set_xticks(DEPTHS, [str(k) for k in DEPTHS])
            panel.minorticks_off()
        figure.legend(list(lines.values()), list(lines), loc="outside lower left", ncols=len(lines))
        save(figure, path, dpi=110)


# ---- a step's time -----------------------------------------------------------------------------------------------

KINDS = {"teacher": "#009e73", "student forward": "#56b4e9", "student backward": "#0072b2", "transport": "#d55e00"}
"""Colours of parts, by what stands before a colon in their names; the others are grey."""


def draw_profile(profile: Mapping[str, Any], path: Path) -> None:
    """The profile of a bench's figures: a bar a part of the step, in milliseconds and in per cent."""
    parts, shares = list(profile["seconds"]), profile["shares"]
    took = [1e3 * profile["seconds"][part] for part in parts]
    with drawing(parts):
        figure = Figure(figsize=(7.8, 0.3 * len(parts) + 1.0), layout="constrained")
        panel = figure.subplots()
        bars = panel.barh(parts, took, color=[KINDS.get(part.split(":")[0], FAINT_INK) for part in parts], height=0.72)
        panel.bar_label(bars, [f"{ms:.3g} ms  {100 * shares[p]:.1f}%" for p, ms in zip(parts, took, strict=True)],
                        padding=4, size=9, color=INK)  # fmt: skip
        panel.set(xlabel="ms", xlim=(0, 1.25 * max(took)), ylim=(len(parts) - 0.5, -0.5))
        panel.set_axisbelow(True)
        panel.grid(visible=False, axis="y")
        panel.tick_params(axis="y", length=0)
        title = f"Where a step's time goes: {sum(took):,.4g} of its {1e3 * profile['step_seconds']:,.4g} ms"
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold", color=INK)
        save(figure, path, dpi=90)


# ---- style, fonts, files -----------------------------------------------------------------------------------------

STYLE = {
    "text.parse_math": False,  # "$" in a word is a dollar
    "text.color": INK,
    "axes.labelcolor": FAINT_INK,
    "axes.edgecolor": "#c3ccd6",
    "axes.titlecolor": INK,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6ebf0",
    "xtick.color": FAINT_INK,
    "ytick.color": FAINT_INK,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.frameon": False,
    "legend.fontsize": 9,
}


@contextmanager
def drawing(texts: Iterable[str]) -> Iterator[None]:
    """Our style and fonts for these texts, whatever the user's matplotlibrc says; afterwards all is as it was.

    Letters that no font here has are drawn as boxes, and told in one line.
    """
    families, missing = find_fonts("".join(texts))
    if missing:
        names = [unicodedata.name(letter, f"U+{ord(letter):04X}") for letter in missing]
        scripts = sorted({name.split()[0].title() for name in names})
        log.warning(
            "no font here has %s letters, so the picture shows boxes for them; install one, such as Noto Sans %s",
            ", ".join(scripts),
            scripts[0],
        )
    fonts_log = logging.getLogger("matplotlib.font_manager")
    level = fonts_log.level
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        settings: dict[Any, Any] = {**STYLE, "font.family": families}
        matplotlib.rcParams.update(settings)
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        # It would tell of every fallback font that has no bold letters.
        fonts_log.setLevel(logging.ERROR)
        try:
            yield
        finally:
            fonts_log.setLevel(level)


def find_fonts(text: str) -> tuple[list[str], list[str]]:
    """Families that together have the letters of `text`, as far as there are fonts; and the letters none has."""
    # Joiners, direction marks and the like are not drawn.
    wanted = {c for c in text if unicodedata.category(c)[0] != "C" and not c.isspace()}
    families, missing = [FONT], wanted - letters_of(next(f.fname for f in fontManager.ttflist if f.name == FONT))
    for font in sorted(fontManager.ttflist, key=preference) if missing else ():
        # "Last Resort" has a box for every letter there is.
        if not font.name.startswith("Last Resort") and (found := missing & letters_of(font.fname)):
            families.append(font.name)
            missing -= found
            if not missing:
                break
    return families, sorted(missing)


def preference(font: FontEntry) -> tuple[Any, ...]:
    """Upright before slanted, regular before light and bold, Noto Sans before others; then by name."""
    weight = font.weight if isinstance(font.weight, int) else 400
    return font.style != "normal", abs(weight - 400), not font.name.startswith("Noto Sans"), font.name


@cache
def letters_of(file: str) -> frozenset[str]:
    """Empty for a font that cannot be read, or that has pictures instead of outlines, such as colour emoji."""
    try:
        font = FT2Font(file)
        return frozenset(map(chr, font.get_charmap())) if font.scalable else frozenset()
    except (RuntimeError, OSError):
        return frozenset()


def save(figure: Figure, path: Path, dpi: float) -> None:
    """Write a PNG whole or not at all: a kill in the middle leaves the old one."""
    figure.set_dpi(min(dpi, MOST_PIXELS / max(figure.get_size_inches())))
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    try:
        with new.open("wb") as file:
            FigureCanvasAgg(figure).print_png(file)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)

"""Pictures of plans, of training and of results. matplotlib is imported here and nowhere else."""

from __future__ import annotations

import logging
import unicodedata
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from optical_jax.alignment import Alignment

log = logging.getLogger(__name__)
# It would tell of every fallback font that has no bold letters.
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)

FONT = "DejaVu Sans"
"""Comes with matplotlib; Latin, Greek, Cyrillic, Arabic and some more."""
COLOURS = tuple(matplotlib.color_sequences["tab10"])
NUMBERED = 0.05
"""Shares below it are left without a number in a heat map."""
CELL_ASPECT = 0.62
"""Height of a cell over its width."""
PANELS_A_ROW = 3
DEPTHS = (1, 5, 10, 100)


# ---- plans -------------------------------------------------------------------------------------------------------


def draw_plans(alignments: Sequence[Alignment], path: Path, titles: Sequence[str] = ()) -> None:
    """Heat maps, a panel a pair: which English word (column) each foreign word (row) learns from, in per cent."""
    columns = min(PANELS_A_ROW, len(alignments))
    rows = -(-len(alignments) // columns)
    # A column of panels is as wide, a row as high, as its largest plan.
    widths = [max(len(a.english) for a in alignments[n::columns]) + 1.5 for n in range(columns)]
    heights = [max(len(a.foreign) for a in alignments[n * columns : (n + 1) * columns]) + 1.5 for n in range(rows)]
    figure = Figure(
        figsize=(0.72 * sum(widths) + 0.9 * columns, 0.62 * sum(heights) + 0.5 * rows), layout="constrained"
    )
    grid = figure.add_gridspec(rows, columns, width_ratios=widths, height_ratios=heights)
    for n, alignment in enumerate(alignments):
        panel = figure.add_subplot(grid[divmod(n, columns)])
        draw_plan(panel, alignment)
        if titles:
            panel.set_title(titles[n], fontsize=13, fontweight="bold", loc="left", pad=12)
    save(figure, path, dpi=150)


def draw_plan(panel: Axes, alignment: Alignment) -> None:
    """One heat map, foreign words down, English words across."""
    shares = alignment.shares()
    panel.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0, aspect=CELL_ASPECT)
    panel.set_anchor("NW")
    panel.set_xticks(range(len(alignment.english)), alignment.english, rotation=30, ha="left", fontsize=13)
    panel.set_yticks(range(len(alignment.foreign)), alignment.foreign, fontsize=13)
    panel.xaxis.tick_top()
    panel.tick_params(length=0, pad=6)
    panel.set_xticks(np.arange(len(alignment.english) + 1) - 0.5, minor=True)
    panel.set_yticks(np.arange(len(alignment.foreign) + 1) - 0.5, minor=True)
    panel.grid(which="minor", color="white", linewidth=2.5)
    panel.tick_params(which="minor", length=0)
    panel.spines[:].set_visible(False)
    for (row, column), share in np.ndenumerate(shares):
        if share >= NUMBERED:
            colour = "white" if share > 0.55 else "#15324f"
            panel.text(column, row, f"{100 * share:.0f}", ha="center", va="center", color=colour, fontsize=12)


# ---- curves ------------------------------------------------------------------------------------------------------


def draw_training(records: Sequence[Mapping[str, Any]], path: Path) -> None:
    """The lines of a metrics.jsonl: loss by step, and dev R@1 by step for each language."""
    losses = [(record["step"], record["loss"]) for record in records if "loss" in record]
    dev = [record for record in records if "dev" in record]
    figure = Figure(figsize=(9.0 if dev else 4.8, 3.4), layout="constrained")
    panels = figure.subplots(1, 2 if dev else 1, squeeze=False)[0]
    panels[0].plot(*zip(*losses, strict=True) if losses else ((), ()), color=COLOURS[0], marker=".", markersize=4)
    panels[0].set(xlabel="step", ylabel="loss", title="training")
    if dev:
        languages = list(dict.fromkeys(language for record in dev for language in record["dev"]))
        for n, language in enumerate(languages):
            points = [(r["step"], r["dev"][language]["R@1"]) for r in dev if language in r["dev"]]
            panels[1].plot(*zip(*points, strict=True), label=language, marker=".", markersize=4, **style(n))
        panels[1].set(xlabel="step", ylabel="R@1", title="dev pairs: own sentence found first", ylim=(-0.02, 1.02))
        panels[1].legend(fontsize=8, ncols=1 + len(languages) // 10, loc="center left", bbox_to_anchor=(1.0, 0.5))
    for panel in panels:
        panel.grid(alpha=0.3)
    save(figure, path, dpi=110)


def draw_evaluation(figures: Mapping[str, Any], path: Path) -> None:
    """A metrics.json of eval.py: share of queries answered within the first k, a panel a language."""
    own = "student" if "run" in figures else "model"
    systems = {own: figures["languages"], **figures["references"]}
    languages = list(figures["languages"])
    columns = min(4, len(languages))
    rows = -(-len(languages) // columns)
    figure = Figure(figsize=(2.6 * columns + 1.2, 2.3 * rows + 0.6), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flat)
    for panel, language in zip(panels, languages, strict=False):
        for n, (system, by_language) in enumerate(systems.items()):
            if language in by_language:
                values = [by_language[language][f"R@{k}"] for k in DEPTHS]
                line = {"linewidth": 2.2} if system == own else {"linewidth": 1.2, "linestyle": "--"}
                panel.plot(DEPTHS, values, label=system, marker=".", color=COLOURS[n], **line)
        panel.set(xscale="log", ylim=(-0.02, 1.02), title=language)
        panel.set_xticks(DEPTHS, [str(k) for k in DEPTHS])
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    for panel in panels[len(languages) :]:
        panel.set_visible(False)
    handles, names = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right upper", fontsize=8)
    figure.supxlabel("first k documents", fontsize=9)
    figure.supylabel("recall", fontsize=9)
    figure.suptitle(f"{figures['collection']}, {figures['split']}, {figures['scoring']}", fontsize=10)
    save(figure, path, dpi=110)


def style(n: int) -> dict[str, Any]:
    """Ten colours, then again with another line."""
    return {"color": COLOURS[n % len(COLOURS)], "linestyle": ("-", "--", ":")[n // len(COLOURS) % 3]}


# ---- files and fonts ---------------------------------------------------------------------------------------------


def save(figure: Figure, path: Path, dpi: int) -> None:
    """Write a PNG, in fonts that have its letters where this machine has such; beside it first, then in its place."""
    texts = [text for text in figure.findobj(Text) if isinstance(text, Text)]
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with fonts_for("".join(text.get_text() for text in texts)) as families:
            for text in texts:
                text.set_fontfamily(families)
            figure.savefig(partial, format="png", dpi=dpi)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def fonts_for(text: str) -> Iterator[list[str]]:
    """Font families that together have all letters of `text`, as far as this machine has them."""
    families, missing = [FONT], {c for c in text if not c.isspace()} - letters_of(font_file(FONT))
    for name, file in installed_fonts() if missing else ():
        if found := missing & letters_of(file):
            families.append(name)
            missing -= found
            if not missing:
                break
    with warnings.catch_warnings():
        if missing:
            scripts = sorted({unicodedata.name(c, "UNKNOWN").split()[0].title() for c in missing})
            log.warning(
                "no font here has %s letters, so the picture shows boxes; install one, such as Noto Sans %s",
                ", ".join(scripts), scripts[0],
            )  # fmt: skip
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield families


def font_file(family: str) -> str:
    return next(font.fname for font in fontManager.ttflist if font.name == family)


def installed_fonts() -> list[tuple[str, str]]:
    """Family and file of every upright font, regular weights, Noto's before others."""
    fonts = {
        font.name: font.fname
        for font in fontManager.ttflist
        # "Last Resort" has a box for every letter there is.
        if font.style == "normal" and font.weight == 400 and not font.name.startswith("Last Resort")
    }
    return sorted(fonts.items(), key=lambda font: ("Noto Sans" not in font[0], font[0]))


@cache
def letters_of(file: str) -> frozenset[str]:
    return frozenset(map(chr, FT2Font(file).get_charmap()))

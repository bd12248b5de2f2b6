"""Matplotlib style, fonts and PNG output of all plots. pyplot and its global state are not used."""

from __future__ import annotations

import logging
import unicodedata
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontEntry, fontManager
from matplotlib.ft2font import FT2Font

log = logging.getLogger(__name__)

FONT = "DejaVu Sans"
"""Matplotlib's default font, with Latin, Greek, Cyrillic, Arabic and some other scripts."""
INK, FAINT_INK = "#12263f", "#5b6b7f"
MOST_PIXELS = 8000


# ---- plans -------------------------------------------------------------------------------------------------------


def measure(text: str, size: float, *, bold: bool = False) -> float:
    """Width of a text in inches, in the current fonts."""
    figure = Figure(dpi=100)
    drawn = figure.text(0, 0, text, size=size, fontweight="bold" if bold else "normal")
    return drawn.get_window_extent(FigureCanvasAgg(figure).get_renderer()).width / 100


# ---- a step's time -----------------------------------------------------------------------------------------------


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
    """Context with our style and fonts for these texts, whatever the user's matplotlibrc says.

    Letters that no installed font has are drawn as boxes, with one warning.
    """
    families, missing = find_fonts("".join(texts))
    if missing:
        names = [unicodedata.name(letter, f"U+{ord(letter):04X}") for letter in missing]
        scripts = sorted({name.split()[0].title() for name in names})
        log.warning(
            "no installed font has %s letters, so the plot shows boxes for them; install one, such as Noto Sans %s",
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
        # It would warn of every fallback font without a bold weight.
        fonts_log.setLevel(logging.ERROR)
        try:
            yield
        finally:
            fonts_log.setLevel(level)


def find_fonts(text: str) -> tuple[list[str], list[str]]:
    """Font families that together cover the letters of `text`, and the letters that no font has."""
    # Control and format characters (joiners, direction marks) are not drawn.
    wanted = {c for c in text if unicodedata.category(c)[0] != "C" and not c.isspace()}
    families, missing = [FONT], wanted - letters_of(next(f.fname for f in fontManager.ttflist if f.name == FONT))
    for font in sorted(fontManager.ttflist, key=preference) if missing else ():
        # "Last Resort" has only boxes, for every letter.
        if not font.name.startswith("Last Resort") and (found := missing & letters_of(font.fname)):
            families.append(font.name)
            missing -= found
            if not missing:
                break
    return families, sorted(missing)


def preference(font: FontEntry) -> tuple[Any, ...]:
    """Sort key of fonts: upright before slanted, regular before light and bold, Noto Sans before others; then name."""
    weight = font.weight if isinstance(font.weight, int) else 400
    return font.style != "normal", abs(weight - 400), not font.name.startswith("Noto Sans"), font.name


@cache
def letters_of(file: str) -> frozenset[str]:
    """Letters of a font; empty if it cannot be read or has bitmaps instead of outlines, such as colour emoji."""
    try:
        font = FT2Font(file)
        return frozenset(map(chr, font.get_charmap())) if font.scalable else frozenset()
    except (RuntimeError, OSError):
        return frozenset()


def save(figure: Figure, path: Path, dpi: float) -> None:
    """Write a PNG atomically: an interrupted write leaves the old file."""
    figure.set_dpi(min(dpi, MOST_PIXELS / max(figure.get_size_inches())))
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    try:
        with new.open("wb") as file:
            FigureCanvasAgg(figure).print_png(file)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)

"""Contact sheets of retrieved images, and heat maps of transport plans over an image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from optical_jax.plots.style import FAINT_INK, INK, drawing, measure, save

RIGHT = "#009e73"
"""Colour of the frame and tick of a relevant image; the tick is readable without colour too."""
CELL = 1.45
"""Longest side of an image, in inches."""
MARGIN, GAP, ROW_GAP = 0.2, 0.16, 0.28
QUERY_SIZE, NOTE_SIZE = 12, 9
QUERY_LINE, NOTE_LINE, QUERY_GAP = 0.24, 0.17, 0.07
LEAST_WIDTH = 6.0


class SheetImage(NamedTuple):
    picture: UInt8[np.ndarray, "H W 3"]
    title: str
    score: float
    is_right: bool


def contact_sheet(rows: Sequence[tuple[str, Sequence[SheetImage]]], path: Path) -> None:
    """Plot retrieved images as a PNG, one row per query, with titles and scores and the relevant ones marked.

    Args:
      rows: query text and results, best first, possibly none.
      path: of the PNG.
    """
    texts = [text for query, found in rows for text in (query, *(picture.title for picture in found))]
    with drawing([*texts, "✓…"]):
        columns = max((len(found) for _, found in rows), default=0)
        width = max(columns * (CELL + GAP) - GAP, LEAST_WIDTH) + 2 * MARGIN
        queries = [wrap(query, QUERY_SIZE, width - 2 * MARGIN) for query, _ in rows]
        heights = [len(lines) * QUERY_LINE + (QUERY_GAP + CELL + 2 * NOTE_LINE + 0.08) * bool(found)
                   for lines, (_, found) in zip(queries, rows, strict=True)]  # fmt: skip
        height = sum(heights) + ROW_GAP * max(len(rows) - 1, 0) + 2 * MARGIN
        figure, page = new_page(width, height)
        top = MARGIN
        for lines, (_, found), row_height in zip(queries, rows, heights, strict=True):
            for n, line in enumerate(lines):
                page.text(MARGIN, top + n * QUERY_LINE, line, size=QUERY_SIZE, color=INK, va="top")
            for n, each in enumerate(found):
                draw_found(page, each, MARGIN + n * (CELL + GAP), top + len(lines) * QUERY_LINE + QUERY_GAP)
            top += row_height + ROW_GAP
        save(figure, path, dpi=120)


def draw_found(page: Any, found: SheetImage, left: float, top: float) -> None:
    """Draw one image in its cell, centred and framed, with score and title below."""
    colour, middle, bottom = RIGHT if found.is_right else FAINT_INK, left + CELL / 2, top + CELL + 0.04
    width, height = (CELL * side / max(found.picture.shape[:2]) for side in found.picture.shape[1::-1])
    x, y = middle - width / 2, top + (CELL - height) / 2
    place_image(page, found.picture, x, y, width, height)
    page.add_patch(
        Rectangle((x, y), width, height, fill=False, edgecolor=colour, linewidth=3 if found.is_right else 0.6)
    )
    note = f"{found.score:.3f}{' ✓' * found.is_right}"
    weight = "bold" if found.is_right else "normal"
    page.text(middle, bottom, note, size=NOTE_SIZE, color=colour, ha="center", va="top", fontweight=weight)
    title = fit(found.title, NOTE_SIZE, CELL)
    page.text(middle, bottom + NOTE_LINE, title, size=NOTE_SIZE, color=FAINT_INK, ha="center", va="top")


# ---- plans over images -------------------------------------------------------------------------------------------

HEAT = "#d55e00"
MOST_OPAQUE = 0.85
PANEL = 2.2
"""Longest side of a panel, in inches."""
PANELS_A_ROW = 4
TITLE_LINE = 0.26


def plan_over_image(
    path: Path, picture: UInt8[np.ndarray, "H W 3"], plan: Float[np.ndarray, "L rows cols"], tokens: Sequence[str]
) -> None:
    """Plot a plan over an image as a PNG: one panel per caption token, the image in grey under a heat map of its mass.

    Opacity is the patch's share of the token's mass, on one scale for all panels; a title has the token and the largest
    share of any patch.

    Args:
      path: of the PNG.
      picture: the part of the image that the patches cover.
      plan: mass moved between each token and each patch, at least zero; a token without mass is left grey.
      tokens: one per panel, at least one.

    Raises:
      ValueError: the numbers of tokens and panels differ or are zero.
    """
    if len(plan) != len(tokens) or not len(plan):
        raise ValueError(f"{len(tokens)} tokens for {len(plan)} panels; use one token per panel, and at least one")
    mass = plan.sum(axis=(1, 2), keepdims=True)
    shares = np.divide(plan, mass, out=np.zeros(plan.shape), where=mass > 0)
    largest = shares.max()
    caption = f"Share of each token's mass on a patch; the strongest orange is {largest:.0%}"
    with drawing([*tokens, caption]):
        count = min(PANELS_A_ROW, len(plan))
        cell_width, cell_height = (PANEL * side / max(picture.shape[:2]) for side in picture.shape[1::-1])
        rows = -(-len(plan) // count)
        page_width = max(count * (cell_width + GAP) - GAP, measure(caption, NOTE_SIZE)) + 2 * MARGIN
        page_height = rows * (cell_height + TITLE_LINE + GAP) + NOTE_LINE + 2 * MARGIN
        figure, page = new_page(page_width, page_height)
        grey = in_grey(picture)
        for n, (token, share) in enumerate(zip(tokens, shares, strict=True)):
            x = MARGIN + n % count * (cell_width + GAP)
            y = MARGIN + n // count * (cell_height + TITLE_LINE + GAP)
            number = f" {share.max():.0%}"
            title = fit(token, QUERY_SIZE, cell_width - measure(number, NOTE_SIZE)) or "…"
            page.text(x, y, title, size=QUERY_SIZE, color=INK, va="top")
            page.text(x + cell_width, y + 0.03, number, size=NOTE_SIZE, color=FAINT_INK, va="top", ha="right")
            y += TITLE_LINE
            place_image(page, grey, x, y, cell_width, cell_height)
            place_image(page, heat(share, largest), x, y, cell_width, cell_height, interpolation="nearest")
        bottom = page_height - MARGIN
        page.text(MARGIN, bottom, caption, size=NOTE_SIZE, color=FAINT_INK, va="bottom")
        save(figure, path, dpi=120)


def in_grey(picture: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """Convert to light grey, as a background for a heat map."""
    luma = picture @ np.array([0.299, 0.587, 0.114])
    return np.repeat((90 + luma * 165 / 255)[:, :, None], 3, axis=2).astype(np.uint8)


def heat(shares: Float[np.ndarray, "rows cols"], largest: float) -> Float[np.ndarray, "rows cols 4"]:
    """RGBA heat map of one colour, with opacity by each patch's share of `largest`."""
    opaque = MOST_OPAQUE * shares / largest if largest > 0 else np.zeros_like(shares)
    return np.concatenate([np.broadcast_to(to_rgb(HEAT), (*shares.shape, 3)), opaque[:, :, None]], axis=2)


# ---- pages and words ---------------------------------------------------------------------------------------------


def new_page(width: float, height: float) -> tuple[Figure, Any]:
    """A figure with one set of axes over all of it, in inches from the upper left corner."""
    figure = Figure(figsize=(width, height))
    page = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    page.set(xlim=(0, width), ylim=(height, 0))
    page.autoscale(False)
    page.set_axis_off()
    return figure, page


def place_image(
    page: Any, picture: np.ndarray, x: float, y: float, width: float, height: float, interpolation: str = "antialiased"
) -> None:
    page.imshow(picture, extent=(x, x + width, y + height, y), aspect="auto", interpolation=interpolation)


def wrap(text: str, size: float, width: float) -> list[str]:
    """Wrap text to lines of at most `width` inches, breaking inside words only if they are wider than a line."""
    lines = [""]
    for word in text.split():
        joined = f"{lines[-1]} {word}".strip()
        if measure(joined, size) <= width:
            lines[-1] = joined
            continue
        if lines[-1]:
            lines.append("")
        while measure(word, size) > width and len(word) > 1:
            part = longest_start(word, size, width)
            lines[-1:] = [word[:part], ""]
            word = word[part:]
        lines[-1] = word
    return lines


def fit(text: str, size: float, width: float) -> str:
    """Truncate text with "…" to `width` inches."""
    if measure(text, size) <= width:
        return text
    return text[: longest_start(text, size, width - measure("…", size))] + "…"


def longest_start(text: str, size: float, width: float) -> int:
    """Number of letters, at least one, that fit into `width` inches."""
    low, high = 1, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if measure(text[:middle], size) <= width else (low, middle - 1)
    return low

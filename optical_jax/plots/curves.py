"""Plots of training curves, recall by depth and language, and the profile of a training step."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from optical_jax.errors import MACHINE_ERRNOS
from optical_jax.plots.style import FAINT_INK, INK, drawing, save

DEPTHS = (1, 5, 10, 100)


# Okabe and Ito's colour-blind-safe palette, without its yellow, which is too faint on white.
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
    """Plot a metrics.jsonl: loss by step; dev R@1, and RR@10 as a thin line, by step for each language."""
    losses = [(record["step"], record["loss"]) for record in records if "loss" in record]
    dev = [record for record in records if record.get("dev")]
    languages = list(dict.fromkeys(language for record in dev for language in record["dev"]))
    with drawing(languages):
        # The legend is beside the panels, in as many columns as needed.
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
    """Plot a metrics.json of eval.py: recall within the first k documents, one panel per language."""
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


KINDS = {"teacher": "#009e73", "student forward": "#56b4e9", "student backward": "#0072b2", "transport": "#d55e00"}
"""Colours of parts, by the prefix of their names before a colon; others are grey."""


def draw_profile(profile: Mapping[str, Any], path: Path) -> None:
    """Plot the profile of a benchmark: one bar per part of a training step, in milliseconds and per cent."""
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


log = logging.getLogger(__name__)


def try_to_draw(draw: Callable[[Any, Path], None], content: Any, path: Path) -> bool:
    """Call `draw(content, path)`; if it fails, log the reason in one line and continue without the plot.

    Returns:
      True if it was drawn.

    Raises:
      OSError: the disk is full or read-only, which is an error in every command.
    """
    try:
        draw(content, path)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in MACHINE_ERRNOS:
            raise
        # An older plot would be out of date.
        with contextlib.suppress(OSError):
            path.unlink()
        log.warning("%s could not be plotted; all other files are complete: %s: %s", path, type(error).__name__, error)
        return False
    return True


WAYS = {"t2i": "text-to-image", "i2t": "image-to-text"}
ROW = 0.27
"""Height per language, in inches."""
MARKS = {"untrained": "|", "teacher": "D"}


def draw_recalls(figures: Mapping[str, Any], path: Path) -> None:
    """Plot a metrics.json of eval.py on images: R@1 of the system as a dot with a line to its R@10, and R@1 of others.

    Languages are ordered by rSum, the best first.
    """
    own, references = figures["system"], figures["references"]
    languages = sorted(figures["languages"], key=lambda language: -figures["languages"][language]["rSum"])
    title = f"{figures['collection']}, {figures['split']}: R@1, and a line to R@10"
    with drawing([title, *languages]):
        height = ROW * len(languages) + 1.35
        figure = Figure(figsize=(7.8, max(height, 1.8)), layout="constrained")
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold", color=INK)
        panels = figure.subplots(1, 2, sharey=True)
        shown: dict[str, Any] = {}
        for panel, (way, heading) in zip(panels, WAYS.items(), strict=True):
            for row, language in enumerate(languages):
                found = figures["languages"][language]
                first, tenth = found[f"{way} R@1"], found[f"{way} R@10"]
                panel.plot([first, tenth], [row, row], color=OWN["color"], linewidth=1.2, alpha=0.45)
                (shown[own],) = panel.plot(first, row, "o", color=OWN["color"], markersize=6, zorder=3)
                for name, mark in MARKS.items():
                    if other := references.get(name, {}).get(language):
                        look = {"color": SYSTEMS[name]["color"], "markersize": 9 if mark == "|" else 4.5}
                        (shown[name],) = panel.plot(other[f"{way} R@1"], row, mark, markeredgewidth=1.8, **look)
            panel.set(xlim=(-0.02, 1.02), ylim=(len(languages) - 0.4, -0.6), title=heading)
            panel.grid(visible=False, axis="y")
            panel.tick_params(axis="y", length=0)
        panels[0].set_yticks(range(len(languages)), languages)
        for label in panels[0].get_yticklabels():
            label.set_color(FAINT_INK)
        figure.legend(list(shown.values()), list(shown), loc="outside lower left", ncols=len(shown))
        save(figure, path, dpi=110)

"""A picture of recall both ways, between captions and pictures, a row a language."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from optical_jax.plots.curves import OWN, SYSTEMS
from optical_jax.plots.style import FAINT_INK, INK, drawing, save

WAYS = {"t2i": "captions look for pictures", "i2t": "pictures look for captions"}
ROW = 0.27
"""Inches a language."""
MARKS = {"untrained": "|", "teacher": "D"}


def draw_recalls(figures: Mapping[str, Any], path: Path) -> None:
    """A metrics.json of eval.py on pictures: R@1 of the system as a dot, from which a line leads to its R@10; and the
    R@1 of its references.

    Languages stand in the order of their rSum, the best first.
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

"""Plots of a study as SVG with the colours of the surrounding HTML page. matplotlib is used here and in plots/.

An arm has the same colour and marker in all plots, by its position in the study.
"""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from optical_jax.plots.curves import COLOURS, STROKES
from optical_jax.plots.style import FAINT_INK, INK, STYLE, drawing
from optical_jax.studies.design import Study, Task, group_of
from optical_jax.studies.folders import dev_lines
from optical_jax.studies.results import TIMING, Results, Row, Summary, all_references
from optical_jax.studies.tables import scoring_of

MARKERS = "os^DvPX"
VARIABLES = {
    INK: "var(--ink)",
    FAINT_INK: "var(--faint)",
    str(STYLE["axes.edgecolor"]): "var(--edge)",
    str(STYLE["grid.color"]): "var(--grid)",
    "#ffffff": "var(--paper)",
}
"""matplotlib colours -> CSS variables of the page, which has a light and a dark theme."""
LABEL_GAP = 0.15
"""Least distance in inches between the centres of two labels at the ends of curves."""
GROUP_TITLES = {"low": "low-resource languages", "high": "high-resource languages"}


def look(study: Study, arm: str) -> dict[str, Any]:
    n = [each.name for each in study.arms].index(arm)
    return {"color": colour_of(n), "marker": MARKERS[n % len(MARKERS)]}


def colour_of(number: int) -> str:
    """Colour of the arm at this position. Black becomes the page's text colour, visible on a dark page."""
    colour = COLOURS[number % len(COLOURS)]
    return INK if colour == "#000000" else colour


def to_svg(figure: Figure, title: str) -> str:
    """Convert a matplotlib figure to an inline SVG element: text stays text, page colours become CSS variables."""
    file = io.StringIO()
    # Ids of clipping paths must differ between figures of one page, and be reproducible.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": title}):
        FigureCanvasSVG(figure).print_svg(file, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, variable)
    # The page determines the size; the title is the label for screen readers.
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) width="([\d.]+)pt"', r'\1 style="max-width:\2pt" role="img"', svg, count=1)
    return svg.replace(">", f" aria-label={quoted(title)}>", 1)


def quoted(text: str) -> str:
    return '"' + text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;") + '"'


def transparent(figure: Figure) -> None:
    figure.patch.set_alpha(0.0)
    for panel in figure.axes:
        panel.patch.set_alpha(0.0)


# ---- score against budget ----------------------------------------------------------------------------------------


def draw_budget(study: Study, results: Results, *, seconds: bool) -> str | None:
    """Learning curves: dev metric over pairs or seconds of steps, mean over languages and seeds, band of one sd."""
    metric = next(iter(study.tuned_arms[0].trials.values())).checkpoint.best_metric
    took = {(row.arm, row.language, row.seed): row.value for row in results.rows if row.collection == TIMING}
    groups = [g for g in ("low", "high") if any(group_of(task) == g for task in results.done)]
    if not groups:
        return None
    title = f"dev {metric} over {'seconds of steps' if seconds else 'pairs seen'}"
    with drawing([arm.name for arm in study.arms]):
        height = max(2.7, LABEL_GAP * len(study.tuned_arms))  # of a panel, so that all labels fit beside it
        figure = Figure(figsize=(4.9 * len(groups) + 0.3, height + 0.8), layout="constrained")
        panels = figure.subplots(1, len(groups), squeeze=False, sharey=True)[0]
        for panel, group in zip(panels, groups, strict=True):
            ends = []
            for arm in study.tuned_arms:
                tasks = [task for task in results.done if task.arm == arm.name and group_of(task) == group]
                if not tasks:
                    continue
                steps, mean, sd = curve(tasks, metric)
                scale = float(tasks[0].config.data.global_batch)
                if seconds:
                    scale = float(np.median([took[task.arm, task.language, task.seed] for task in tasks]))
                style = look(study, arm.name)
                x = steps * scale
                panel.plot(x, mean, linewidth=1.8, markersize=4, **style)
                panel.fill_between(x, mean - sd, mean + sd, color=style["color"], alpha=0.15, linewidth=0)
                ends.append((float(mean[-1]), arm.name, style["color"], float(x[-1])))
            panel.set(xlabel="seconds of steps" if seconds else "pairs seen", title=GROUP_TITLES[group])
            panel.set_xlim(0, None)
            label_ends(panel, ends, LABEL_GAP / height)
        panels[0].set_ylabel(f"{metric} on dev pairs", color=FAINT_INK)
        transparent(figure)
        return to_svg(figure, title)


def curve(tasks: Sequence[Task], metric: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Steps, means over languages and then seeds, standard deviations over seeds (0 for one seed).

    Only seeds with the most languages are included.
    """
    by_seed: dict[int, list[dict[int, float]]] = {}
    for task in tasks:
        by_seed.setdefault(task.seed, []).append({step: figures[metric] for step, figures in dev_lines(task)})
    most = max(map(len, by_seed.values()))
    by_seed = {seed: runs for seed, runs in by_seed.items() if len(runs) == most}
    steps = sorted(set.intersection(*(set(run) for runs in by_seed.values() for run in runs)))
    means = np.array([[np.mean([run[step] for run in runs]) for step in steps] for runs in by_seed.values()])
    sd = means.std(axis=0, ddof=1) if len(means) > 1 else np.zeros(len(steps))
    return np.array(steps), means.mean(axis=0), sd


def label_ends(panel: Any, ends: Sequence[tuple[float, str, Any, float]], gap: float) -> None:
    """Label the ends of curves: names at the right, moved apart within the panel, with a line to the end of the curve.

    Args:
      ends: (y, name, colour, x) of each curve.
      gap: least distance between two labels, as a share of the panel's height.
    """
    low, high = panel.get_ylim()
    gap, right, ends = gap * (high - low), panel.get_xlim()[1], sorted(ends)
    places = list(itertools.accumulate((y for y, *_ in ends), lambda below, y: max(y, below + gap)))
    # Labels pushed beyond the panel push those below them down again.
    for n in reversed(range(len(places))):
        places[n] = min(places[n], high if n + 1 == len(places) else places[n + 1] - gap)
    for place, (y, name, colour, x) in zip(places, ends, strict=True):
        panel.annotate(
            name,
            (x, y),
            (1.03 * right, place),
            color=colour,
            size=9,
            va="center",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "relpos": (0, 0.5), "color": colour, "linewidth": 0.6, "alpha": 0.5},
        )


# ---- scatter -----------------------------------------------------------------------------------------------------


def draw_low_high(study: Study, results: Results, collection: str, metric: str = "R@1") -> str | None:
    """Scatter plot of low- over high-resource means, a point per arm with one sd; None without both groups."""
    found = {
        (s.arm, s.group): s
        for s in results.summaries
        if (s.collection, s.scoring, s.metric) == (collection, scoring_of(study, collection), metric)
    }
    both = [arm.name for arm in study.arms if {(arm.name, "low"), (arm.name, "high")} <= found.keys()]
    if not both:
        return None

    def bar(summary: Summary) -> float:
        return summary.sd if summary.sd == summary.sd else 0.0

    with drawing(both):
        figure = Figure(figsize=(5.2, 4.2), layout="constrained")
        panel = figure.subplots()
        points = []
        for arm in both:
            x, y, style = found[arm, "high"], found[arm, "low"], look(study, arm)
            panel.errorbar(
                x.mean,
                y.mean,
                xerr=bar(x),
                yerr=bar(y),
                markersize=7,
                capsize=2,
                elinewidth=1,
                **style,
            )
            points.append((x.mean, y.mean, arm, style["color"]))
        panel.set(xlabel=f"{metric}, high-resource", ylabel=f"{metric}, low-resource")
        panel.margins(0.16)
        label_points(panel, points)
        transparent(figure)
        return to_svg(figure, f"{collection}: {metric} of low- against high-resource languages")


def label_points(panel: Any, points: Sequence[tuple[float, float, str, Any]]) -> None:
    """Label points with names; overlapping labels are moved up."""
    (left, right), (low, high) = panel.get_xlim(), panel.get_ylim()
    width, gap, placed = right - left, 0.05 * (high - low), list[tuple[float, float]]()
    for x, y, name, colour in sorted(points, key=lambda point: (point[1], point[0])):
        to_left = x > left + 0.72 * width
        # Points that the label would cover, and labels already placed.
        behind = [b for a, b, _, _ in points if 0 < (x - a if to_left else a - x) < 0.25 * width]
        behind += [b for a, b in placed if abs(x - a) < 0.3 * width]
        place = y
        while any(abs(place - b) < gap for b in behind):
            place += gap / 4
        placed.append((x, place))
        shift = (-0.022 if to_left else 0.022) * width
        panel.text(x + shift, place, name, color=colour, size=9, ha="right" if to_left else "left", va="center")


def draw_sharpness(study: Study, results: Results, collection: str, metric: str = "R@1") -> str | None:
    """Scatter plot of the score over plan entropy and nearest cosine: faint points per language, solid arm means."""
    figures = {
        "plan_entropy": "entropy of the plan (about 0.5: one to one, 1: spread evenly)",
        "greedy_cosine": "cosine of each token with its nearest (training texts)",
    }
    scores = means_by_language(
        results.rows,
        lambda row: (row.collection, row.scoring, row.metric) == (collection, scoring_of(study, collection), metric),
    )
    panels_of = {
        name: found
        for name in figures
        if (found := means_by_language(results.rows, lambda row, name=name: row.metric == name))
        and any(key in scores for key in found)
    }
    if not panels_of:
        return None
    with drawing([arm.name for arm in study.arms]):
        figure = Figure(figsize=(4.9 * len(panels_of) + 0.3, 3.7), layout="constrained")
        panels = figure.subplots(1, len(panels_of), squeeze=False, sharey=True)[0]
        for panel, (name, found) in zip(panels, panels_of.items(), strict=True):
            points = []
            for arm in study.arms:
                keys = [key for key in found if key[0] == arm.name and key in scores]
                if not keys:
                    continue
                x, y, style = (
                    np.array([found[k] for k in keys]),
                    np.array([scores[k] for k in keys]),
                    look(study, arm.name),
                )
                panel.plot(x, y, linestyle="none", markersize=4, alpha=0.35, **style)
                panel.plot(x.mean(), y.mean(), linestyle="none", markersize=9, **style)
                points.append((float(x.mean()), float(y.mean()), arm.name, style["color"]))
            panel.set_xlabel(figures[name])
            panel.margins(0.12)
            label_points(panel, points)
        panels[0].set_ylabel(f"{metric}, {collection}")
        transparent(figure)
        return to_svg(figure, f"{collection}: {metric} over the sharpness of the matching")


def means_by_language(rows: Sequence[Row], wanted: Callable[[Row], bool]) -> Mapping[tuple[str, str], float]:
    """(arm, language) -> mean over seeds."""
    return {key: float(np.mean(values)) for key, values in values_by_language(rows, wanted).items()}


def values_by_language(rows: Sequence[Row], wanted: Callable[[Row], bool]) -> Mapping[tuple[str, str], list[float]]:
    """(arm, language) -> metric values of all seeds."""
    found: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        if wanted(row):
            found.setdefault((row.arm, row.language), []).append(row.value)
    return found


# ---- languages ---------------------------------------------------------------------------------------------------

REFERENCE_LOOKS: dict[str, dict[str, Any]] = {
    "untrained": {"marker": "|", "color": FAINT_INK},
    "bm25": {"marker": "x", "color": FAINT_INK},
    "dictionary": {"marker": "+", "color": FAINT_INK},
    "teacher": {"marker": "*", "color": FAINT_INK},
}


def draw_languages(study: Study, results: Results, collection: str, metric: str = "R@1") -> str | None:
    """Dot plot of means over seeds, a row per language and a point per arm; None for a single language."""
    scores = means_by_language(
        results.rows,
        lambda row: (row.collection, row.scoring, row.metric) == (collection, scoring_of(study, collection), metric),
    )
    groups = {row.language: row.group for row in results.rows}
    languages = [
        x for g in ("low", "high") for x in study.languages if groups.get(x) == g and any(x == k[1] for k in scores)
    ]
    if len(languages) < 2:
        return None
    with drawing(languages):
        figure = Figure(figsize=(7.6, 0.34 * len(languages) + 1.3), layout="constrained")
        panel = figure.subplots()
        references = all_references(study)
        for number, name in enumerate((*references, *(arm.name for arm in study.arms))):
            style = REFERENCE_LOOKS[name.partition(" ")[0]] if name in references else look(study, name)
            found = [(scores[name, x], n) for n, x in enumerate(languages) if (name, x) in scores]
            if found:
                x, y = [a for a, _ in found], [b for _, b in found]
                panel.plot(x, y, linestyle="none", markersize=7, alpha=0.9, label=name, zorder=3 + number, **style)
        panel.set_yticks(range(len(languages)), languages)
        panel.set(ylim=(len(languages) - 0.4, -0.6), xlabel=f"{metric}, {collection}")
        lows = sum(groups[x] == "low" for x in languages)
        if 0 < lows < len(languages):
            panel.axhline(lows - 0.5, color=FAINT_INK, linewidth=0.8, linestyle=STROKES[1])
            for words, place, side in (("low-resource", lows - 0.55, "bottom"), ("high-resource", lows - 0.45, "top")):
                panel.text(
                    1.0,
                    place,
                    words,
                    transform=panel.get_yaxis_transform(),
                    ha="right",
                    va=side,
                    size=8,
                    color=FAINT_INK,
                )
        panel.tick_params(axis="y", length=0)
        figure.legend(loc="outside upper left", ncols=5, handletextpad=0.2, columnspacing=1.0)
        transparent(figure)
        return to_svg(figure, f"{collection}: {metric} by language")

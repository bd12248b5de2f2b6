"""Main result table of a study for the terminal; report.html has all results."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from optical_jax.evaluation.report import make_console, make_table, say, start_group
from optical_jax.studies.design import Study, reference_of
from optical_jax.studies.results import Results, all_references
from optical_jax.studies.tables import scoring_of, shown_of
from optical_jax.studies.verdict import (
    LEVEL,
    best_arms,
    collections_of,
    groups_of,
    is_significant,
    progress_line,
    summaries_by_key,
    tests_by_key,
)


def print_study(study: Study, results: Results, console: Console | None = None) -> None:
    """Print means over seeds on the first collection, a row per arm grouped by metric, with significance marks."""
    console = console or make_console(markup=True)
    say(console, progress_line(results))
    collections = collections_of(study, results)
    if not collections:
        return
    name, reference = collections[0], reference_of(study)
    scoring = scoring_of(study, name)
    groups, summaries, tests = groups_of(results, name), summaries_by_key(results), tests_by_key(results, reference)
    told = f"; tested against {reference}" if tests else ""
    say(console, f"{name}, {scoring}, means over seeds{told}")
    table = make_table(console, "metric", "arm", *map(escape, groups), left=2)
    for metric in shown_of(study, name):
        start_group(console, table)
        best = {group: best_arms(study, results, group, name, metric, scoring) for group in groups}
        first = True
        for arm in (*(arm.name for arm in study.arms), *all_references(study)):
            row = []
            for group in groups:
                summary, test = (
                    summaries.get((arm, group, name, scoring, metric)),
                    tests.get((arm, group, name, metric)),
                )
                figure = f"{summary.mean:.3f}" if summary else ""
                figure = f"[bold]{figure}[/bold]" if arm in best[group] else figure
                row.append(figure + (("+" if test.difference > 0 else "-") if test and is_significant(test) else " "))
            if any(cell.strip() for cell in row):
                table.add_row(metric if first else "", escape(arm), *row)
                first = False
    console.print(table)
    if tests:
        say(
            console,
            f"+ -: above or below {reference}, p < {LEVEL:g} by random signs over queries, after Holm's correction",
        )

"""Evaluation output: TREC run files, per_query.jsonl, and result tables for a terminal of 80 columns."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from optical_jax.data.coverage import TokenCounts
from optical_jax.errors import DataError
from optical_jax.evaluation.retrieval import Evaluation, mean_by_unit
from optical_jax.printing import printable_lines
from optical_jax.retrieval.metrics import METRICS, PerQuery
from optical_jax.retrieval.search import write_trec_run
from optical_jax.retrieval.significance import ROUNDS, PairedTest

# ---- files -------------------------------------------------------------------------------------------------------


def write_files(folder: Path, evaluation: Evaluation, tag: str | None) -> None:
    """Write TREC runs (run.<lang>[.<direction>].trec) of the system, and per_query.jsonl of it and its references.

    Older TREC runs in the folder are deleted.

    Args:
      tag: system name (last column) in TREC files; None writes no TREC files.
    """
    for old in folder.glob("run.*.trec"):
        old.unlink()
    for language, directions in evaluation.found[evaluation.system].items() if tag else ():
        for name, one in directions.items():
            path = folder / f"run.{language}{f'.{name}' * (len(directions) > 1)}.trec"
            write_trec_run(path, one.ranking, one.queries, one.documents, tag or "")
    with (folder / "per_query.jsonl").open("w", encoding="utf-8") as file:
        for system, languages in evaluation.found.items():
            for language, directions in languages.items():
                for way, one in directions.items():
                    for query, metrics in one.per_query.items():
                        row: dict[str, Any] = {"system": system, "language": language, "query": query}
                        if len(directions) > 1:
                            row = {"system": system, "language": language, "way": way, "query": query}
                            row["picture"] = one.unit_of.get(query, query)
                        file.write(json.dumps(row | metrics, ensure_ascii=False) + "\n")


PRINTED = tuple(dict.fromkeys(("R@1", "R@5", "R@10", "R@100", "RR@10", *METRICS)))
"""Order of metrics in the table of a comparison."""


def read_per_query(
    folder: Path, system: str, languages: Sequence[str], metrics: Sequence[str] = METRICS
) -> dict[str, PerQuery]:
    """Read per_query.jsonl: language, or "LANGUAGE DIRECTION" if there are two -> unit of paired tests -> metrics."""
    found: dict[str, PerQuery] = {}
    unit_of: dict[str, dict[str, str]] = {}
    with (folder / "per_query.jsonl").open(encoding="utf-8") as file:
        for row in map(json.loads, file):
            if row["system"] == system and row["language"] in languages:
                name = f"{row['language']} {row['way']}" if "way" in row else row["language"]
                found.setdefault(name, {})[row["query"]] = {metric: row[metric] for metric in metrics}
                if "picture" in row:
                    unit_of.setdefault(name, {})[row["query"]] = row["picture"]
    if missing := sorted(set(languages) - {name.partition(" ")[0] for name in found}):
        raise DataError(
            f"{folder / 'per_query.jsonl'} has no queries of {', '.join(missing)}; leave out --lang {missing[0]}"
        )
    ordered = sorted(found, key=lambda name: languages.index(name.partition(" ")[0]))
    return {name: mean_by_unit(found[name], unit_of[name]) if name in unit_of else found[name] for name in ordered}


def tests_json(tests: Sequence[PairedTest]) -> list[dict[str, Any]]:
    """Paired tests as JSON rows; with two directions, "way" names the direction."""
    rows = []
    for test in tests:
        language, _, way = test.language.partition(" ")
        rows.append(asdict(test) | {"language": language} | ({"way": way} if way else {}))
    return rows


# ---- tables ------------------------------------------------------------------------------------------------------


NARROWEST = 64
"""Columns of the narrowest tables: a smaller terminal wraps their lines, instead of losing digits."""


def make_console(*, markup: bool = False) -> Console:
    """A console for tables, of the terminal's width but at least `NARROWEST`; `markup`: [bold] in a cell is a style."""
    console = Console(markup=markup, emoji=False)
    console.width = max(console.width, NARROWEST)
    return console


def make_table(console: Console, *columns: str, left: int) -> Table:
    """A rich table: the first `left` columns are left-aligned text, the others numbers; no rules outside a terminal."""
    rules = {"box": SIMPLE_HEAD, "padding": 0} if console.is_terminal else {"box": None, "padding": (0, 1, 0, 0)}
    table = Table(pad_edge=False, header_style="bold", **rules)
    for n, name in enumerate(columns):
        table.add_column(name, justify="left" if n < left else "right", no_wrap=True)
    return table


def start_group(console: Console, table: Table) -> None:
    """Separate groups of rows by a rule, or by an empty line outside a terminal."""
    if table.row_count:
        table.add_section()
        if not console.is_terminal:
            table.add_row()


def say(console: Console, line: str) -> None:
    console.print(printable_lines(line), highlight=False, markup=False, emoji=False, soft_wrap=True)


def print_evaluation(evaluation: Evaluation, low_resource: Collection[str], console: Console | None = None) -> None:
    """Print the metrics of the system and its references per language, the means over groups, and the references."""
    console = console or make_console()
    task, origin, own = evaluation.task, evaluation.origin, evaluation.system
    columns = task.columns
    what = f"{origin['run']}, checkpoint {origin['checkpoint']}" if "run" in origin else str(origin["model"])
    say(console, f"{what} on {task.name}, {task.split}: {len(task.documents):,} {task.searched}, {evaluation.scoring}")
    shown = columns.shown if console.width >= columns.wide else columns.narrow
    table = make_table(console, "lang", "system", columns.count[0], *map(head, shown), left=2)
    means = {system: evaluation.means(system) for system in evaluation.found}
    for language in means[own]:
        start_group(console, table)
        for system in (own, *task.references):
            metrics = means.get(system, {}).get(language)
            name, style = (language, "bold") if system == own else ("", None)
            if metrics:
                table.add_row(name, system, str(metrics[columns.count[1]]), *cells(metrics, shown), style=style)
            elif system == "teacher" and own == "student" and task.is_trivial(language):
                table.add_row(name, system, "", "trivial")
    if len(means[own]) > 1:
        start_group(console, table)
        for name, metrics in evaluation.group_means(low_resource).items():
            if metrics:
                table.add_row(name, own, "", *cells(metrics, shown), style="bold")
    console.print(table)
    for line in (*task.notes(evaluation), *truncation_lines(evaluation.record)):
        say(console, line)
    print_references(evaluation, console)


def truncation_lines(record: Mapping[str, Any]) -> Iterator[str]:
    """Lines that say how many documents and queries are longer than the model's maximum length."""
    found = record.get("truncated", {})
    queries = ((f"{language} queries", one) for language, one in found.get("queries", {}).items())
    for what, one in [("documents", found.get("documents")), *queries]:
        if one:
            counts = TokenCounts(texts=one["texts"], truncated=one["truncated"])
            yield from counts.truncation(what, one["max_length"])


def print_references(evaluation: Evaluation, console: Console) -> None:
    """Print the table of references, one row each."""
    task, own, rows = evaluation.task, evaluation.system, evaluation.references()
    if not rows:
        return
    columns = task.columns
    shown = columns.averaged if console.width >= columns.wide else columns.averaged_narrow
    heads = (columns.reference, "langs", *shown, f"{own} {columns.own}", "better", "worse")
    table = make_table(console, *heads, left=1)
    for row in rows:
        counts = ["/".join(str(row.count(direction, sign)) for direction in task.directions) for sign in (1, -1)]
        mine = cells({columns.own: row.own}, [columns.own])
        table.add_row(row.system, str(len(row.languages)), *cells(row.means, shown), *mine, *counts)
    say(console, "")
    console.print(table)
    for line in task.reference_notes:
        say(console, line.format(own=own))


def head(metric: str) -> str:
    """Column head of a metric; with two directions only the R@1 columns name the direction."""
    return metric if metric.endswith("R@1") else metric.split()[-1]


def cells(metrics: Mapping[str, float], shown: Sequence[str]) -> Iterator[str]:
    return (f"{metrics[name]:.{1 if name == 'rSum' else 3}f}" for name in shown)


def print_comparison(tests: Sequence[PairedTest], notes: Sequence[str] = (), console: Console | None = None) -> None:
    """Print paired tests of two runs, one row per language and metric."""
    console = console or make_console()
    table = make_table(console, "lang", "metric", "queries", "A", "B", "B - A", "p rand", "Holm", "p t", "Holm", left=2)
    last = None
    for test in sorted(tests, key=lambda test: (test.language, PRINTED.index(test.metric))):
        if test.language != last:
            start_group(console, table)
        p_values = (test.p_randomisation, test.p_randomisation_holm, test.p_ttest, test.p_ttest_holm)
        table.add_row(
            "" if last == test.language else test.language,
            test.metric,
            str(test.queries),
            f"{test.mean_a:.3f}",
            f"{test.mean_b:.3f}",
            f"{test.difference:+.3f}",
            *(f"{p:.4f}" for p in p_values),
            style="bold" if test.p_randomisation_holm < 0.05 else None,
        )
        last = test.language
    console.print(table)
    say(console, f"p rand: paired randomisation, {ROUNDS:,} sign flips; p t: paired t-test")
    say(console, f"Holm: the p before it, corrected over all {len(tests)} rows; bold: below 0.05")
    for line in notes:
        say(console, line)

"""What an evaluation found: as metrics.json, as files beside it, and as a table that fits 80 columns."""

from __future__ import annotations

import json
from collections.abc import Collection as AnyCollection
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from optical_jax.data.collections.collection import Collection
from optical_jax.retrieval.metrics import METRICS, Figures, PerQuery, group_means, mean_metrics
from optical_jax.retrieval.search import Ranking, write_trec_run
from optical_jax.retrieval.significance import ROUNDS, PairedTest, holm, paired_ttest

SHOWN = ("R@1", "R@5", "R@10", "R@100", "RR@10", "AP", "nDCG@10", "P@10")
"""The metrics in the order of the printed table."""
SHOWN_NARROW = ("R@1", "R@10", "RR@10", "nDCG@10")
WIDE = 76
"""Columns of a terminal that hold all of `SHOWN`."""
REFERENCES = ("untrained", "teacher", "mt", "mt-bm25", "fused", "dictionary", "bm25")
"""In the order of the tables; what they are: docs/evaluation.md."""
SUMMED = ("R@1", "R@10", "AP")
"""Metrics of the table of baselines."""


@dataclass(frozen=True)
class Baseline:
    """One reference over all its languages, each counting once, beside the system evaluated on the same queries."""

    system: str
    languages: list[str]
    means: Figures
    own_ap: float
    """AP of the system evaluated, on these queries."""
    p_ttest: list[float]
    """Of the difference in AP, by language."""
    p_ttest_holm: list[float] = field(default_factory=list)
    """Corrected over all languages of all references."""
    better: int = 0
    """Languages in which the system evaluated is better, Holm's p below 0.05."""
    worse: int = 0


def _p_of(own: PerQuery, other: PerQuery, queries: Sequence[str]) -> float:
    return float(paired_ttest(np.array([[own[q]["AP"] - other[q]["AP"]] for q in queries]))[0])


def _count(row: Baseline, differences: Sequence[float], sign: int) -> int:
    return sum(p < 0.05 and sign * by > 0 for p, by in zip(row.p_ttest_holm, differences, strict=True))


@dataclass(frozen=True)
class Evaluation:
    """One system on one collection, with what it is compared with."""

    collection: Collection
    scoring: str
    system: str
    """Name of the system evaluated: student, or model (one tower on both sides)."""
    per_query: Mapping[str, Mapping[str, PerQuery]]
    """System -> language -> query id -> figures; the system itself and its references."""
    rankings: Mapping[str, Ranking]
    """Of the system itself, by language; rows in the order of the collection's queries."""
    origin: Mapping[str, Any]
    """What was evaluated: run and checkpoint, or model."""
    shared_with_training: Mapping[str, int] | None = None
    """Training pairs that share a sentence with the collection, by language; None where it could not be told."""

    def means(self, system: str) -> dict[str, Figures]:
        return {language: mean_metrics(queries) for language, queries in self.per_query.get(system, {}).items()}

    def baselines(self) -> list[Baseline]:
        """Every reference beside the system itself, on the queries that both were asked."""
        own = self.per_query[self.system]
        rows: list[Baseline] = []
        differences: list[list[float]] = []
        for name in (name for name in REFERENCES if name in self.per_query):
            both = {lang: [q for q in found if q in own[lang]] for lang, found in self.per_query[name].items()}
            theirs, ours = (
                [mean_metrics({q: per_query[lang][q] for q in queries}) for lang, queries in both.items()]
                for per_query in (self.per_query[name], own)
            )
            p = [_p_of(own[lang], self.per_query[name][lang], queries) for lang, queries in both.items()]
            differences.append([b["AP"] - a["AP"] for a, b in zip(theirs, ours, strict=True)])
            means = {metric: sum(figures[metric] for figures in theirs) / len(theirs) for metric in SUMMED}
            own_ap = sum(figures["AP"] for figures in ours) / len(ours)
            rows.append(Baseline(name, list(both), means, own_ap, p))
        # As many tests as rows have languages, corrected together.
        adjusted = iter(holm(np.array([p for row in rows for p in row.p_ttest])).tolist()) if rows else iter(())
        corrected = [replace(row, p_ttest_holm=[next(adjusted) for _ in row.languages]) for row in rows]
        return [
            replace(row, better=_count(row, by, 1), worse=_count(row, by, -1))
            for row, by in zip(corrected, differences, strict=True)
        ]

    def as_json(self, low_resource: AnyCollection[str]) -> dict[str, Any]:
        """The content of metrics.json."""
        languages = self.means(self.system)
        return {
            "collection": self.collection.name,
            "split": self.collection.split,
            "scoring": self.scoring,
            "system": self.system,
            **self.origin,
            "languages": languages,
            "groups": group_means(languages, low_resource),
            "references": {name: self.means(name) for name in self.per_query if name != self.system},
            "baselines": [asdict(row) for row in self.baselines()],
            "shared_with_training": self.shared_with_training,
            "inputs": self.collection.sha256,
        }


# ---- files -------------------------------------------------------------------------------------------------------


def write_files(folder: Path, evaluation: Evaluation, tag: str) -> None:
    """run.<lang>.trec of the system, and per_query.jsonl of it and its references. Older ones are replaced."""
    for old in folder.glob("run.*.trec"):
        old.unlink()
    for language, ranking in evaluation.rankings.items():
        queries, documents = list(evaluation.collection.queries[language]), list(evaluation.collection.documents)
        write_trec_run(folder / f"run.{language}.trec", ranking, queries, documents, tag)
    with (folder / "per_query.jsonl").open("w", encoding="utf-8") as file:
        for system, languages in evaluation.per_query.items():
            for language, queries in languages.items():
                for query, figures in queries.items():
                    row = {"system": system, "language": language, "query": query, **figures}
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")


def read_per_query(
    folder: Path, system: str, languages: Sequence[str], metrics: Sequence[str] = METRICS
) -> dict[str, PerQuery]:
    """Language -> query id -> figures, from per_query.jsonl."""
    found: dict[str, PerQuery] = {language: {} for language in languages}
    with (folder / "per_query.jsonl").open(encoding="utf-8") as file:
        for row in map(json.loads, file):
            if row["system"] == system and row["language"] in found:
                found[row["language"]][row["query"]] = {metric: row[metric] for metric in metrics}
    return found


# ---- tables ------------------------------------------------------------------------------------------------------


def make_table(console: Console, *columns: str, left: int) -> Table:
    """A table whose first `left` columns are words and whose others are numbers; without rules outside a terminal."""
    rules = {"box": SIMPLE_HEAD, "padding": 0} if console.is_terminal else {"box": None, "padding": (0, 1, 0, 0)}
    table = Table(pad_edge=False, header_style="bold", **rules)
    for n, name in enumerate(columns):
        table.add_column(name, justify="left" if n < left else "right", no_wrap=True)
    return table


def start_group(console: Console, table: Table) -> None:
    """A rule between groups of rows, or an empty line where there are no rules."""
    if table.row_count:
        table.add_section()
        if not console.is_terminal:
            table.add_row()


def say(console: Console, line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def print_evaluation(evaluation: Evaluation, low_resource: AnyCollection[str], console: Console | None = None) -> None:
    """A group of rows a language, the system and its references; then the means of the groups and their gap."""
    console = console or Console()
    collection, origin, own = evaluation.collection, evaluation.origin, evaluation.system
    what = f"{origin['run']}, checkpoint {origin['checkpoint']}" if "run" in origin else str(origin["model"])
    documents = f"{len(collection.documents):,} documents"
    say(console, f"{what} on {collection.name}, {collection.split}: {documents}, {evaluation.scoring}")
    shown = SHOWN if console.width >= WIDE else SHOWN_NARROW
    table = make_table(console, "lang", "system", "queries", *shown, left=2)
    means = {system: evaluation.means(system) for system in evaluation.per_query}
    trivial = [language for language in means[own] if own == "student" and collection.is_parallel(language)]
    for language in means[own]:
        start_group(console, table)
        for system in (own, *REFERENCES):
            figures = means.get(system, {}).get(language)
            name, style = (language, "bold") if system == own else ("", None)
            if figures:
                table.add_row(name, system, str(figures["queries"]), *_row(figures, shown), style=style)
            elif system == "teacher" and language in trivial:
                table.add_row(name, system, "", "trivial")
    if len(means[own]) > 1:
        start_group(console, table)
        for name, figures in group_means(means[own], low_resource).items():
            if figures:
                table.add_row(name, own, "", *_row(figures, shown), style="bold")
    console.print(table)
    if trivial:
        say(console, "trivial: query and document are one sentence, so there is no ceiling to show")
    print_baselines(evaluation, console)


def print_baselines(evaluation: Evaluation, console: Console) -> None:
    """All references in one table, a row each."""
    own = evaluation.system
    table = make_table(console, "baseline", "langs", *SUMMED, f"{own} AP", "better", "worse", left=1)
    for row in evaluation.baselines():
        figures = (f"{row.means[metric]:.3f}" for metric in SUMMED)
        counts = (str(row.better), str(row.worse))
        table.add_row(row.system, str(len(row.languages)), *figures, f"{row.own_ap:.3f}", *counts)
    say(console, "")
    console.print(table)
    say(console, f"{own} AP: on the same queries; better, worse: languages in which {own}'s AP is, p below 0.05")
    say(console, "p: paired t-test over queries, corrected over all languages and baselines by Holm")


def _row(figures: Figures, shown: Sequence[str]) -> list[str]:
    return [f"{figures[name]:.3f}" for name in shown]


def print_comparison(tests: Sequence[PairedTest], console: Console | None = None) -> None:
    """A row a language and metric."""
    console = console or Console()
    table = make_table(console, "lang", "metric", "queries", "A", "B", "B - A", "p rand", "Holm", "p t", "Holm", left=2)
    last = None
    for test in sorted(tests, key=lambda test: (test.language, SHOWN.index(test.metric))):
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


def comparison_json(tests: Sequence[PairedTest]) -> list[dict[str, Any]]:
    return [asdict(test) for test in tests]

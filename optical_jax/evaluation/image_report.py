"""What an evaluation on pictures found: as metrics.json, as files beside it, and as tables that fit 80 columns."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from optical_jax.evaluation.text_report import make_table, say, start_group
from optical_jax.retrieval.image_metrics import (
    DEPTHS,
    RECALLS,
    WAYS,
    image_group_means,
    mean_rank_variance,
    ranks_by_picture,
    trained_on_sentences,
    two_way_metrics,
)
from optical_jax.retrieval.image_search import Found
from optical_jax.retrieval.metrics import Figures, PerQuery
from optical_jax.retrieval.search import write_trec_run
from optical_jax.retrieval.significance import PairedTest, compare_runs, holm, paired_ttest

REFERENCES = ("untrained", "teacher")
"""In the order of the tables; what they are: docs/images.md."""
SUMMED = ("t2i R@1", "i2t R@1", "rSum")
"""Figures of the table of references."""
WIDE = 72
"""Columns of a terminal that hold recall at all depths."""


@dataclass(frozen=True)
class Searched:
    """What one system found in one language."""

    t2i: Found
    i2t: Found
    picture_of: Mapping[str, str]
    """Caption id -> picture id."""

    def per_query(self, way: str) -> PerQuery:
        return (self.t2i if way == "t2i" else self.i2t).per_query

    def by_picture(self, way: str) -> PerQuery:
        """Picture id -> figures: of its captions the mean, as captions of one picture are no independent draws."""
        return figures_by_picture(self.per_query(way), self.picture_of if way == "t2i" else {})


@dataclass(frozen=True)
class ReferenceTest:
    """Of the difference in the sum of R@1, R@5 and R@10 between a system and a reference, over pictures."""

    language: str
    way: str
    pictures: int
    difference: float
    """Of the means, the system's less the reference's."""
    p_ttest: float
    p_ttest_holm: float
    """Corrected over all languages, ways and references."""


@dataclass(frozen=True)
class Reference:
    """One reference over all its languages, each counting once, beside the system evaluated."""

    system: str
    languages: list[str]
    means: Figures
    own_rsum: float
    """Of the system evaluated, in these languages."""
    tests: list[ReferenceTest]

    def count(self, way: str, sign: int) -> int:
        """Languages in which the system evaluated is better (1) or worse (-1), Holm's p below 0.05."""
        return sum(t.way == way and t.p_ttest_holm < 0.05 and sign * t.difference > 0 for t in self.tests)


@dataclass(frozen=True)
class PictureEvaluation:
    """One system on one set of pictures with captions, with what it is compared with."""

    name: str
    split: str
    scoring: str
    system: str
    """Name of the system evaluated: student, or model."""
    found: Mapping[str, Mapping[str, Searched]]
    """System -> language -> what it found; the system itself first, then its references."""
    captions: Mapping[str, Sequence[str]]
    """Language -> ids of its captions, as they were ranked."""
    pictures: Sequence[str]
    origin: Mapping[str, Any]
    """What was evaluated: run and checkpoint, or model; and who encoded the pictures."""
    inputs: Mapping[str, str]
    """File name -> sha256; "pictures" of their ids and what lies there."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Reason -> rows of the set, in all its languages, that make no caption with a picture."""
    trained_on: Mapping[str, Any] = field(default_factory=dict)
    """How many of these captions and pictures were learned from: `commands.trained_on.counts_of_training`."""

    def means(self, system: str) -> dict[str, Figures]:
        return {
            language: two_way_metrics(searched.per_query("t2i"), searched.per_query("i2t"))
            for language, searched in self.found.get(system, {}).items()
        }

    def rank_variance(self, system: str) -> dict[str, dict[str, float] | None]:
        """Way -> how much a picture's rank depends on the language."""
        languages = self.found.get(system, {})
        return {way: mean_rank_variance({lang: _ranks(one, way) for lang, one in languages.items()}) for way in WAYS}

    def references(self) -> list[Reference]:
        """Every reference beside the system itself, paired by picture."""
        own, means = self.found[self.system], self.means(self.system)
        names = [name for name in REFERENCES if name in self.found]
        cells = [(name, language, way) for name in names for language in self.found[name] for way in WAYS]
        by = [_differences(self.found[name][language], own[language], way) for name, language, way in cells]
        p = np.array([paired_ttest(each[:, None])[0] for each in by])
        tests = [
            (name, ReferenceTest(language, way, len(each), float(each.mean()), float(raw), float(adjusted)))
            for (name, language, way), each, raw, adjusted in zip(cells, by, p, holm(p), strict=True)
        ]
        rows = []
        for name in names:
            figures = self.means(name)
            averages = {metric: _mean(one[metric] for one in figures.values()) for metric in SUMMED}
            own_rsum = _mean(means[language]["rSum"] for language in figures)
            of_this = [test for other, test in tests if other == name]
            rows.append(Reference(name, list(figures), averages, own_rsum, of_this))
        return rows

    def as_json(self, low_resource: Collection[str]) -> dict[str, Any]:
        """The content of metrics.json."""
        languages, others = self.means(self.system), [name for name in self.found if name != self.system]
        return {
            "collection": self.name,
            "split": self.split,
            "searched": "pictures",
            "pictures": len(self.pictures),
            "scoring": self.scoring,
            "system": self.system,
            **self.origin,
            "languages": languages,
            "groups": image_group_means(languages, low_resource),
            "rank_variance": {name: self.rank_variance(name) for name in self.found if name != "teacher"},
            "references": {name: self.means(name) for name in others},
            "baselines": [asdict(row) for row in self.references()],
            "left_out": dict(self.left_out),
            **self.trained_on,
            "inputs": dict(self.inputs),
        }


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def figures_by_picture(per_query: PerQuery, picture_of: Mapping[str, str]) -> PerQuery:
    """Means of the figures of the queries of each picture; a query that is not in `picture_of` is a picture."""
    groups: dict[str, list[Figures]] = {}
    for query, figures in per_query.items():
        groups.setdefault(picture_of.get(query, query), []).append(figures)
    return {
        picture: {name: float(np.mean([one[name] for one in group])) for name in group[0]}
        for picture, group in groups.items()
    }


def _ranks(searched: Searched, way: str) -> dict[str, float]:
    ranks = {query: figures["rank"] for query, figures in searched.per_query(way).items()}
    return ranks_by_picture(ranks, searched.picture_of) if way == "t2i" else ranks


def _differences(theirs: Searched, ours: Searched, way: str) -> np.ndarray:
    """Our sum of recalls less theirs, of every picture that asks, or is asked for, on both sides."""
    a, b = theirs.by_picture(way), ours.by_picture(way)
    return np.array([sum(b[name][metric] - a[name][metric] for metric in RECALLS) for name in b if name in a])


# ---- files -------------------------------------------------------------------------------------------------------


def write_files(folder: Path, evaluation: PictureEvaluation, tag: str) -> None:
    """run.<lang>.<way>.trec of the system, and per_query.jsonl of it and its references. Older ones are replaced."""
    for old in folder.glob("run.*.trec"):
        old.unlink()
    for language, searched in evaluation.found[evaluation.system].items():
        for way, found, documents in (
            ("t2i", searched.t2i, evaluation.pictures),
            ("i2t", searched.i2t, evaluation.captions[language]),
        ):
            write_trec_run(folder / f"run.{language}.{way}.trec", found.ranking, found.queries, documents, tag)
    with (folder / "per_query.jsonl").open("w", encoding="utf-8") as file:
        for row in _rows(evaluation):
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _rows(evaluation: PictureEvaluation) -> Iterator[dict[str, Any]]:
    for system, languages in evaluation.found.items():
        for language, searched in languages.items():
            for way in WAYS:
                for query, figures in searched.per_query(way).items():
                    picture = searched.picture_of[query] if way == "t2i" else query
                    where = {"system": system, "language": language, "way": way, "query": query, "picture": picture}
                    yield where | figures


def read_by_picture(folder: Path, system: str, languages: Sequence[str]) -> dict[str, PerQuery]:
    """ "LANGUAGE WAY" -> picture id -> figures, from per_query.jsonl."""
    found: dict[str, PerQuery] = {f"{language} {way}": {} for language in languages for way in WAYS}
    picture_of: dict[str, dict[str, str]] = {name: {} for name in found}
    with (folder / "per_query.jsonl").open(encoding="utf-8") as file:
        for row in map(json.loads, file):
            name = f"{row['language']} {row['way']}"
            if row["system"] == system and name in found:
                found[name][row["query"]] = {metric: row[metric] for metric in (*RECALLS, "rank")}
                picture_of[name][row["query"]] = row["picture"]
    return {name: figures_by_picture(per_query, picture_of[name]) for name, per_query in found.items()}


# ---- two runs ----------------------------------------------------------------------------------------------------


def compare_by_picture(a: Mapping[str, PerQuery], b: Mapping[str, PerQuery]) -> list[PairedTest]:
    """Tests of R@1, R@5 and R@10 over pictures, of what `read_by_picture` gives for two runs."""
    return compare_runs(a, b, metrics=RECALLS)


def tests_json(tests: Sequence[PairedTest]) -> list[dict[str, Any]]:
    found = []
    for test in tests:
        language, way = test.language.split()
        found.append(asdict(test) | {"language": language, "way": way})
    return found


# ---- tables ------------------------------------------------------------------------------------------------------


def print_evaluation(
    evaluation: PictureEvaluation, low_resource: Collection[str], console: Console | None = None
) -> None:
    """A group of rows a language, the system and its references; then the groups' means, their gap, and the MRV."""
    console = console or Console()
    origin, own = evaluation.origin, evaluation.system
    what = f"{origin['run']}, checkpoint {origin['checkpoint']}" if "run" in origin else str(origin["model"])
    count = f"{len(evaluation.pictures):,} pictures"
    say(console, f"{what} on {evaluation.name}, {evaluation.split}: {count}, {evaluation.scoring}")
    wide = console.width >= WIDE
    shown = [f"{way} R@{k}" for way in WAYS for k in (DEPTHS if wide else DEPTHS[:1])]
    heads = [name if name.endswith("R@1") else name.split()[1] for name in shown]
    table = make_table(console, "lang", "system", "captions", *heads, "rSum", left=2)
    means = {system: evaluation.means(system) for system in evaluation.found}

    def add(name: str, system: str, figures: Figures, captions: str, style: str | None) -> None:
        cells = [f"{figures[metric]:.3f}" for metric in shown]
        table.add_row(name, system, captions, *cells, f"{figures['rSum']:.1f}", style=style)

    for language in means[own]:
        start_group(console, table)
        for system in (own, *REFERENCES):
            figures = means.get(system, {}).get(language)
            if figures:
                mine = system == own
                captions = str(figures["t2i queries"])
                add(language if mine else "", system, figures, captions, "bold" if mine else None)
    if len(means[own]) > 1:
        start_group(console, table)
        for name, figures in image_group_means(means[own], low_resource).items():
            if figures:
                add(name, own, figures, "", "bold")
    console.print(table)
    if evaluation.left_out:
        counts = ", ".join(f"{reason} {count:,}" for reason, count in evaluation.left_out.items())
        say(console, f"left out in all languages of the set: {counts}")
    for line in trained_on_sentences({"pictures": len(evaluation.pictures), **evaluation.trained_on}):
        say(console, line)
    say(console, "t2i: captions look for pictures; i2t: pictures for captions")
    say(console, "R@k: a right one stands among the first k; rSum: their sum in per cent")
    print_rank_variance(evaluation, console)
    print_references(evaluation, console)


def print_rank_variance(evaluation: PictureEvaluation, console: Console) -> None:
    """A line a system: how much a picture's rank depends on the language."""
    for system in (evaluation.system, "untrained"):
        by_way = evaluation.rank_variance(system) if system in evaluation.found else {}
        told = [f"{way} {one['MRV']:.2f} ({one['pictures']:.0f} pictures)" for way, one in by_way.items() if one]
        if told:
            languages = next(int(one["languages"]) for one in by_way.values() if one)
            say(console, f"MRV over {languages} languages, {system}: {', '.join(told)}")


def print_references(evaluation: PictureEvaluation, console: Console) -> None:
    """All references in one table, a row each."""
    rows, own = evaluation.references(), evaluation.system
    if not rows:
        return
    shown = SUMMED if console.width >= WIDE else SUMMED[-1:]
    table = make_table(console, "reference", "langs", *shown, f"{own} rSum", "better", "worse", left=1)
    for row in rows:
        figures = [f"{row.means[metric]:.{1 if metric == 'rSum' else 3}f}" for metric in shown]
        counts = ["/".join(str(row.count(way, sign)) for way in WAYS) for sign in (1, -1)]
        table.add_row(row.system, str(len(row.languages)), *figures, f"{row.own_rsum:.1f}", *counts)
    say(console, "")
    console.print(table)
    say(console, f"better, worse: languages in which {own}'s recalls are (t2i/i2t), p below 0.05")
    say(console, "p: paired t-test over pictures of R@1 + R@5 + R@10, corrected over all")
    say(console, "languages, ways and references by Holm")


def print_comparison(tests: Sequence[PairedTest], console: Console | None = None) -> None:
    """A row a language, way and metric, as of collections of texts."""
    from optical_jax.evaluation import text_report as report

    console = console or Console()
    report.print_comparison(tests, console)
    say(console, "tests over pictures; of several captions of a picture the mean counts")

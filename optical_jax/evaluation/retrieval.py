"""Retrieval evaluation: encode queries and documents, rank, compute metrics, and test a system against its references.

A `RetrievalTask` defines what is evaluated: texts.py has text retrieval, images.py image-text retrieval.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from optical_jax.config import ImageTowerConfig
from optical_jax.data.files.records import Qrels
from optical_jax.evaluation.options import EvalCommand
from optical_jax.retrieval.blocks import Block
from optical_jax.retrieval.image_search import by_position, search_both_ways
from optical_jax.retrieval.metrics import MetricValues, PerQuery, evaluate_run, group_means
from optical_jax.retrieval.search import Ranking, rank
from optical_jax.retrieval.significance import holm, paired_ttest
from optical_jax.towers.images import encode_images
from optical_jax.towers.texts import encode_texts
from optical_jax.towers.tower import Tower, to_device

Cell = tuple[str, str]
"""A system and a language."""
Vectors = Callable[[Tower, Mapping[str, Any], str], Iterable[Block]]
"""Encodes items (id -> text or image) with a tower, in blocks; the string labels the progress bar."""
Cells = Mapping[Cell, tuple[Tower, "Queries"]]
Search = Callable[["RetrievalTask", Cells, Tower, Vectors], Iterator[tuple[Cell, "Directions"]]]
"""Ranks and computes metrics for all cells that share a document tower: `search_one_way`, `search_two_ways`."""


@dataclass(frozen=True, eq=False)
class Queries:
    """Queries of one language and their relevance judgements."""

    items: Mapping[str, Any]
    """Query id -> text, or another input of the query tower."""
    relevant: Qrels
    """Query id -> document id -> grade."""
    own: Collection[str] = frozenset()
    """Queries that are left out of their own rankings (`own_documents`)."""


@dataclass(frozen=True)
class System:
    """A query encoder, a document encoder, and the queries by language."""

    queries: Tower
    documents: Tower
    asked: Mapping[str, Queries]


@dataclass(frozen=True)
class Direction:
    """Ranking and metrics of a system in one language and one retrieval direction."""

    queries: Sequence[str]
    documents: Sequence[str]
    ranking: Ranking
    per_query: PerQuery
    unit_of: Mapping[str, str] = field(default_factory=dict)
    """Query id -> unit of the paired tests; a query not listed is its own unit."""

    @property
    def per_unit(self) -> PerQuery:
        """Unit -> means over its queries: captions of one image are not independent samples."""
        return mean_by_unit(self.per_query, self.unit_of) if self.unit_of else self.per_query


Directions = Mapping[str, Direction]
"""By name: t2d (text to document), t2i (text to image), i2t (image to text)."""
Results = dict[str, dict[str, Directions]]
"""System -> language -> directions."""


def mean_by_unit(per_query: PerQuery, unit_of: Mapping[str, str]) -> PerQuery:
    groups: dict[str, list[MetricValues]] = {}
    for query, metrics in per_query.items():
        groups.setdefault(unit_of.get(query, query), []).append(metrics)
    return {
        unit: {name: float(np.mean([one[name] for one in group])) for name in group[0]}
        for unit, group in groups.items()
    }


# ---- one evaluation ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Columns:
    """Columns of the printed tables: all of `shown` in a terminal of at least `wide` columns, else `narrow`."""

    wide: int
    count: tuple[str, str]
    """Head of the query count column, and the metric that has the count."""
    shown: Sequence[str]
    narrow: Sequence[str]
    averaged: Sequence[str]
    """Metrics in the table of references."""
    averaged_narrow: Sequence[str]
    own: str
    """The metric of the evaluated system in that table."""
    reference: str
    """Head of the column of reference names."""


@dataclass(frozen=True, eq=False)
class RetrievalTask(ABC):
    """Queries by language, documents, ranking, metrics and reporting of a retrieval evaluation."""

    name: str
    split: str
    documents: Mapping[str, Any]
    """Document id -> text or image."""
    asked: Mapping[str, Queries]
    """Language -> the queries of the evaluated system."""
    inputs: Mapping[str, str]
    """File name -> sha256."""

    searched: ClassVar[str]
    """Kind of the documents, as reported: "documents" or "pictures"."""
    directions: ClassVar[Sequence[str]]
    metrics: ClassVar[Sequence[str]]
    """Metrics of a language that are averaged over groups of languages."""
    compared: ClassVar[Sequence[str]]
    """Per-query metrics tested by `--compare`."""
    tested: ClassVar[Sequence[str]]
    """Per-query metrics whose sum is tested against the references."""
    references: ClassVar[Sequence[str]]
    """Reference names in the order of the tables."""
    columns: ClassVar[Columns]
    reference_notes: ClassVar[Sequence[str]]
    """Lines under the table of references; {own} is replaced by the evaluated system."""
    comparison_notes: ClassVar[Sequence[str]] = ()
    search: ClassVar[Search]
    draw: ClassVar[Callable[[Mapping[str, Any], Path], None]]
    """Draws a plot of a metrics.json to a path."""

    @abstractmethod
    def means(self, found: Directions) -> MetricValues:
        """Mean metrics of a language."""

    @abstractmethod
    def own_mean(self, own: Directions, reference: Directions) -> float:
        """`columns.own` of the evaluated system on the queries of a reference, in one language."""

    @abstractmethod
    def of_run(self, command: EvalCommand, run: Path, step: int) -> Prepared:
        """Systems of a run: its trained model and the references."""

    @abstractmethod
    def of_model(self, command: EvalCommand) -> Prepared:
        """Systems of a model that encodes both sides: the model and the references."""

    @abstractmethod
    def folder_suffix(self, command: EvalCommand, run: Path) -> str:
        """Suffix of the results folder RUN/eval/NAME-SPLIT for non-default settings; empty for the defaults."""

    @abstractmethod
    def is_current(self, command: EvalCommand, run: Path, step: int, saved: Mapping[str, Any]) -> bool:
        """Whether a saved metrics.json of this checkpoint used the same files, towers and scoring."""

    @abstractmethod
    def reference_json(self, reference: Reference) -> dict[str, Any]:
        """The reference's entry in "baselines" of metrics.json."""

    @abstractmethod
    def notes(self, evaluation: Evaluation) -> Iterator[str]:
        """Lines printed under the main table."""

    def across_languages(self, evaluation: Evaluation) -> dict[str, Any]:
        """Additional cross-language entries of metrics.json."""
        return {}

    def is_trivial(self, language: str) -> bool:
        """True if the teacher's English query is identical to its relevant document."""
        return False

    def write_pages(self, folder: Path, evaluation: Evaluation) -> list[str]:
        """Write HTML pages next to metrics.json; returns their file names."""
        return []


@dataclass(frozen=True)
class Prepared:
    """A task with loaded towers, ready to evaluate."""

    task: RetrievalTask
    scoring: str
    systems: Mapping[str, System]
    """The evaluated system first, then its references."""
    origin: Mapping[str, Any]
    """Origin of the system, for metrics.json: run and checkpoint, or model; and the image tower."""
    record: Mapping[str, Any]
    """Train/test overlap and excluded items, for metrics.json."""
    more: Callable[[Results], Results] = lambda found: {}
    """Computes the references without a tower from the results of the systems."""


def encode_items(tower: Tower, items: Mapping[str, Any], **options: Any) -> Iterator[Block]:
    """Encode images or texts in blocks, depending on the tower."""
    if isinstance(tower.cfg, ImageTowerConfig):
        return encode_images(tower, items, list(items), **options)
    return encode_texts(tower, list(items.values()), **options)


def evaluate(task: RetrievalTask, systems: Mapping[str, System], vectors: Vectors) -> Results:
    """Rank and compute metrics for every system and language; each document tower encodes the documents once."""
    found: Results = {}
    # Once: each language would move its host arrays again.
    encoders = {id(one.queries): to_device(one.queries) for one in systems.values()}
    for documents in {id(one.documents): one.documents for one in systems.values()}.values():
        cells = {
            (name, language): (encoders[id(one.queries)], queries)
            for name, one in systems.items()
            if one.documents is documents
            for language, queries in one.asked.items()
        }
        for (name, language), directions in task.search(task, cells, documents, vectors):
            found.setdefault(name, {})[language] = directions
    return found


def search_one_way(
    task: RetrievalTask, cells: Cells, documents: Tower, vectors: Vectors
) -> Iterator[tuple[Cell, Directions]]:
    """Rank documents for every query and compute graded metrics, streaming the documents in one pass."""
    ids = list(task.documents)
    blocks = {
        (system, language): list(vectors(tower, queries.items, f"encoding queries, {system}"))
        for (system, language), (tower, queries) in cells.items()
    }
    rankings = rank(blocks, ids, vectors(documents, task.documents, "encoding and ranking documents"))
    for cell, ranking in rankings.items():
        yield cell, {task.directions[0]: judge(ranking, cells[cell][1], ids)}


def search_two_ways(
    task: RetrievalTask, cells: Cells, documents: Tower, vectors: Vectors
) -> Iterator[tuple[Cell, Directions]]:
    """Bidirectional retrieval: rank of the first relevant item, for queries over documents and documents over queries.

    Vectors of all documents, and of the queries of one language, are kept in memory. Queries shared by several
    languages, such as a teacher's English ones, are searched once.
    """
    ids = list(task.documents)
    held = by_position(vectors(documents, task.documents, "encoding documents"), len(ids))
    done: dict[tuple[int, int], Directions] = {}
    for cell, (tower, queries) in cells.items():
        key = id(tower), id(queries)
        if key not in done:
            own = by_position(vectors(tower, queries.items, f"encoding queries, {cell[0]}"), len(queries.items))
            there, back = search_both_ways(queries.relevant, own, ids, held)
            unit_of = {query: next(iter(wanted)) for query, wanted in queries.relevant.items()}
            both = (
                Direction(there.queries, ids, there.ranking, there.per_query, unit_of),
                Direction(back.queries, there.queries, back.ranking, back.per_query),
            )
            done[key] = dict(zip(task.directions, both, strict=True))
        yield cell, done[key]


def judge(ranking: Ranking, queries: Queries, documents: Sequence[str]) -> Direction:
    """Compute the metrics of a ranking from graded relevance judgements, without the documents that are the queries."""
    asked = list(queries.items)
    ranking = ranking.without_own(asked, documents, queries.own)
    return Direction(asked, documents, ranking, evaluate_run(ranking.as_run(asked, documents), queries.relevant))


# ---- results -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ReferenceTest:
    """Paired t-test between the evaluated system and a reference, on the sum of the `tested` metrics."""

    language: str
    direction: str
    units: int
    difference: float
    """Mean of the system minus mean of the reference."""
    p_ttest: float
    p_ttest_holm: float
    """Holm-corrected over all languages, directions and references."""


@dataclass(frozen=True)
class Reference:
    """Macro-averaged metrics of one reference over its languages, with paired tests of the evaluated system."""

    system: str
    languages: list[str]
    means: MetricValues
    own: float
    """`columns.own` of the evaluated system, averaged over these languages."""
    tests: list[ReferenceTest]

    def count(self, direction: str, sign: int) -> int:
        """Number of languages in which the evaluated system is better (1) or worse (-1), Holm-corrected p < 0.05."""
        return sum(t.direction == direction and t.p_ttest_holm < 0.05 and sign * t.difference > 0 for t in self.tests)


@dataclass(frozen=True)
class Evaluation:
    """Results of one system on one task, with its references."""

    task: RetrievalTask
    scoring: str
    system: str
    """Name of the evaluated system: student, or model (of a teacher's run, or an external model)."""
    found: Results
    """Results of the system and its references."""
    origin: Mapping[str, Any]
    record: Mapping[str, Any]

    def means(self, system: str) -> dict[str, MetricValues]:
        """Mean metrics of a system by language."""
        return {language: self.task.means(found) for language, found in self.found.get(system, {}).items()}

    def references(self) -> list[Reference]:
        """Compare the system with every reference by paired t-tests with Holm correction."""
        task, own = self.task, self.found[self.system]
        names = [name for name in task.references if name in self.found]
        cells = [
            (name, language, direction)
            for name in names
            for language in self.found[name]
            for direction in task.directions
        ]
        by = [
            differences(self.found[name][language][direction], own[language][direction], task.tested)
            for name, language, direction in cells
        ]
        p = np.array([paired_ttest(each[:, None])[0] for each in by])
        tests = [
            (name, ReferenceTest(language, direction, len(each), float(each.mean()), float(raw), float(adjusted)))
            for (name, language, direction), each, raw, adjusted in zip(cells, by, p, holm(p), strict=True)
        ]
        rows = []
        for name in names:
            languages = self.means(name)
            means = {
                metric: sum(metrics[metric] for metrics in languages.values()) / len(languages)
                for metric in task.columns.averaged
            }
            ours = [task.own_mean(own[language], self.found[name][language]) for language in languages]
            of_this = [test for other, test in tests if other == name]
            rows.append(Reference(name, list(languages), means, sum(ours) / len(ours), of_this))
        return rows

    def group_means(self, low_resource: Collection[str]) -> dict[str, MetricValues | None]:
        """Means over low- and high-resource languages, and their gap."""
        return group_means(self.means(self.system), low_resource, self.task.metrics)

    def as_json(self, low_resource: Collection[str]) -> dict[str, Any]:
        """The content of metrics.json."""
        task = self.task
        return {
            "collection": task.name,
            "split": task.split,
            **({"searched": task.searched, task.searched: len(task.documents)} if len(task.directions) > 1 else {}),
            "scoring": self.scoring,
            "system": self.system,
            **self.origin,
            "languages": self.means(self.system),
            "groups": self.group_means(low_resource),
            **task.across_languages(self),
            "references": {name: self.means(name) for name in self.found if name != self.system},
            "baselines": [task.reference_json(row) for row in self.references()],
            **self.record,
            "inputs": dict(task.inputs),
        }


def differences(theirs: Direction, ours: Direction, metrics: Sequence[str]) -> np.ndarray:
    """Per-unit difference of the summed metrics, `ours` minus `theirs`, over their common units."""
    a, b = theirs.per_unit, ours.per_unit
    return np.array([sum(b[unit][metric] - a[unit][metric] for metric in metrics) for unit in b if unit in a])

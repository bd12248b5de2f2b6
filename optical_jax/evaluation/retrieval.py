"""Retrieval evaluation: encode queries and documents, rank, measure, and test a system against its references.

What is evaluated is a `RetrievalTask`: texts.py has that of texts, images.py that of images and captions.
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
from optical_jax.towers.tower import Tower

Cell = tuple[str, str]
"""A system and a language."""
Vectors = Callable[[Tower, Mapping[str, Any], str], Iterable[Block]]
"""Encodes items (id -> text or image) by a tower, in blocks; the string says what they are, for the progress."""
Cells = Mapping[Cell, tuple[Tower, "Queries"]]
Search = Callable[["RetrievalTask", Cells, Tower, Vectors], Iterator[tuple[Cell, "Directions"]]]
"""Ranks and measures, for all cells whose documents one tower encodes: `search_one_way`, `search_two_ways`."""


@dataclass(frozen=True, eq=False)
class Queries:
    """Queries of one language, and what is relevant to them."""

    items: Mapping[str, Any]
    """Query id -> text, or whatever else its tower encodes."""
    relevant: Qrels
    """Query id -> document id -> grade."""


@dataclass(frozen=True)
class System:
    """A query encoder, a document encoder, and the queries by language."""

    queries: Tower
    documents: Tower
    asked: Mapping[str, Queries]


@dataclass(frozen=True)
class Direction:
    """What a system found in one language, in one direction of retrieval."""

    queries: Sequence[str]
    documents: Sequence[str]
    ranking: Ranking
    per_query: PerQuery
    unit_of: Mapping[str, str] = field(default_factory=dict)
    """Query id -> unit of the paired tests; a query that is absent is a unit by itself."""

    @property
    def per_unit(self) -> PerQuery:
        """Unit -> means over its queries: captions of one image are not independent samples."""
        return mean_by_unit(self.per_query, self.unit_of) if self.unit_of else self.per_query


Directions = Mapping[str, Direction]
"""By name: t2d of texts, t2i and i2t of captions and images."""
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
    """What the printed tables of a task show: `wide` columns of a terminal, or more, hold all of `shown`."""

    wide: int
    count: tuple[str, str]
    """Head of the column that counts queries, and the metric that does."""
    shown: Sequence[str]
    narrow: Sequence[str]
    averaged: Sequence[str]
    """Metrics of the table of references."""
    averaged_narrow: Sequence[str]
    own: str
    """The metric of the evaluated system in that table."""
    reference: str
    """What a reference is called there."""


@dataclass(frozen=True, eq=False)
class RetrievalTask(ABC):
    """Queries by language, documents, how they are ranked and measured, and what of it is reported."""

    name: str
    split: str
    documents: Mapping[str, Any]
    """Document id -> text or image."""
    asked: Mapping[str, Queries]
    """Language -> the queries of the evaluated system."""
    inputs: Mapping[str, str]
    """File name -> sha256."""

    searched: ClassVar[str]
    """What the documents are."""
    directions: ClassVar[Sequence[str]]
    metrics: ClassVar[Sequence[str]]
    """Of a language, averaged over groups of languages."""
    compared: ClassVar[Sequence[str]]
    """Metrics of a query that `--compare` tests."""
    tested: ClassVar[Sequence[str]]
    """Metrics of a query whose sum is tested against that of references."""
    references: ClassVar[Sequence[str]]
    """In the order of the tables."""
    columns: ClassVar[Columns]
    reference_notes: ClassVar[Sequence[str]]
    """Lines under the table of references; {own} is the evaluated system."""
    comparison_notes: ClassVar[Sequence[str]] = ()
    search: ClassVar[Search]
    draw: ClassVar[Callable[[Mapping[str, Any], Path], None]]
    """A plot of a metrics.json."""

    @abstractmethod
    def means(self, found: Directions) -> MetricValues:
        """The metrics of a language."""

    @abstractmethod
    def own_mean(self, own: Directions, reference: Directions) -> float:
        """`columns.own` of the evaluated system beside a reference, in one language."""

    @abstractmethod
    def of_run(self, command: EvalCommand, run: Path, step: int) -> Prepared:
        """What a run trains, and its references."""

    @abstractmethod
    def of_model(self, command: EvalCommand) -> Prepared:
        """A model on both sides, and its references."""

    @abstractmethod
    def folder_suffix(self, command: EvalCommand, run: Path) -> str:
        """Of RUN/eval/NAME-SPLIT, where it is not evaluated as usual."""

    @abstractmethod
    def is_current(self, command: EvalCommand, run: Path, step: int, saved: Mapping[str, Any]) -> bool:
        """Whether a saved metrics.json of this checkpoint is of the same files, towers and scoring."""

    @abstractmethod
    def reference_json(self, reference: Reference) -> dict[str, Any]:
        """Its row among the "baselines" of metrics.json."""

    @abstractmethod
    def notes(self, evaluation: Evaluation) -> Iterator[str]:
        """Lines under the main table."""

    def across_languages(self, evaluation: Evaluation) -> dict[str, Any]:
        """What else metrics.json says of all languages together."""
        return {}

    def is_trivial(self, language: str) -> bool:
        """True where a teacher that reads the language would have nothing to find."""
        return False

    def write_pages(self, folder: Path, evaluation: Evaluation) -> list[str]:
        """Pages to look at beside metrics.json; returns their names."""
        return []


@dataclass(frozen=True)
class Prepared:
    """All that an evaluation needs."""

    task: RetrievalTask
    scoring: str
    systems: Mapping[str, System]
    """The evaluated one first, then its references."""
    origin: Mapping[str, Any]
    """What is evaluated, for metrics.json: run and checkpoint, or model; and by which tower."""
    record: Mapping[str, Any]
    """What of the task was trained on or left out, for metrics.json."""
    more: Callable[[Results], Results] = lambda found: {}
    """References that need no tower, from what the systems found."""


def encode_items(tower: Tower, items: Mapping[str, Any], **options: Any) -> Iterator[Block]:
    """`encode_images` or `encode_texts`, by what the tower encodes."""
    if isinstance(tower.cfg, ImageTowerConfig):
        return encode_images(tower, items, list(items), **options)
    return encode_texts(tower, list(items.values()), **options)


def evaluate(task: RetrievalTask, systems: Mapping[str, System], vectors: Vectors) -> Results:
    """Rank and measure for every system and language; documents are encoded once by each tower of them."""
    found: Results = {}
    for documents in {id(one.documents): one.documents for one in systems.values()}.values():
        cells = {
            (name, language): (one.queries, queries)
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
    """The best documents of every query, by graded judgements, in one pass over documents, none of which is held."""
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
    """The rank of the first relevant item, of documents for queries and of queries for documents.

    Vectors of all documents, and of the queries of one language, are held. Queries that stand in for several languages,
    as English ones do for a teacher, are searched with once.
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
    """A ranking with its metrics by graded judgements."""
    asked = list(queries.items)
    return Direction(asked, documents, ranking, evaluate_run(ranking.as_run(asked, documents), queries.relevant))


# ---- what it found -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ReferenceTest:
    """Paired t-test of the difference between the evaluated system and a reference, in the sum of `tested` metrics."""

    language: str
    direction: str
    units: int
    difference: float
    """Of the means, the system's less the reference's."""
    p_ttest: float
    p_ttest_holm: float
    """Corrected over all languages, directions and references."""


@dataclass(frozen=True)
class Reference:
    """One reference over all its languages, each counting once, beside the system evaluated."""

    system: str
    languages: list[str]
    means: MetricValues
    own: float
    """`columns.own` of the system evaluated, in these languages."""
    tests: list[ReferenceTest]

    def count(self, direction: str, sign: int) -> int:
        """Languages in which the system evaluated is better (1) or worse (-1), Holm's p below 0.05."""
        return sum(t.direction == direction and t.p_ttest_holm < 0.05 and sign * t.difference > 0 for t in self.tests)


@dataclass(frozen=True)
class Evaluation:
    """One system on one task, with what it is compared with."""

    task: RetrievalTask
    scoring: str
    system: str
    """Name of the system evaluated: student, or model (what a teacher's run trains, or a model from outside)."""
    found: Results
    """Of the system itself and its references."""
    origin: Mapping[str, Any]
    record: Mapping[str, Any]

    def means(self, system: str) -> dict[str, MetricValues]:
        """Language -> metrics."""
        return {language: self.task.means(found) for language, found in self.found.get(system, {}).items()}

    def references(self) -> list[Reference]:
        """Every reference beside the system itself, paired by unit."""
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
    """Our sum of metrics less theirs, of every unit that both have."""
    a, b = theirs.per_unit, ours.per_unit
    return np.array([sum(b[unit][metric] - a[unit][metric] for metric in metrics) for unit in b if unit in a])

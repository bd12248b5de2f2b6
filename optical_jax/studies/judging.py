"""A run of a study on its collections: the teacher's documents are encoded once a process, not once a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from optical_jax.config import Config, identity
from optical_jax.data.collections.collection import Collection
from optical_jax.data.collections.sources import read_source
from optical_jax.data.text.bitext import load_bitext
from optical_jax.evaluation.baselines import count_lexicons, rank_by_words
from optical_jax.evaluation.text_report import Evaluation, write_files
from optical_jax.files import read_json, write_json
from optical_jax.params import fingerprint
from optical_jax.retrieval.blocks import Block
from optical_jax.retrieval.metrics import PerQuery
from optical_jax.retrieval.metrics import evaluate_run as judge
from optical_jax.retrieval.search import Ranking, encode_blocks, rank
from optical_jax.runs.bitext import saved_data
from optical_jax.runs.checkpoint import find_step
from optical_jax.runs.load import load
from optical_jax.studies.folders import holds_judgement
from optical_jax.studies.image_judging import PictureJudge, check_texts
from optical_jax.studies.tables import (
    SCORINGS,
    SPLIT,
    folders_of,
    is_pictures,
    languages_of,
    results_folder,
    source_of,
    table_names,
)
from optical_jax.towers.tower import Tower, encode, to_device
from optical_jax.training.student.start import load_teacher
from optical_jax.types import TokenVectors, mean_pool


class Judge:
    """Evaluates runs that share a teacher; keeps what does not change between them."""

    def __init__(self, collections: Sequence[str], split: str = SPLIT) -> None:
        self._paths, self._split = list(collections), split
        self._languages = {path: languages_of(path) for path in self._paths}
        self._collections: dict[tuple[str, str], Collection] = {}
        self._documents: dict[tuple[str, ...], list[Block]] = {}
        self._pictures = PictureJudge(split)
        self._checked: set[tuple[str, str]] = set()

    def check(self, cfg: Config) -> None:
        """Refuse a run that could not be evaluated, before it is trained.

        Raises:
          ConfigError: pictures are to be read by a pair whose texts another tower reads than the run's teacher.
        """
        for pair in sorted({source_of(path).pair for path in self._paths} - {""}):
            if (pair, cfg.teacher.path) not in self._checked:
                check_texts(pair, load_teacher(cfg))
                self._checked.add((pair, cfg.teacher.path))

    def evaluate(self, run: Path, language: str, *, references: bool) -> None:
        """Write RUN/eval/<collection>-<split>[-pooled]/ for every collection that has the language, as eval.py does; of
        a set of pictures one for each way of asking.

        With `references` also the student before training, the teacher asked in English, BM25, and BM25 through a
        dictionary counted in the run's bitext.
        """
        step = find_step(run, "last")
        paths = [path for path in self._paths if language in self._languages[path]]
        if all(self._is_there(run, step, path, language, references) for path in paths):
            return
        teacher = load(run, side="document", part="teacher")
        systems = {"student": load(run, checkpoint=step, part="student")}
        if references:
            systems |= {
                "untrained": load(run, checkpoint="untrained", part="student"),
                "teacher": replace(teacher, side="query"),
            }
        for path in paths:
            if is_pictures(path):
                self._pictures.evaluate(run, step, path, language, systems, teacher)
                continue
            collection = self._collection(path, language)
            queries = collection.queries[language]
            asked = dict.fromkeys(systems, queries)
            asked["teacher"] = {q: collection.english[q] for q in queries if q in collection.english}
            vectors = {name: encode_texts(tower, asked[name]) for name, tower in systems.items() if asked[name]}
            documents = self._blocks(path, collection, teacher)
            by_words = rank_alone(run, collection) if references else {}
            asked |= dict.fromkeys(by_words, queries)
            for scoring in SCORINGS:
                rankings = by_words | rank_texts(vectors, list(collection.documents), documents, scoring)
                self._write(run, step, collection, language, scoring, rankings, asked, path)

    def _is_there(self, run: Path, step: int | str, path: str, language: str, references: bool) -> bool:
        inputs = self._pictures.inputs(path) if is_pictures(path) else self._collection(path, language).sha256
        names = folders_of(path, self._split)
        return all(holds_judgement(run / "eval" / name, step, references, inputs) for name in names)

    def _write(
        self,
        run: Path,
        step: int,
        collection: Collection,
        language: str,
        scoring: str,
        rankings: Mapping[str, Ranking],
        asked: Mapping[str, Mapping[str, str]],
        path: str,
    ) -> None:
        ids = list(collection.documents)
        per_query: dict[str, dict[str, PerQuery]] = {}
        for name, ranking in rankings.items():
            found = ranking.as_run(list(asked[name]), ids)
            per_query[name] = {language: judge(found, {query: collection.qrels[query] for query in asked[name]})}
        origin = {"run": str(run), "checkpoint": step}
        # No TREC files: hundreds of runs would fill the disk with what eval.py writes again when asked.
        evaluation = Evaluation(collection, scoring, "student", per_query, {}, origin)
        (table,) = table_names(path, self._split)
        folder = run / "eval" / results_folder(table, scoring)
        folder.mkdir(parents=True, exist_ok=True)
        write_files(folder, evaluation, tag=run.name)
        write_json(folder / "metrics.json", evaluation.as_json(read_json(run / "config.json")["low_resource"]))

    def _collection(self, path: str, language: str) -> Collection:
        if (path, language) not in self._collections:
            self._collections[path, language] = read_source(source_of(path).spec, self._split, [language])
        return self._collections[path, language]

    def _blocks(self, path: str, collection: Collection, teacher: Tower) -> list[Block]:
        key = path, fingerprint(teacher.params), str(identity(teacher.cfg))
        if key not in self._documents:
            self._documents[key] = encode_texts(teacher, collection.documents)
        return self._documents[key]


def rank_alone(run: Path, collection: Collection) -> dict[str, Ranking]:
    """What is found without a model, in the collection's one language: by `commands.baselines.rank_by_words`."""
    lexicons = count_lexicons(load_bitext(saved_data(read_json(run / "config.json"))).train, collection)
    return {system: ranking for (system, _), ranking in rank_by_words(collection, {}, lexicons).items()}


def encode_texts(tower: Tower, texts: Mapping[str, str]) -> list[Block]:
    there = to_device(tower)
    return list(encode_blocks(list(texts.values()), lambda batch: encode(there, batch)))


def rank_texts(
    queries: Mapping[str, Sequence[Block]], ids: Sequence[str], documents: Sequence[Block], scoring: str
) -> dict[str, Ranking]:
    if scoring == "pooled":
        queries = {name: [_pooled(block) for block in blocks] for name, blocks in queries.items()}
        documents = [_pooled(block) for block in documents]
    found: dict[Any, Ranking] = rank(queries, ids, documents)
    return found


_mean_pool = jax.jit(mean_pool)


def _pooled(block: Block) -> Block:
    tokens: TokenVectors = _mean_pool(block.vectors)
    return Block(block.positions, tokens)

"""Evaluation of a study's runs on its collections, as by `eval.py`; documents are encoded once per process."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from optical_jax.config import Config, identity
from optical_jax.data.collections.sources import read_source
from optical_jax.data.images.sources import read_image_set
from optical_jax.data.text.bitext import load_bitext
from optical_jax.errors import ConfigError
from optical_jax.evaluation.baselines import count_lexicons, rank_by_words
from optical_jax.evaluation.images import ImageTask, caption_queries, image_task
from optical_jax.evaluation.report import write_files
from optical_jax.evaluation.retrieval import (
    Direction,
    Evaluation,
    Results,
    RetrievalTask,
    System,
    Vectors,
    encode_items,
    evaluate,
)
from optical_jax.evaluation.texts import TextTask, english_queries, judged_queries, text_task
from optical_jax.files import read_json, write_json
from optical_jax.params import fingerprint
from optical_jax.retrieval.blocks import Block
from optical_jax.retrieval.metrics import MetricValues
from optical_jax.runs.bitext import saved_data
from optical_jax.runs.checkpoint import find_step
from optical_jax.runs.load import load
from optical_jax.runs.pair import open_source
from optical_jax.studies.folders import has_results
from optical_jax.studies.readers import image_inputs
from optical_jax.studies.tables import (
    SCORINGS,
    SPLIT,
    base_name,
    folders_of,
    is_images,
    languages_of,
    results_folder,
    source_of,
    table_names,
    way_name,
)
from optical_jax.towers.texts import pool_blocks
from optical_jax.towers.tower import Tower
from optical_jax.training.student.start import load_teacher

Held = dict[tuple[Any, ...], list[Block]]
"""Cached token vectors, keyed by the encoded items and the tower."""


class Evaluator:
    """Evaluates runs that share a teacher; caches collections and document vectors between runs."""

    def __init__(self, collections: Sequence[str], split: str = SPLIT) -> None:
        self._paths, self._split = list(collections), split
        self._languages = {path: languages_of(path) for path in self._paths}
        self._image_set = cache(lambda spec: read_image_set(spec, split))
        self._task = cache(self._read_task)
        self._pairs: dict[str, Tower] = {}
        self._documents: Held = {}
        self._checked: set[tuple[str, str]] = set()

    def check(self, cfg: Config) -> None:
        """Check before training that a run can be evaluated.

        Raises:
          ConfigError: images would be encoded by a dual encoder whose text tower is not the run's teacher.
        """
        for pair in sorted({source_of(path).pair for path in self._paths} - {""}):
            if (pair, cfg.teacher.path) not in self._checked:
                check_texts(pair, load_teacher(cfg))
                self._checked.add((pair, cfg.teacher.path))

    def evaluate(self, run: Path, language: str, *, references: bool) -> None:
        """Evaluate a run on every collection that has the language, into RUN/eval/<collection>-<split>[-pooled]/.

        An image-caption set has one folder per direction, RUN/eval/<set>-<direction>-<split>[-pooled]/. With
        `references` also evaluate the untrained student, the teacher on English queries, and for texts BM25 and BM25
        through a dictionary counted in the run's bitext.

        Raises:
          ConfigError: as `check`.
        """
        step = find_step(run, "last")
        tasks = {
            # An image set is read in all languages, so that every language is ranked against the same images.
            path: self._task(path, "" if is_images(path) else language)
            for path in self._paths
            if language in self._languages[path]
        }
        if all(
            has_results(run / "eval" / name, step, references, task.inputs)
            for path, task in tasks.items()
            for name in folders_of(path, self._split)
        ):
            return
        teacher = load(run, side="document", part="teacher")
        askers = {"student": load(run, checkpoint=step, part="student")}
        if references:
            askers |= {
                "untrained": load(run, checkpoint="untrained", part="student"),
                "teacher": replace(teacher, side="query"),
            }
        queries: Held = {}
        for path, task in tasks.items():
            documents = self._image_tower(path, run, teacher) if isinstance(task, ImageTask) else teacher
            own = {language: task.asked[language]}
            systems = {
                name: System(tower, documents, in_english(task, language) if name == "teacher" else own)
                for name, tower in askers.items()
            }
            by_words = rank_alone(run, task) if references and isinstance(task, TextTask) else {}
            for scoring in SCORINGS:
                found = by_words | evaluate(task, systems, self._vectors(path, task, scoring, queries))
                origin = {"run": str(run), "checkpoint": step}
                record: dict[str, Any] = {"shared_with_training": None}
                if isinstance(task, TextTask):
                    record |= {"left_out": task.left_out}
                evaluation = Evaluation(task, scoring, "student", found, origin, record)
                if isinstance(task, TextTask):
                    (table,) = table_names(path, self._split)
                    metrics = evaluation.as_json(read_json(run / "config.json")["low_resource"])
                    write(run, table, evaluation, metrics)
                else:
                    self._write_directions(run, path, language, evaluation)

    def _read_task(self, path: str, language: str) -> RetrievalTask:
        source = source_of(path)
        if not is_images(path):
            return text_task(read_source(source.spec, self._split, [language]))
        found = self._image_set(source.spec)
        return replace(image_task(found), inputs=image_inputs(found, source.pair))

    def _vectors(self, path: str, task: RetrievalTask, scoring: str, queries: Held) -> Vectors:
        """Encoder with a cache: document vectors are kept for all runs, query vectors (`queries`) for one run."""
        source = replace(source_of(path), pair="")

        def vectors(tower: Tower, items: Mapping[str, Any], label: str) -> Iterable[Block]:
            held, key = queries, (source, id(tower))
            if items is task.documents:
                held, key = self._documents, (source, fingerprint(tower.params), str(identity(tower.cfg)), tower.recipe)
            if key not in held:
                held[key] = list(encode_items(tower, items))
            return pool_blocks(held[key]) if scoring == "pooled" else held[key]

        return vectors

    def _image_tower(self, path: str, run: Path, teacher: Tower) -> Tower:
        """Image tower of the run's teacher, or of the dual encoder that the collection names."""
        pair = source_of(path).pair
        if not pair:
            return load(run, part="image")
        if pair not in self._pairs:
            self._pairs[pair] = image_tower_of(pair, teacher)
        return self._pairs[pair]

    def _write_directions(self, run: Path, path: str, language: str, evaluation: Evaluation) -> None:
        """Write each direction as its own evaluation with images as units: several captions of one are averaged."""
        for way in evaluation.task.directions:
            found: Results = {}
            for name, languages in evaluation.found.items():
                (one,) = (found[way] for found in languages.values())
                per_image = Direction(list(one.per_unit), one.documents, one.ranking, one.per_unit)
                found[name] = {language: {way: per_image}}
            means = {name: {language: mean_of(one[language][way])} for name, one in found.items()}
            metrics = {
                "collection": f"{base_name(path)}-{way}",
                "split": self._split,
                "scoring": evaluation.scoring,
                "way": way,
                "system": evaluation.system,
                **evaluation.origin,
                "inputs": evaluation.task.inputs,
                "languages": means.pop(evaluation.system),
                "references": means,
            }
            write(run, way_name(path, way, self._split), replace(evaluation, found=found), metrics)


def write(run: Path, table: str, evaluation: Evaluation, metrics: Mapping[str, Any]) -> None:
    """Write per_query.jsonl and metrics.json; no TREC files, which are large and can be written by eval.py."""
    folder = run / "eval" / results_folder(table, evaluation.scoring)
    folder.mkdir(parents=True, exist_ok=True)
    write_files(folder, evaluation, tag=None)
    # Written last: a folder with metrics.json is complete.
    write_json(folder / "metrics.json", metrics)


def in_english(task: RetrievalTask, language: str) -> dict[str, Any]:
    """English queries of the teacher in place of those in the language; empty if there are none."""
    if isinstance(task, TextTask):
        return judged_queries(task.collection, english_queries(task.collection))
    assert isinstance(task, ImageTask)
    return {language: caption_queries(task.images.captions["en"])} if "en" in task.images.captions else {}


def check_texts(pair: str, teacher: Tower) -> None:
    """Check that a dual encoder's text tower is the runs' teacher, so that images and students share a vector space.

    Raises:
      ConfigError: its text tower has other weights than the teacher.
    """
    if fingerprint(open_source(pair).tower("text").params) != fingerprint(teacher.params):
        raise ConfigError(
            f"collections: the text tower of {pair} is not the runs' teacher, so its image vectors are in another "
            "space; name a dual encoder that was trained with the teacher as its locked text tower"
        )


def image_tower_of(pair: str, teacher: Tower) -> Tower:
    """Load the image tower of a dual encoder that passes `check_texts`."""
    check_texts(pair, teacher)
    return open_source(pair).tower("image")


def rank_alone(run: Path, task: TextTask) -> Results:
    """Lexical baselines (BM25 and dictionary) of the run's language: `baselines.rank_by_words`."""
    lexicons = count_lexicons(load_bitext(saved_data(read_json(run / "config.json"))).train, task.collection)
    return task.judged(rank_by_words(task.collection, {}, lexicons))


def mean_of(found: Direction) -> MetricValues:
    """Mean metrics over images, and their number as "queries"."""
    rows = list(found.per_query.values())
    return {name: float(np.mean([metrics[name] for metrics in rows])) for name in rows[0]} | {"queries": len(rows)}

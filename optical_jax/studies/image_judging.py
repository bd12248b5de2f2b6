"""A run of a study on pictures with captions, both ways: the teacher's pictures are encoded once a process."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from optical_jax.data.images.captions import Caption, ImageTextSet
from optical_jax.data.images.sources import read_image_set
from optical_jax.errors import ConfigError
from optical_jax.evaluation.image_report import figures_by_picture
from optical_jax.files import write_json
from optical_jax.params import fingerprint
from optical_jax.retrieval.image_metrics import WAYS
from optical_jax.retrieval.image_search import Vectors, by_position, search_both_ways
from optical_jax.retrieval.metrics import Figures, PerQuery
from optical_jax.retrieval.search import encode_blocks
from optical_jax.runs.load import load
from optical_jax.runs.pair import open_source
from optical_jax.studies.readers import picture_inputs
from optical_jax.studies.tables import SCORINGS, base_name, results_folder, source_of, way_name
from optical_jax.towers.images import encode_images, image_tower_sha256
from optical_jax.towers.tower import Tower, encode, to_device
from optical_jax.types import TokenVectors, mean_pool

ENGLISH = "en"


class PictureJudge:
    """Evaluates runs that share a teacher; keeps what does not change between them, and a run's last captions."""

    def __init__(self, split: str) -> None:
        self._split = split
        self._sets: dict[str, ImageTextSet] = {}
        self._inputs: dict[str, dict[str, str]] = {}
        self._pairs: dict[str, Tower] = {}
        self._pictures: dict[tuple[str, ...], list[Vectors]] = {}
        self._captions: tuple[Any, dict[str, list[Vectors]]] = None, {}

    def evaluate(
        self,
        run: Path,
        step: int | str,
        collection: str,
        language: str,
        systems: Mapping[str, Tower],
        teacher: Tower,
    ) -> None:
        """Write RUN/eval/<set>-<way>-<split>[-pooled]/ for both ways.

        Args:
          run: of a student.
          step: its checkpoint.
          collection: a set, whose pictures are read by the tower that came with the run's teacher; or `SET by PAIR`.
          language: of the captions; "teacher" is asked in English.
          systems: name -> who encodes captions.
          teacher: whose vectors the student learned.

        Raises:
          ConfigError: the pair's texts are read by another tower than the teacher.
        """
        found = self._set(collection)
        vectors = self._vectors(run, collection, found, teacher)
        assert found.pictures is not None, "read with its pictures"
        pictures = list(found.pictures)
        captions = {name: found.captions[ENGLISH if name == "teacher" else language]
                    for name in systems if name != "teacher" or ENGLISH in found.captions}  # fmt: skip
        texts = self._texts((run, step, source_of(collection).spec, language), systems, captions)
        for scoring in SCORINGS:
            of_pictures = vectors if scoring == "maxsim" else means_of(vectors)
            per_query: dict[str, dict[str, PerQuery]] = {way: {} for way in WAYS}
            for name, own in captions.items():
                of_texts = texts[name] if scoring == "maxsim" else means_of(texts[name])
                picture_of = {caption: of.picture for caption, of in own.items()}
                both = search_both_ways(own, of_texts, pictures, of_pictures)
                for way, one in zip(WAYS, both, strict=True):
                    per_query[way][name] = figures_by_picture(one.per_query, picture_of if way == "t2i" else {})
            for way in WAYS:
                self._write(run, step, collection, language, way, scoring, per_query[way])

    def inputs(self, collection: str) -> dict[str, str]:
        """Name -> sha256 of what decides the figures, beside the run."""
        if collection not in self._inputs:
            self._inputs[collection] = picture_inputs(self._set(collection), source_of(collection).pair)
        return self._inputs[collection]

    def _write(
        self,
        run: Path,
        step: int | str,
        collection: str,
        language: str,
        way: str,
        scoring: str,
        per_query: Mapping[str, PerQuery],
    ) -> None:
        folder = run / "eval" / results_folder(way_name(collection, way, self._split), scoring)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "per_query.jsonl").open("w", encoding="utf-8") as file:
            for system, queries in per_query.items():
                for query, figures in queries.items():
                    row = {"system": system, "language": language, "query": query, **figures}
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
        means = {system: {language: mean_of(queries)} for system, queries in per_query.items()}
        about = {"collection": f"{base_name(collection)}-{way}", "split": self._split, "scoring": scoring}
        about |= {"way": way, "system": "student", "run": str(run), "checkpoint": step}
        about |= {"inputs": self.inputs(collection)}
        # Last: a folder with metrics.json is whole.
        write_json(folder / "metrics.json", {**about, "languages": means.pop("student"), "references": means})

    def _set(self, collection: str) -> ImageTextSet:
        # In all languages, so that each is searched in the same pictures.
        spec = source_of(collection).spec
        if spec not in self._sets:
            self._sets[spec] = read_image_set(spec, self._split)
        return self._sets[spec]

    def _texts(
        self, asked: Any, systems: Mapping[str, Tower], captions: Mapping[str, Mapping[str, Caption]]
    ) -> dict[str, list[Vectors]]:
        """Of a run's captions, which several pairs may be asked with one after the other."""
        before, texts = self._captions
        if asked != before:
            texts = {name: encode_captions(systems[name], own) for name, own in captions.items()}
            self._captions = asked, texts
        return texts

    def _vectors(self, run: Path, collection: str, found: ImageTextSet, teacher: Tower) -> list[Vectors]:
        source = source_of(collection)
        tower = self._reader(source.pair, teacher) if source.pair else load(run, part="image")
        key = source.spec, image_tower_sha256(tower)
        if key not in self._pictures:
            assert found.pictures is not None, "read with its pictures"
            ids = list(found.pictures)
            self._pictures[key] = by_position(encode_images(tower, found.pictures, ids), len(ids))
        return self._pictures[key]

    def _reader(self, pair: str, teacher: Tower) -> Tower:
        """The pair's tower of pictures, if its texts are read by the teacher."""
        if pair not in self._pairs:
            check_texts(pair, teacher)
            self._pairs[pair] = open_source(pair).tower("image")
        return self._pairs[pair]


def check_texts(pair: str, teacher: Tower) -> None:
    """Refuse a pair whose pictures lie elsewhere than the vectors that the runs learn.

    Raises:
      ConfigError: its texts are read by another tower than the teacher.
    """
    if fingerprint(open_source(pair).tower("text").params) != fingerprint(teacher.params):
        raise ConfigError(
            f"collections: texts of {pair} are read by another tower than the runs' teacher, so its pictures lie "
            "elsewhere; name a pair that was trained with that tower, locked"
        )


def encode_captions(tower: Tower, captions: Mapping[str, Caption]) -> list[Vectors]:
    there = to_device(tower)
    texts = [caption.text for caption in captions.values()]
    return by_position(encode_blocks(texts, lambda batch: encode(there, batch)), len(texts))


_mean_pool = jax.jit(mean_pool)


def means_of(texts: list[Vectors]) -> list[Vectors]:
    """The direction of the mean of each one's vectors."""
    longest = max(map(len, texts))
    vectors = np.zeros((len(texts), longest, texts[0].shape[1]), np.float32)
    mask = np.arange(longest) < np.array([len(one) for one in texts])[:, None]
    vectors[mask] = np.concatenate(texts)
    pooled = _mean_pool(TokenVectors(vectors, mask))  # pyright: ignore[reportArgumentType]
    return list(np.asarray(pooled.vectors))


def mean_of(per_query: PerQuery) -> Figures:
    """Means over pictures, and their number as "queries"."""
    names = next(iter(per_query.values()))
    means = {name: float(np.mean([figures[name] for figures in per_query.values()])) for name in names}
    return {**means, "queries": len(per_query)}

"""A run of a study on pictures with captions, both ways: the teacher's pictures are encoded once a process."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np

from optical_jax.commands.picture_towers import load_part, together
from optical_jax.data.image_captions import Caption, ImageTextSet
from optical_jax.data.image_sources import read_image_set
from optical_jax.evaluation.image_figures import WAYS
from optical_jax.evaluation.metrics import Figures, PerQuery
from optical_jax.evaluation.picture_report import figures_by_picture
from optical_jax.evaluation.picture_search import Vectors, by_position, search_both_ways
from optical_jax.evaluation.search import encode_blocks
from optical_jax.files import write_json
from optical_jax.models.late_interaction import mean_pool
from optical_jax.picture_encoding import encode_picture_blocks, image_tower_sha256
from optical_jax.studies.tables import SCORINGS, base_name, results_folder, set_and_tower, way_name
from optical_jax.towers import Tower, encode, load, placed
from optical_jax.types import TokenVectors

ENGLISH = "en"


class PictureJudge:
    """Evaluates runs that share a teacher of pictures; keeps what does not change between them."""

    def __init__(self, split: str) -> None:
        self._split = split
        self._sets: dict[str, ImageTextSet] = {}
        self._pictures: dict[tuple[str, ...], list[Vectors]] = {}

    def evaluate(self, run: Path, step: int | str, spec: str, language: str, systems: Mapping[str, Tower]) -> None:
        """Write RUN/eval/<set>-<way>-<split>[-pooled]/ for both ways.

        Args:
          run: of a student whose teacher came with a tower of pictures.
          step: its checkpoint.
          spec: the set; or `SET by PAIR`, whose tower reads its pictures in place of the teacher's.
          language: of the captions; "teacher" is asked in English.
          systems: name -> who encodes captions.
        """
        found = self._set(spec)
        vectors = self._vectors(run, spec, found, systems["student"])
        assert found.pictures is not None, "read with its pictures"
        pictures = list(found.pictures)
        captions = {name: found.captions[ENGLISH if name == "teacher" else language]
                    for name in systems if name != "teacher" or ENGLISH in found.captions}  # fmt: skip
        texts = {name: encode_captions(systems[name], own) for name, own in captions.items()}
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
                self._write(run, step, spec, language, way, scoring, per_query[way])

    def _write(
        self,
        run: Path,
        step: int | str,
        spec: str,
        language: str,
        way: str,
        scoring: str,
        per_query: Mapping[str, PerQuery],
    ) -> None:
        folder = run / "eval" / results_folder(way_name(spec, way, self._split), scoring)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "per_query.jsonl").open("w", encoding="utf-8") as file:
            for system, queries in per_query.items():
                for query, figures in queries.items():
                    row = {"system": system, "language": language, "query": query, **figures}
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
        means = {system: {language: mean_of(queries)} for system, queries in per_query.items()}
        about = {"collection": f"{base_name(spec)}-{way}", "split": self._split, "scoring": scoring}
        about |= {"way": way, "system": "student", "run": str(run), "checkpoint": step}
        # Last: a folder with metrics.json is whole.
        write_json(folder / "metrics.json", {**about, "languages": means.pop("student"), "references": means})

    def _set(self, spec: str) -> ImageTextSet:
        # In all languages, so that each is searched in the same pictures.
        if spec not in self._sets:
            self._sets[spec] = read_image_set(set_and_tower(spec)[0], self._split)
        return self._sets[spec]

    def _vectors(self, run: Path, spec: str, found: ImageTextSet, student: Tower) -> list[Vectors]:
        pair = set_and_tower(spec)[1]
        tower = together(student, load_part(pair, "image", None), pair, None).image if pair else load(run, part="image")
        key = spec, image_tower_sha256(tower)
        if key not in self._pictures:
            assert found.pictures is not None, "read with its pictures"
            ids = list(found.pictures)
            self._pictures[key] = by_position(encode_picture_blocks(tower, found.pictures, ids), len(ids))
        return self._pictures[key]


def encode_captions(tower: Tower, captions: Mapping[str, Caption]) -> list[Vectors]:
    there = placed(tower)
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

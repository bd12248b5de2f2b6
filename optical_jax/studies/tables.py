"""Result tables of a study's collections: one per text collection, one per direction of an image-caption set."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from optical_jax.config import expand_path
from optical_jax.data.images.captions import caption_files
from optical_jax.data.images.sources import is_image_set, read_image_set
from optical_jax.errors import ConfigError, DataError
from optical_jax.retrieval.image_metrics import RECALLS, WAYS
from optical_jax.retrieval.metrics import METRICS
from optical_jax.studies.design import Study

SCORINGS = ("maxsim", "pooled")
SPLIT = "dev"
TESTED = ("AP", "R@1", "R@10")
SHOWN = ("R@1", "R@10", "AP")
"""Default metrics tested, and shown, on text collections; on images both are RECALLS."""
SHOWN_OF_DEV = ("R@1", "R@10", "RR@10")
"""Metrics shown on dev pairs if a study has no collection."""
CAPTIONS = "captions:"


@dataclass(frozen=True)
class Source:
    """Parsed name of a study's collection."""

    spec: str
    """Folder in BEIR format, or a set of images with captions."""
    captions: bool = False
    """Captions only, as text queries for the English captions (`captions:SET`)."""
    pair: str = ""
    """Dual encoder whose image tower encodes the images (`SET by PAIR`); empty for that of the runs' teacher."""


def source_of(collection: str) -> Source:
    """Parse a collection name; unknown environment variables are kept, to report a copied study without its data."""
    if Path(_filled(collection)).exists():
        return Source(_filled(collection))
    captions = collection.startswith(CAPTIONS)
    named = collection.removeprefix(CAPTIONS)
    spec, by, pair = named.rpartition(" by ")
    return Source(_filled(spec if by else named), captions, _filled(pair if by else ""))


def _filled(path: str) -> str:
    try:
        return expand_path(path, "collections")
    except ConfigError:
        return path


def is_images(collection: str) -> bool:
    """True for a set of images with captions; False if it is missing, or for captions only."""
    source = source_of(collection)
    return not source.captions and is_image_set(source.spec)


def base_name(collection: str) -> str:
    """Display name of a collection: its (last) folder, with suffixes for captions only and a named dual encoder."""
    source = source_of(collection)
    name = Path(source.spec.rpartition(":")[2].split(",")[-1]).name
    return f"{name}{'-captions' * source.captions}{f'-by-{Path(source.pair).name}' if source.pair else ''}"


def way_name(collection: str, way: str, split: str = SPLIT) -> str:
    return f"{base_name(collection)}-{way}-{split}"


def table_names(collection: str, split: str = SPLIT) -> list[str]:
    """Names of a collection's tables: name and split, for images one per direction.

    If a copied study's collection is absent, all names that it may have.
    """
    text, ways = f"{base_name(collection)}-{split}", [way_name(collection, way, split) for way in WAYS]
    if is_images(collection):
        return ways
    return [text] if source_of(collection).captions or languages_of(collection) else [text, *ways]


def of_images(study: Study, table: str) -> bool:
    return any(table == way_name(collection, way) for collection in study.collections for way in WAYS)


def tested_of(study: Study, table: str) -> tuple[str, ...]:
    """Metrics tested in a table."""
    return study.metrics or (RECALLS if of_images(study, table) else TESTED)


def shown_of(study: Study, table: str) -> tuple[str, ...]:
    """Metrics shown in a table; "dev" is the table of dev pairs."""
    if table == "dev":
        return SHOWN_OF_DEV
    return study.metrics or (RECALLS if of_images(study, table) else SHOWN)


def scoring_of(study: Study, table: str) -> str:
    """Scoring of a table's tests; dev pairs are always scored by MaxSim."""
    return "maxsim" if table == "dev" else study.scoring


def check_metrics(study: Study) -> None:
    """Check that every collection has the study's metrics.

    Raises:
      ConfigError: names the unknown metric and the valid ones.
    """
    for collection in study.collections:
        known = RECALLS if is_images(collection) else METRICS
        if unknown := [name for name in study.metrics if name not in known]:
            raise ConfigError(
                f"metrics: {unknown[0]!r} is not a metric of {base_name(collection)}; use some of {', '.join(known)}"
            )


def results_folder(table: str, scoring: str) -> str:
    """Name of the results folder under RUN/eval, as in eval.py."""
    return f"{table}{'-pooled' if scoring == 'pooled' else ''}"


def folders_of(collection: str, split: str = SPLIT) -> list[str]:
    """Names of all results folders of a collection under RUN/eval."""
    return [results_folder(table, scoring) for table in table_names(collection, split) for scoring in SCORINGS]


def languages_of(collection: str) -> set[str]:
    """Query languages of a collection; empty if it is missing."""
    path = source_of(collection).spec
    if not is_image_set(path):
        return {file.name.split(".")[1] for file in Path(path).glob("queries.*.jsonl*")}
    if Path(path).is_dir() and (splits := caption_files(Path(path))):
        return set(splits.get(SPLIT, {}))
    return _languages_of_layout(path)


@cache
def _languages_of_layout(spec: str) -> set[str]:
    try:
        return set(read_image_set(spec, SPLIT, text_only=True).captions)
    except (ConfigError, DataError):
        return set()

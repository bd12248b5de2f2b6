"""What a study's runs are asked: each collection of texts is a table of results, each set of pictures is two."""

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
"""What is tested of collections of texts, and shown of them; of pictures RECALLS are both."""
SHOWN_OF_DEV = ("R@1", "R@10", "RR@10")
"""What is shown of dev pairs, where a study has no collection."""
CAPTIONS = "captions:"


@dataclass(frozen=True)
class Source:
    """What one of a study's collections names."""

    spec: str
    """A folder in BEIR's form, or a set of pictures with captions."""
    captions: bool = False
    """Of the set the captions alone, as texts that look for the English ones (`captions:SET`)."""
    pair: str = ""
    """Whose tower reads the pictures (`SET by PAIR`); empty is that of the runs' teacher."""


def source_of(collection: str) -> Source:
    """Variables are filled in where they are known: a study that was copied may be told of without its data."""
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
    """True for a set of pictures with captions; False where it is not there, or captions alone are asked."""
    source = source_of(collection)
    return not source.captions and is_image_set(source.spec)


def base_name(collection: str) -> str:
    """Of a folder, or of the last folder of NAME:FOLDER,FOLDER; with what is asked of it."""
    source = source_of(collection)
    name = Path(source.spec.rpartition(":")[2].split(",")[-1]).name
    return f"{name}{'-captions' * source.captions}{f'-by-{Path(source.pair).name}' if source.pair else ''}"


def way_name(collection: str, way: str, split: str = SPLIT) -> str:
    return f"{base_name(collection)}-{way}-{split}"


def table_names(collection: str, split: str = SPLIT) -> list[str]:
    """A collection's tables: its name and split; of pictures one a way of asking.

    A study that was copied may lie where its collections do not: then all that it may have been.
    """
    text, ways = f"{base_name(collection)}-{split}", [way_name(collection, way, split) for way in WAYS]
    if is_images(collection):
        return ways
    return [text] if source_of(collection).captions or languages_of(collection) else [text, *ways]


def of_images(study: Study, table: str) -> bool:
    return any(table == way_name(collection, way) for collection in study.collections for way in WAYS)


def tested_of(study: Study, table: str) -> tuple[str, ...]:
    """The metrics that arms are compared by in a table."""
    return study.metrics or (RECALLS if of_images(study, table) else TESTED)


def shown_of(study: Study, table: str) -> tuple[str, ...]:
    """The metrics that a table shows, "dev" being that of dev pairs."""
    if table == "dev":
        return SHOWN_OF_DEV
    return study.metrics or (RECALLS if of_images(study, table) else SHOWN)


def scoring_of(study: Study, table: str) -> str:
    """How what a table tests was ranked; dev pairs are ranked in one way."""
    return "maxsim" if table == "dev" else study.scoring


def check_metrics(study: Study) -> None:
    """Refuse metrics that one of the collections does not have.

    Raises:
      ConfigError: names it, and those there are.
    """
    for collection in study.collections:
        known = RECALLS if is_images(collection) else METRICS
        if unknown := [name for name in study.metrics if name not in known]:
            raise ConfigError(
                f"metrics: {unknown[0]!r} is none of {base_name(collection)}, which has {', '.join(known)}"
            )


def results_folder(table: str, scoring: str) -> str:
    """Under RUN/eval, as eval.py names it."""
    return f"{table}{'-pooled' if scoring == 'pooled' else ''}"


def folders_of(collection: str, split: str = SPLIT) -> list[str]:
    """Under RUN/eval, all that a run on this collection is evaluated to."""
    return [results_folder(table, scoring) for table in table_names(collection, split) for scoring in SCORINGS]


def languages_of(collection: str) -> set[str]:
    """Languages that a collection is asked in; none where it is not there."""
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

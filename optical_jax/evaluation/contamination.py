"""Train/test overlap: texts and images of an evaluation set that occur in the training data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optical_jax.config import expand_path
from optical_jax.errors import ConfigError, DataError
from optical_jax.files import SEEN_IMAGES, read_json, trains_pair, trains_teacher
from optical_jax.runs.bitext import read_training_text
from optical_jax.runs.folder import read_run_config

if TYPE_CHECKING:
    from optical_jax.data.collections.collection import Collection
    from optical_jax.data.images.files import Images
    from optical_jax.data.text.bitext import Bitext


def asked_and_judged(collection: Collection) -> list[str]:
    """All queries and judged documents; unjudged documents do not count as overlap, for they answer no query."""
    judged = {document for grades in collection.qrels.values() for document in grades}
    return [
        *(collection.documents[document] for document in judged),
        *(text for queries in collection.queries.values() for text in queries.values()),
    ]


def shared_with_training(train: Mapping[str, Bitext], texts: Sequence[str], where: str) -> dict[str, int]:
    """Count and print the training pairs of each language that share a text with these.

    Args:
      where: what the texts are, for people.
    """
    from optical_jax.data.text.bitext import overlap

    shared = overlap(train, texts)
    for language, count in shared.items():
        print(f"training text: {count:,} of {len(train[language]):,} {language} pairs share a text with {where}")
    return shared


def counts_of_training(
    run: Path | None, seen_by: str, pictures: Images, texts: Sequence[str], name: str, cache_dir: str | None
) -> dict[str, Any]:
    """Overlap of an image-caption set with the training data, for metrics.json; None where it is unknown.

    Args:
      run: run folder of a student or a teacher; None for a model.
      seen_by: run, folder or hub name of the image tower.
      pictures: the ranked images.
      texts: the query captions, and the English captions of the same images.
      name: name of the set, for messages.

    Returns:
      `shared_with_training`: language -> number of training pairs (of an image-text teacher, captions) that share a
      text with these, also printed; and `pictures_trained_on`: model -> number of images it was trained on.
    """
    from optical_jax.runs.pair import open_source

    seen = {"image_tower": open_source(seen_by, cache_dir).seen_images}
    if run is not None and not trains_teacher(run):
        seen["student"] = shown_to_student(run)
    return {
        "shared_with_training": None if run is None else shared_texts(run, texts, f"the captions of {name}"),
        "pictures_trained_on": {
            who: None if digests is None else count_among(pictures, digests) for who, digests in seen.items()
        },
    }


def count_among(pictures: Images, digests: Sequence[str]) -> int:
    """Number of images with one of these digests (hexadecimal)."""
    known = set(digests)
    return sum(digest.hex() in known for digest in pictures.digests.values())


def shown_to_student(run: Path) -> list[str] | None:
    """Digests of the images a student was trained on besides its bitext; None where the run has no record of them."""
    if not read_run_config(run).get("data", {}).get("pictures"):
        return []
    return read_json(run / SEEN_IMAGES) if (run / SEEN_IMAGES).is_file() else None


def shared_texts(run: Path, texts: Sequence[str], where: str) -> dict[str, int] | None:
    """Count and print the training texts of each language that are among `texts`; None where they cannot be read.

    Args:
      where: what the texts are, for people.
    """
    saved, lost = read_run_config(run), f"training text could not be checked against {where}"
    if trains_pair(run):
        return shared_captions(saved.get("data", {}), texts, where, lost)
    train = None if trains_teacher(run) else read_training_text(saved, lost)
    return None if train is None else shared_with_training(train, texts, where)


def shared_captions(data: Mapping[str, Any], texts: Sequence[str], where: str, lost: str) -> dict[str, int] | None:
    """`shared_texts` for the training captions of an image-text teacher, given its data settings."""
    from optical_jax.data.images.sources import read_image_set
    from optical_jax.data.text.bitext import text_key

    if not data.get("images"):
        return None
    language, keys = data["language"], {text_key(text) for text in texts}
    try:
        sets = [
            read_image_set(expand_path(spec, "data.images"), split, (language,))
            for spec in data["images"]
            for split in data["splits"]
        ]
    except (ConfigError, DataError) as error:
        print(f"{lost}: {error}")
        return None
    learned = [caption.text for one in sets for caption in one.captions[language].values()]
    count = sum(text_key(text) in keys for text in learned)
    print(f"training text: {count:,} of {len(learned):,} {language} captions are among {where}")
    return {language: count}

"""How many texts of a collection the training has seen."""

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
    """Queries and the documents judged for them: a document that no query looks for is no answer learned."""
    judged = {document for grades in collection.qrels.values() for document in grades}
    return [
        *(collection.documents[document] for document in judged),
        *(text for queries in collection.queries.values() for text in queries.values()),
    ]


def shared_with_training(train: Mapping[str, Bitext], texts: Sequence[str], where: str) -> dict[str, int]:
    """How many training pairs of each language share a text with these, told on stdout.

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
    """What of a set of pictures with captions was learned from, for metrics.json; None where nothing tells.

    Args:
      run: of a student or a teacher; None for a model.
      seen_by: the run, folder or hub name whose tower of pictures encodes.
      pictures: that are ranked.
      texts: the captions that ask, and the English ones of the same pictures.
      name: of the set, for people.

    Returns:
      `shared_with_training`: language -> training pairs (of an image-text teacher captions) that share a text with
      these, told on stdout too; and `pictures_trained_on`: who -> how many of the pictures.
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
    """Pictures that have one of these digests (hexadecimal)."""
    known = set(digests)
    return sum(digest.hex() in known for digest in pictures.digests.values())


def shown_to_student(run: Path) -> list[str] | None:
    """Digests of the pictures that a student learned from beside its bitext; None where its run does not tell."""
    if not read_run_config(run).get("data", {}).get("pictures"):
        return []
    return read_json(run / SEEN_IMAGES) if (run / SEEN_IMAGES).is_file() else None


def shared_texts(run: Path, texts: Sequence[str], where: str) -> dict[str, int] | None:
    """Training texts of each language that are among `texts`, told on stdout; None where they cannot be told.

    Args:
      where: what the texts are, for people.
    """
    saved, lost = read_run_config(run), f"training text could not be checked against {where}"
    if trains_pair(run):
        return shared_captions(saved.get("data", {}), texts, where, lost)
    train = None if trains_teacher(run) else read_training_text(saved, lost)
    return None if train is None else shared_with_training(train, texts, where)


def shared_captions(data: Mapping[str, Any], texts: Sequence[str], where: str, lost: str) -> dict[str, int] | None:
    """The same of the captions that an image-text teacher learned from, by the settings of its data."""
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

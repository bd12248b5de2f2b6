"""Image captions as a text retrieval collection: English captions are documents, those of other languages queries."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from optical_jax.data.collections.collection import Collection
from optical_jax.data.files.records import Qrels
from optical_jax.data.images.captions import Caption, ImageTextSet
from optical_jax.errors import ConfigError, DataError
from optical_jax.files import sha256_file


def captions_as_collection(found: ImageTextSet, languages: Sequence[str] = ()) -> Collection:
    """Make a collection of captions; all English captions of a query's image are relevant to it.

    Args:
      found: an image set with English captions; its images are not read.
      languages: of the queries; empty for all but English. Captions of images without an English one are left out.

    Raises:
      ConfigError: English is requested, which is what is searched.
      DataError: no English captions, none in a language, no image with both, or one caption id for several images.
    """
    if "en" in languages:
        raise ConfigError("lang=en: the English captions are what is searched; name other languages")
    if "en" not in found.captions:
        raise DataError(f"{found.name}, {found.split}: no English captions to search; its languages: {listed(found)}")
    asked = languages or [language for language in found.captions if language != "en"]
    if not asked:
        raise DataError(f"{found.name}, {found.split}: captions in English only, none as queries")
    chosen = select_languages(found, asked)
    english = found.captions_of_images("en")
    queries: dict[str, dict[str, str]] = {}
    qrels: Qrels = {}
    for language, captions in chosen.items():
        of_both = {name: caption for name, caption in captions.items() if caption.picture in english}
        if not of_both:
            raise DataError(f"{found.name}, {found.split}: no image has captions in English and in {language}")
        queries[language] = {name: caption.text for name, caption in of_both.items()}
        for name, caption in of_both.items():
            grades = dict.fromkeys(english[caption.picture], 1)
            if qrels.setdefault(name, grades) != grades:
                raise DataError(
                    f"{found.name}, {found.split}: caption id {name!r} belongs to several images across languages; "
                    "give each caption an id of its own"
                )
    return Collection(
        name=f"{found.name}-captions",
        split=found.split,
        documents={name: caption.text for name, caption in found.captions["en"].items()},
        queries=queries,
        qrels=qrels,
        english={},
        sha256=hashes(found.files),
    )


def select_languages(found: ImageTextSet, languages: Sequence[str]) -> dict[str, dict[str, Caption]]:
    """The captions of these languages; all if none is named.

    Raises:
      DataError: a language that the set does not have.
    """
    for language in languages:
        if language not in found.captions:
            raise DataError(f"{found.name}, {found.split}: no captions in {language}; its languages: {listed(found)}")
    return {language: found.captions[language] for language in languages or found.captions}


def listed(found: ImageTextSet) -> str:
    return ", ".join(found.captions)


def hashes(files: Sequence[Path]) -> dict[str, str]:
    """File name -> sha256; files with the same name by their paths."""
    names = [path.name for path in files]
    return {path.name if names.count(path.name) == 1 else str(path): sha256_file(path) for path in files}

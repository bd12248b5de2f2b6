"""Open a retrieval collection: a folder in BEIR format, an id of ir_datasets, or NAME:FOLDER.

Image captions are a collection, too: captions of other languages are queries for the English ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from optical_jax.data.collections.captions import captions_as_collection
from optical_jax.data.collections.collection import Collection, CollectionFiles, beir_files
from optical_jax.data.collections.ir_catalogue import PREFIX, ir_collection
from optical_jax.data.collections.layouts import LAYOUTS
from optical_jax.data.files.finding import FileFinder
from optical_jax.data.files.records import BadLines
from optical_jax.data.files.requests import SourceRequest, parse_spec
from optical_jax.data.images.sources import is_image_set, read_image_set
from optical_jax.errors import ConfigError


def read_source(
    spec: str,
    split: str = "dev",
    languages: Sequence[str] = (),
    cache_dir: str | None = None,
    bad: BadLines | None = None,
) -> Collection:
    """Read a collection of any format into memory; a document takes its text and about 200 bytes.

    Args:
      spec: as for `open_source`; or an image set with captions, of which only the text is read
        (`captions_as_collection`).
      split, languages, cache_dir: as for `open_source`.
      bad: as of `CollectionFiles.gather`.

    Raises:
      ConfigError: as `open_source`.
      DataError: a file is broken or contradictory; the message names file and line.
    """
    if is_image_set(spec):
        # All languages, since any may be the English that is searched.
        return captions_as_collection(read_image_set(spec, split, text_only=True), languages)
    return open_source(spec, split, languages, cache_dir).gather(languages, bad)


def open_source(
    spec: str, split: str = "dev", languages: Sequence[str] = (), cache_dir: str | None = None
) -> CollectionFiles:
    """Find the files of a collection; they are read when its streams are read.

    Args:
      spec: a folder in BEIR format; ``ir_datasets:ID``; or ``NAME:FOLDER``, NAME one of `layouts.LAYOUTS`, with
        ``NAME/LANG:FOLDER`` for documents in that language. FOLDER may be a data set of the Hub (``org/name``), or
        several of both, joined by commas.
      split: which judgements; an id of ir_datasets has its own.
      languages: of the queries; empty for all.
      cache_dir: for downloads from the Hub.

    Raises:
      ConfigError: no such name, language or split.
      DataError: a folder or file is missing.
    """
    if spec.startswith(PREFIX):
        return ir_collection(spec, languages)
    named, folders = parse_spec(spec)
    if not named:
        return beir_files(Path(spec), split, languages)
    name, _, document_language = named.partition("/")
    if name not in LAYOUTS:
        raise ConfigError(
            f"collection={spec}: no collection is called {name}; there are ir_datasets, {', '.join(LAYOUTS)}"
        )
    files = FileFinder(spec, folders, cache_dir)
    return LAYOUTS[name](SourceRequest(spec, name, files, split, languages, document_language=document_language))

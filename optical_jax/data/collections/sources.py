"""Any collection by what the user calls it: a folder in BEIR's form, an id of ir_datasets, or NAME:FOLDER.

Captions of pictures are one too: those of other languages look for the English ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from optical_jax.data.collections.captions import captions_as_collection
from optical_jax.data.collections.collection import Collection, CollectionFiles, beir_files
from optical_jax.data.collections.ir_catalogue import PREFIX, ir_collection
from optical_jax.data.collections.layouts import LAYOUTS
from optical_jax.data.files.finding import FileFinder
from optical_jax.data.files.requests import SourceRequest, parse_spec
from optical_jax.data.images.sources import is_image_set, read_image_set
from optical_jax.errors import ConfigError


def read_source(
    spec: str, split: str = "dev", languages: Sequence[str] = (), cache_dir: str | None = None
) -> Collection:
    """Read a collection of any form into memory; a document costs its text and about 200 bytes.

    Args:
      spec: as of `open_source`; or a set of pictures with captions, of which the text alone is read
        (`captions_as_collection`).
      split, languages, cache_dir: as of `open_source`.

    Raises:
      ConfigError: as `open_source`.
      DataError: something in it is broken or contradictory; file and line are named.
    """
    if is_image_set(spec):
        # All languages, since any may be the English that is searched.
        return captions_as_collection(read_image_set(spec, split, text_only=True), languages)
    return open_source(spec, split, languages, cache_dir).gather(languages)


def open_source(
    spec: str, split: str = "dev", languages: Sequence[str] = (), cache_dir: str | None = None
) -> CollectionFiles:
    """Find the files of a collection; they are read when its streams are.

    Args:
      spec: a folder in BEIR's form; ``ir_datasets:ID``; or ``NAME:FOLDER``, NAME one of `layouts.LAYOUTS`, with
        ``NAME/LANG:FOLDER`` for documents in that language. FOLDER may be a data set of the hub (``org/name``), or
        several of both, joined by commas.
      split: which judgements; an id of ir_datasets has its own.
      languages: of the queries; none takes what there is.
      cache_dir: for what comes from the hub.

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

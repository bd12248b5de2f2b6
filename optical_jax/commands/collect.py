"""`python -m optical_jax collect`: a public collection as a folder in BEIR's form."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from optical_jax.commands.entry import open_door, refuse_no_flags
from optical_jax.errors import ConfigError

EXAMPLE = "python -m optical_jax collect --collection miracl/sw:DIR --split train dev --out miracl_sw"


@dataclass(frozen=True)
class CollectCommand:
    """Write a public collection as a folder that eval.py and training read: corpus.jsonl, queries.LANG.jsonl, qrels/.

    Documents pass through one at a time, so that millions need no memory but for their ids. The folder is there whole
    or not at all.
    """

    collection: Annotated[str, tyro.conf.arg(metavar="SOURCE")]
    """ir_datasets:ID, NAME:FOLDER, or NAME/LANG:FOLDER for documents in a language; see docs/collections.md."""
    out: Annotated[str, tyro.conf.arg(metavar="DIR")]
    """Folder to make; its name becomes the collection's."""
    split: Annotated[tuple[str, ...], tyro.conf.arg(metavar="SPLIT [SPLIT ...]")] = ("dev",)
    """Which judgements; an ir_datasets id has its own."""
    lang: Annotated[tuple[str, ...], tyro.conf.arg(metavar="LANG [LANG ...]")] = ()
    """Languages of the queries; none takes what there is."""
    max_bad_lines: int = 0
    """Leave out up to so many documents without text, judgements and triples of documents that are not there."""
    cache_dir: Annotated[str, tyro.conf.arg(metavar="DIR")] = ""
    """Folder for downloads from the hub; empty leaves it to HF_HOME."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Returns the exit code."""
    return open_door(lambda: run_command(sys.argv[1:] if argv is None else argv))


def run_command(argv: Sequence[str]) -> None:
    """Write the folder and say what is in it."""
    refuse_no_flags(argv, "name a collection and a folder to write", EXAMPLE)
    command = tyro.cli(CollectCommand, args=list(argv), prog="python -m optical_jax collect")
    check(command)
    from optical_jax.data.collections.beir_writer import write_beir
    from optical_jax.data.collections.sources import open_source
    from optical_jax.data.files.records import BadLines

    bad = BadLines(command.max_bad_lines)
    source, cache_dir = command.collection, command.cache_dir or None
    splits = [open_source(source, split, command.lang, cache_dir) for split in command.split]
    about = write_beir(splits, Path(command.out), source, bad)
    queries = ", ".join(f"{count:,} {language}" for language, count in about["queries"].items())
    judgements = ", ".join(f"{count:,} in {split}" for split, count in about["judgements"].items())
    documents = f"{about['documents']:,} documents in {about['document_language']}"
    print(f"{documents}; queries: {queries}; judgements: {judgements}")
    for split, count in about["triples"].items():
        print(f"{count:,} triples: {Path(command.out) / f'triples.{split}.tsv'}")
    if bad.count:
        print(f"left out: {bad.count:,} lines, such as {bad.first[0]}")
    print(f"collection: {command.out}")


def check(command: CollectCommand) -> None:
    """Refuse impossible flags before anything is read.

    Raises:
      ConfigError: names the flag, its value and the remedy.
    """
    if command.max_bad_lines < 0:
        raise ConfigError(f"max_bad_lines={command.max_bad_lines} is impossible; give 0 or more")
    if Path(command.out).exists():
        raise ConfigError(f"out={command.out} is there already; name another folder, or delete it")

"""`python -m optical_jax collect`: convert a public collection to a BEIR folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from optical_jax.commands.entry import as_main, refuse_no_flags
from optical_jax.errors import ConfigError
from optical_jax.invocation import program

EXAMPLE = "collect --collection miracl/sw:DIR --split train dev --out miracl_sw"


@dataclass(frozen=True)
class CollectCommand:
    """Convert a public collection to a folder for eval.py and training: corpus.jsonl, queries.LANG.jsonl, qrels/.

    Documents are streamed, so that only ids are kept in memory. The folder is written atomically.
    """

    collection: Annotated[str, tyro.conf.arg(metavar="SOURCE")]
    """ir_datasets:ID, NAME:FOLDER, or NAME/LANG:FOLDER for documents in a language; see docs/collections.md."""
    out: Annotated[str, tyro.conf.arg(metavar="DIR")]
    """Output folder; its name becomes the collection's."""
    split: Annotated[tuple[str, ...], tyro.conf.arg(metavar="SPLIT [SPLIT ...]")] = ("dev",)
    """Splits of the judgements; an ir_datasets id has its own."""
    lang: Annotated[tuple[str, ...], tyro.conf.arg(metavar="LANG [LANG ...]")] = ()
    """Languages of the queries; empty takes all."""
    max_bad_lines: int = 0
    """Largest number of bad lines to leave out: broken ones, documents and queries without text or with an id that has
    another text before, judgements with another grade before or of missing documents, triples likewise. Exact repeats
    are left out in any case."""
    cache_dir: Annotated[str, tyro.conf.arg(metavar="DIR")] = ""
    """Folder for downloads from the hub; empty uses HF_HOME."""


def run_command(argv: Sequence[str]) -> None:
    """Write the folder and print a summary."""
    refuse_no_flags(argv, "name a collection and a folder to write", EXAMPLE)
    command = tyro.cli(CollectCommand, args=list(argv), prog=program("collect"))
    check(command)
    from optical_jax.data.collections.beir_writer import write_beir
    from optical_jax.data.collections.sources import open_source
    from optical_jax.data.files.records import BadLines, in_words, leave_out_by

    bad = BadLines(command.max_bad_lines, leave_out_by("--max-bad-lines"))
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
    if bad.left_out:
        print(f"left out, by reason: {in_words(bad.left_out)}")
    print(f"collection: {command.out}")


main = as_main(run_command)


def check(command: CollectCommand) -> None:
    """Validate the flags before anything is read.

    Raises:
      ConfigError: names the flag, its value and the remedy.
    """
    if command.max_bad_lines < 0:
        raise ConfigError(f"max_bad_lines={command.max_bad_lines} is not valid; use 0 or more")
    if Path(command.out).exists():
        raise ConfigError(f"out={command.out} already exists; name another folder, or delete it")

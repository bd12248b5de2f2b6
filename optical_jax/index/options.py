"""Command-line flags of `search`, and their validation."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from optical_jax.config.vocabulary import MAX_UNKNOWN, MaxUnknown, check_max_unknown
from optical_jax.data.characters import is_blank
from optical_jax.errors import ConfigError


@dataclass(frozen=True)
class SearchCommand:
    """Exact late-interaction search (MaxSim) in the lines of a text file, or in images, for one or more queries.

    python -m optical_jax search --run runs/swahili --docs notes.txt "mvua itanyesha lini?"
    python -m optical_jax search --run runs/pictures --images photos "paka mweusi"
    """

    docs: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """Text file, plain or .gz, UTF-8: one document per line; blank lines are skipped."""
    images: Annotated[str, tyro.conf.arg(metavar="SOURCE")] = ""
    """Images instead: a folder, a tar archive or an npz file; or a set of images with captions (docs/images.md).
    The results are drawn on a sheet."""
    queries: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="QUERY")] = ()
    """Queries; quote a query of several words."""
    run: Annotated[str, tyro.conf.arg(metavar="RUN")] = ""
    """Run folder: its student encodes queries, its teacher the lines."""
    model: Annotated[str, tyro.conf.arg(metavar="DIR_OR_HUB_NAME")] = ""
    """A model instead, which encodes queries and lines; for images a dual encoder."""
    checkpoint: Annotated[str, tyro.conf.arg(metavar="last|best|STEP|untrained")] = "last"
    """Checkpoint of the run's student."""
    documents: Literal["auto", "teacher", "student"] = "auto"
    """Model of the run that encodes the lines: the teacher (English lines) or the student (lines in its language;
    student.sides must include documents). auto uses the student if it was trained on documents only; then queries are
    English."""
    dictionary: Annotated[str, tyro.conf.arg(metavar="LANG")] = ""
    """Language of the queries, for hybrid search: also rank by BM25 through a dictionary counted in the run's pairs,
    with reciprocal rank fusion (score: sum of 1 / (60 + rank)). It improves recall if the run has few pairs."""
    pictures_by: Annotated[str, tyro.conf.arg(metavar="PAIR")] = ""
    """Dual encoder (folder, hub name or run) whose image tower encodes --images; default: the run's own."""
    split: str = "dev"
    """Split of --images, if they are a set with captions."""
    out: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """PNG file for the sheet of --images; default: RUN/search/<queries>.png, or none with --json."""
    top: int = 10
    """Number of lines or images shown per query."""
    vectors: Annotated[str, tyro.conf.arg(metavar="DIR")] = ""
    """Folder that stores the encoded lines, in bfloat16: written if it is missing, else read from disk. A large file is
    then encoded only once, and need not fit in memory."""
    max_unknown: MaxUnknown = MAX_UNKNOWN
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print JSON lines instead of tables: query, rank, score, and line and text, or picture and file."""
    batch_size: int = 64
    """Images, or texts of 32 tokens (on accelerators 512, per device), encoded at a time; longer texts go in
    smaller batches."""
    cache_dir: Annotated[str, tyro.conf.arg(metavar="DIR")] = ""
    """Folder for downloads from the Hugging Face Hub; default: HF_HOME."""


def check(command: SearchCommand) -> None:
    """Validate flags and their combinations before anything is read.

    Raises:
      ConfigError: names the flag, its value and the remedy.
    """
    given = [name for name in ("run", "model") if getattr(command, name)]
    if len(given) != 1:
        raise ConfigError(f"{' and '.join(given) or 'none'} of --run, --model given; give exactly one")
    sources = [name for name in ("docs", "images") if getattr(command, name)]
    if len(sources) != 1:
        raise ConfigError(f"{' and '.join(sources) or 'none'} of --docs, --images given; give exactly one")
    if not command.queries:
        raise ConfigError('no query given; write it after the flags, in quotes: search ... "mvua itanyesha lini?"')
    for n, query in enumerate(command.queries, start=1):
        if any(unicodedata.category(c) == "Cs" for c in query):
            raise ConfigError(f"query {n} is not UTF-8; set a UTF-8 locale, or retype it")
        if is_blank(query):
            raise ConfigError(f"query {n} is empty, or shows nothing; give at least one character")
    if not re.fullmatch(r"last|best|untrained|[0-9]+", command.checkpoint):
        raise ConfigError(f"checkpoint={command.checkpoint} is not valid; use last, best, untrained or a step number")
    if command.model and command.checkpoint != "last":
        raise ConfigError(f"checkpoint={command.checkpoint} belongs to --run; leave it out with --model")
    if command.model and command.documents != "auto":
        raise ConfigError(f"documents={command.documents} belongs to --run; leave it out with --model")
    if command.dictionary and (command.model or command.documents == "student"):
        other = f"model={command.model}" if command.model else "documents=student"
        raise ConfigError(
            f"dictionary={command.dictionary} needs a run's pairs and English lines, and cannot go with {other}; "
            "leave one of them out"
        )
    if command.images:
        check_images(command)
    elif given := [name for name in ("pictures_by", "out") if getattr(command, name)]:
        raise ConfigError(f"{given[0]}={getattr(command, given[0])} is for --images; leave it out")
    check_max_unknown(command.max_unknown)
    for name in ("top", "batch_size"):
        if getattr(command, name) < 1:
            raise ConfigError(f"{name}={getattr(command, name)} is not valid; use at least 1")


FOR_TEXTS = {"documents": "auto", "dictionary": "", "vectors": ""}
"""Flags that apply to text search only, and their defaults."""


def check_images(command: SearchCommand) -> None:
    """Validate the flags of image search.

    Raises:
      ConfigError: names the flag, its value and the remedy.
    """
    for name, default in FOR_TEXTS.items():
        if (value := getattr(command, name)) != default:
            raise ConfigError(f"{name}={value} is for --docs; leave it out with --images")
    if command.out and (Path(command.out).suffix != ".png" or Path(command.out).is_dir()):
        raise ConfigError(f"out={command.out} is not valid; use a file name that ends in .png")
    if command.model and not command.out and not command.json:
        raise ConfigError("out is empty, and a model has no folder for results; name a .png with --out, or give --json")

"""Flags of `search`, and their checks."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from optical_jax.errors import ConfigError


@dataclass(frozen=True)
class SearchCommand:
    """Rank the lines of a text file, or pictures, for one query or several, exactly, by MaxSim.

    python -m optical_jax search --run runs/swahili --docs notes.txt "mvua itanyesha lini?"
    python -m optical_jax search --run runs/pictures --images photos "paka mweusi"
    """

    docs: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """Text file, plain or .gz, UTF-8: a document a line; blank lines are passed over."""
    images: Annotated[str, tyro.conf.arg(metavar="SOURCE")] = ""
    """Pictures instead: a folder of them, a tar archive or an npz file; or a set of them with captions
    (docs/images.md). Those found are drawn on a sheet."""
    queries: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="QUERY")] = ()
    """What to look for; a query of several words in quotes."""
    run: Annotated[str, tyro.conf.arg(metavar="RUN")] = ""
    """Run folder: its student asks, its teacher encodes the lines."""
    model: Annotated[str, tyro.conf.arg(metavar="DIR_OR_HUB_NAME")] = ""
    """Any model instead, on both sides; of pictures a pair of towers."""
    checkpoint: Annotated[str, tyro.conf.arg(metavar="last|best|STEP|untrained")] = "last"
    """Which checkpoint of the run's student."""
    documents: Literal["auto", "teacher", "student"] = "auto"
    """Who of the run encodes the lines: its teacher, English ones, or its student, those in the language it learned; it
    must have learned documents (student.sides). auto takes the student where it learned nothing else; then queries are
    English."""
    dictionary: Annotated[str, tyro.conf.arg(metavar="LANG")] = ""
    """The language of the queries, to look their words up as well, in a dictionary counted in the run's pairs; both
    rankings are joined by places (score: sum of 1 / (60 + place)). It finds more where pairs are few."""
    pictures_by: Annotated[str, tyro.conf.arg(metavar="PAIR")] = ""
    """The pair of towers (folder, hub name or run) whose image tower encodes --images; empty takes the run's own."""
    split: str = "dev"
    """Of --images that are a set: which pictures."""
    out: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """The sheet of --images, a PNG; empty writes RUN/search/<queries>.png, and none with --json."""
    top: int = 10
    """Lines or pictures shown a query."""
    vectors: Annotated[str, tyro.conf.arg(metavar="DIR")] = ""
    """Folder that keeps the encoded lines, in bfloat16: written if it is not there, read from disk if it is. A large
    file is then encoded once, and needs no memory."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """One JSON object a line instead of tables: query, rank, score, and line and text, or picture and file."""
    batch_size: int = 64
    """Pictures, or texts of 32 tokens (on accelerators of 512, a device) that are encoded at a time; of longer ones
    fewer."""
    cache_dir: Annotated[str, tyro.conf.arg(metavar="DIR")] = ""
    """Folder for downloads from the hub; empty leaves it to HF_HOME."""


def check(command: SearchCommand) -> None:
    """Refuse impossible flags before anything is read.

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
        raise ConfigError('no query given; write it behind the flags, in quotes: search ... "mvua itanyesha lini?"')
    for n, query in enumerate(command.queries, start=1):
        if not query.strip():
            raise ConfigError(f"query {n} is empty; give at least one character")
        if any(unicodedata.category(c) == "Cs" for c in query):
            raise ConfigError(f"query {n} is not UTF-8; set a UTF-8 locale, or write it anew")
    if not re.fullmatch(r"last|best|untrained|[0-9]+", command.checkpoint):
        raise ConfigError(f"checkpoint={command.checkpoint} is not valid; use last, best, untrained or a step number")
    if command.model and command.checkpoint != "last":
        raise ConfigError(f"checkpoint={command.checkpoint} belongs to --run; a model has none")
    if command.model and command.documents != "auto":
        raise ConfigError(f"documents={command.documents} belongs to --run; a model encodes both sides")
    if command.dictionary and (command.model or command.documents == "student"):
        other = f"model={command.model}" if command.model else "documents=student"
        raise ConfigError(
            f"dictionary={command.dictionary} is counted in a run's pairs and finds English words, which {other} has "
            "not; leave one of them out"
        )
    if command.images:
        check_images(command)
    elif given := [name for name in ("pictures_by", "out") if getattr(command, name)]:
        raise ConfigError(f"{given[0]}={getattr(command, given[0])} is for --images; leave it out")
    for name in ("top", "batch_size"):
        if getattr(command, name) < 1:
            raise ConfigError(f"{name}={getattr(command, name)} is not valid; use at least 1")


FOR_TEXTS = {"documents": "auto", "dictionary": "", "vectors": ""}
"""Flags that say how a text file is searched, and their defaults."""


def check_images(command: SearchCommand) -> None:
    """Refuse flags that do not go with pictures.

    Raises:
      ConfigError: names the flag, its value and the remedy.
    """
    for name, default in FOR_TEXTS.items():
        if (value := getattr(command, name)) != default:
            raise ConfigError(f"{name}={value} is for --docs, and pictures are searched; leave it out")
    if command.out and (Path(command.out).suffix != ".png" or Path(command.out).is_dir()):
        raise ConfigError(f"out={command.out} is not valid; use a file name that ends in .png")
    if command.model and not command.out and not command.json:
        raise ConfigError("out is empty, and a model has no folder for results; name a .png with --out, or give --json")

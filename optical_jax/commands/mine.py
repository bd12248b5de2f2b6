"""`python -m optical_jax mine`: mine hard negatives by BM25 or a model, for a teacher's training."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import tyro

from optical_jax.commands.entry import as_main, refuse_no_flags
from optical_jax.commands.inputs import check_mining
from optical_jax.config.vocabulary import check_max_unknown
from optical_jax.errors import ConfigError
from optical_jax.invocation import program
from optical_jax.training.teacher.options import MineCommand

EXAMPLE = "mine --train triples.tsv --out negatives.tsv"


def run_command(argv: Sequence[str]) -> None:
    refuse_no_flags(argv, "name judgements, and a file to write", EXAMPLE)
    command = tyro.cli(MineCommand, args=list(argv), prog=program("mine"))
    check(command)
    check_mining(command)
    from optical_jax.training.teacher.mining import mine

    mine(command)


main = as_main(run_command)


def check(command: MineCommand) -> None:
    """Validate the flags before anything is read.

    Raises:
      ConfigError: names the flag, its value and the remedy.
    """
    if Path(command.out).suffix not in (".tsv", ".jsonl"):
        raise ConfigError(f"out={command.out} must end in .tsv (triples) or .jsonl (texts and scores)")
    if Path(command.out).is_dir():
        raise ConfigError(f"out={command.out} is a folder; name a file")
    if not command.train:
        raise ConfigError("train is empty; name judgements: --train FILE")
    first, last = command.depth
    if not 1 <= first <= last:
        raise ConfigError(f"depth={first} {last} is not valid; use the first and the last rank, such as 1 50")
    for name in ("negatives", "batch_size"):
        if getattr(command, name) < 1:
            raise ConfigError(f"{name}={getattr(command, name)} is not valid; use at least 1")
    if not re.fullmatch(r"last|best|[0-9]+", command.checkpoint):
        raise ConfigError(f"checkpoint={command.checkpoint} is not valid; use last, best or a step number")
    if command.by == "bm25":
        for name in ("checkpoint", "pooling"):
            if getattr(command, name) != getattr(MineCommand, name):
                raise ConfigError(f"{name}={getattr(command, name)} is for a model, not for by=bm25; leave it out")
    if command.pool == "collection" and not command.collection:
        raise ConfigError("pool=collection needs a collection; add --collection, or use --pool files")
    if command.max_bad_lines < 0:
        raise ConfigError(f"max_bad_lines={command.max_bad_lines} is not valid; use 0 or more")
    check_max_unknown(command.max_unknown)
    if command.seed < 0:
        raise ConfigError(f"seed={command.seed} is not valid; use 0 or more")

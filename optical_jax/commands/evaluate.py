"""`eval.py`: a run, or any model, on a collection; or two runs against each other."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import tyro

from optical_jax.commands.entry import open_door, refuse_no_flags
from optical_jax.errors import ConfigError
from optical_jax.evaluation.options import EvalCommand, check


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Returns the exit code."""
    return open_door(lambda: run_command(sys.argv[1:] if argv is None else argv))


EXAMPLE = "python eval.py --run runs/tiny --collection configs/tiny/collection --lang sw"


def run_command(argv: Sequence[str]) -> None:
    from optical_jax.evaluation.images import evaluate, find_pictures
    from optical_jax.evaluation.texts import compare, evaluate_model, evaluate_run
    from optical_jax.runs.load import checkpoint_step

    refuse_no_flags(argv, "name a run and a collection", EXAMPLE)
    command = parse(argv)
    from optical_jax.partitioning import over_all_devices

    for run in filter(None, (command.run, *command.compare)):
        checkpoint_step(Path(run), command.checkpoint)
    pictures = find_pictures(command)
    if pictures is not None:
        evaluate(command, pictures)
        return
    command = of_texts(command)
    if command.compare:
        compare(command)
        return
    with over_all_devices():
        if command.run:
            evaluate_run(command, Path(command.run))
        else:
            evaluate_model(command)


def of_texts(command: EvalCommand) -> EvalCommand:
    """The command with what its flags stand for where texts are ranked.

    Raises:
      ConfigError: a flag that is for pictures alone.
    """
    if command.pictures_by:
        raise ConfigError(f"pictures_by={command.pictures_by}: {command.collection} has no pictures; leave it out")
    return replace(
        command,
        scoring="maxsim" if command.scoring == "auto" else command.scoring,
        pooling="none" if command.pooling == "default" else command.pooling,
    )


# ---- two runs ----------------------------------------------------------------------------------------------------


def parse(argv: Sequence[str]) -> EvalCommand:
    """Read the flags; tyro itself answers --help (exit 0) and unknown ones (exit 2)."""
    command = tyro.cli(EvalCommand, args=list(argv), prog="eval.py")
    check(command)
    return command

"""`eval.py`: evaluate a run or a model on a collection, or compare two runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import tyro

from optical_jax.commands.entry import refuse_no_flags, run_command_line
from optical_jax.errors import ConfigError
from optical_jax.evaluation.options import EvalCommand, check


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return run_command_line(lambda: run_command(sys.argv[1:] if argv is None else argv))


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
    """The command with the defaults of text retrieval filled in.

    Raises:
      ConfigError: a flag that is for images alone.
    """
    if command.pictures_by:
        raise ConfigError(f"pictures_by={command.pictures_by}: {command.collection} has no images; leave it out")
    return replace(
        command,
        scoring="maxsim" if command.scoring == "auto" else command.scoring,
        pooling="none" if command.pooling == "default" else command.pooling,
    )


# ---- two runs ----------------------------------------------------------------------------------------------------


def parse(argv: Sequence[str]) -> EvalCommand:
    """Parse the flags; tyro handles --help (exit 0) and unknown flags (exit 2)."""
    command = tyro.cli(EvalCommand, args=list(argv), prog="eval.py")
    check(command)
    return command

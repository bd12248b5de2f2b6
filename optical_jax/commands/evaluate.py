"""`eval.py`: evaluate a run or a model on a collection, or compare two runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import tyro

from optical_jax.commands.entry import refuse_no_flags, run_command_line
from optical_jax.evaluation.options import EvalCommand, check


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return run_command_line(lambda: run_command(sys.argv[1:] if argv is None else argv))


EXAMPLE = "python eval.py --run runs/tiny --collection configs/tiny/collection --lang sw"


def run_command(argv: Sequence[str]) -> None:
    refuse_no_flags(argv, "name a run and a collection", EXAMPLE)
    command = parse(argv)
    # After the flags are read: --help starts no JAX.
    from optical_jax.evaluation.evaluate import run_evaluation

    run_evaluation(command)


def parse(argv: Sequence[str]) -> EvalCommand:
    """Parse the flags; tyro handles --help (exit 0) and unknown flags (exit 2)."""
    command = tyro.cli(EvalCommand, args=list(argv), prog="eval.py")
    check(command)
    return command

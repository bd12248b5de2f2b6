"""`eval.py`: evaluate a run or a model on a collection, or compare two runs."""

from __future__ import annotations

from collections.abc import Sequence

import tyro

from optical_jax.commands.entry import as_main, refuse_no_flags
from optical_jax.commands.inputs import check_evaluation
from optical_jax.evaluation.options import EvalCommand, check
from optical_jax.invocation import program

EXAMPLE = "eval --run runs/tiny --collection configs/tiny/collection --lang sw"


def run_command(argv: Sequence[str]) -> None:
    refuse_no_flags(argv, "name a run and a collection", EXAMPLE)
    command = parse(argv)
    check_evaluation(command)
    # After the flags are read: --help starts no JAX.
    from optical_jax.evaluation.evaluate import run_evaluation

    run_evaluation(command)


main = as_main(run_command)


def parse(argv: Sequence[str]) -> EvalCommand:
    """Parse the flags; tyro handles --help (exit 0) and unknown flags (exit 2)."""
    command = tyro.cli(EvalCommand, args=list(argv), prog=program("eval"))
    check(command)
    return command

"""`python -m optical_jax bench`: benchmarks of training, encoding and search on this machine."""

from __future__ import annotations

import tyro

from optical_jax.benchmark.options import BenchCommand, check
from optical_jax.commands.entry import as_main
from optical_jax.invocation import program


def run_command(argv: list[str]) -> None:
    command = tyro.cli(BenchCommand, args=argv, prog=program("bench"))
    check(command)
    from optical_jax.benchmark.run import compare, measure, only_first_step

    if command.compare is not None:
        compare((command.compare[0], command.compare[1]))
    elif command.only_first_step:
        only_first_step(command)
    else:
        measure(command)


main = as_main(run_command)

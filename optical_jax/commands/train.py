"""`train.py`: train a student on bitext by distillation from an English retriever."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from optical_jax.commands.entry import run_command_line
from optical_jax.commands.settings import TrainCommand, read_command
from optical_jax.config.validation import validate
from optical_jax.data.text.entries import for_each_language
from optical_jax.training.task import say


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return run_command_line(lambda: run_command(sys.argv[1:] if argv is None else argv))


EXAMPLE = "python train.py --config configs/tiny.py --run runs/tiny"


def run_command(argv: Sequence[str]) -> None:
    from optical_jax.training.student.task import prepare, train_run

    command = read_command(argv, TrainCommand, validate, EXAMPLE)
    cfg = command.settings
    students = for_each_language(cfg) if command.each_language else {"": cfg}
    for language, student in students.items():
        if language:
            say(f"student of {language}: {student.run}")
        if command.dry_run:
            from optical_jax.training.student.task import dry_run

            dry_run(student, prepare(student, None))
        else:
            train_run(student)

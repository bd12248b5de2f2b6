"""`train.py`: from bitext files and an English retriever to a student's checkpoints."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from optical_jax.commands.entry import open_door
from optical_jax.commands.settings import TrainCommand, read_command, run_training
from optical_jax.config.validation import validate
from optical_jax.data.text.entries import for_each_language

EXAMPLE = "python train.py --config configs/tiny.py --run runs/tiny"


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Returns the exit code."""
    return open_door(lambda: run_command(sys.argv[1:] if argv is None else argv))


def run_command(argv: Sequence[str]) -> None:
    command = read_command(argv, TrainCommand, validate, EXAMPLE)
    from optical_jax.training.student.task import prepare

    cfg = command.settings
    students = for_each_language(cfg) if command.each_language else {"": cfg}
    for language, student in students.items():
        if language:
            print(f"student of {language}: {student.run}", flush=True)
        run_training(student, prepare, dry=command.dry_run)

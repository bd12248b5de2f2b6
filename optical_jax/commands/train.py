"""`train.py`: train a student on bitext by distillation from an English retriever."""

from __future__ import annotations

from collections.abc import Sequence

from optical_jax.commands.entry import as_main
from optical_jax.commands.inputs import check_student
from optical_jax.commands.settings import TrainCommand, read_command, run_training
from optical_jax.config.validation import validate
from optical_jax.data.text.entries import for_each_language

EXAMPLE = "train --config tiny --run runs/tiny"


def run_command(argv: Sequence[str]) -> None:
    command = read_command(argv, TrainCommand, validate, EXAMPLE)
    cfg = command.settings
    students = for_each_language(cfg) if command.each_language else {"": cfg}
    for student in students.values():
        check_student(student)
    from optical_jax.training.student.task import prepare

    for language, student in students.items():
        if language:
            print(f"student of {language}: {student.run}", flush=True)
        run_training(student, prepare, dry=command.dry_run)


main = as_main(run_command)

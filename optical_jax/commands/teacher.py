"""`python -m optical_jax teacher`: train an English late-interaction retriever on relevance judgements."""

from __future__ import annotations

from collections.abc import Sequence

from optical_jax.commands.entry import as_main
from optical_jax.commands.inputs import check_teacher
from optical_jax.commands.settings import TeacherCommand, read_command, run_training
from optical_jax.config.validation import validate_teacher

EXAMPLE = "teacher --run runs/teacher --encoder.path ENCODER --data.train triples.tsv --data.passages 2"


def run_command(argv: Sequence[str]) -> None:
    command = read_command(argv, TeacherCommand, validate_teacher, EXAMPLE)
    check_teacher(command.settings)
    from optical_jax.training.teacher.task import prepare

    run_training(command.settings, prepare, dry=command.dry_run)


main = as_main(run_command)

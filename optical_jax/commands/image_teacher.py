"""`python -m optical_jax image_teacher`: train a dual encoder of English texts and images on captions."""

from __future__ import annotations

from collections.abc import Sequence

from optical_jax.commands.entry import as_main
from optical_jax.commands.inputs import check_image_teacher
from optical_jax.commands.settings import ImageTeacherCommand, read_command, run_training
from optical_jax.config.validation import validate_image_teacher

EXAMPLE = "image_teacher --run runs/images --text.path ENCODER --data.images FOLDER"


def run_command(argv: Sequence[str]) -> None:
    command = read_command(argv, ImageTeacherCommand, validate_image_teacher, EXAMPLE)
    check_image_teacher(command.settings)
    from optical_jax.training.image_teacher.task import prepare

    run_training(command.settings, prepare, dry=command.dry_run)


main = as_main(run_command)

"""`python -m optical_jax image_teacher`: contrastive training of an image and an English text tower on captions."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence

from optical_jax.commands.entry import run_command_line
from optical_jax.commands.settings import ImageTeacherCommand, read_command
from optical_jax.config.validation import validate_image_teacher
from optical_jax.training.image_teacher.task import begin, dry_run, prepare, train_prepared
from optical_jax.training.task import run_in_folder, say

EXAMPLE = "python -m optical_jax image_teacher --run runs/images --text.path ENCODER --data.images FOLDER"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return run_command_line(lambda: run_command(sys.argv[1:] if argv is None else argv))


def run_command(argv: Sequence[str]) -> None:
    command = read_command(argv, ImageTeacherCommand, validate_image_teacher, EXAMPLE)
    cfg = command.settings
    if command.dry_run:
        dry_run(cfg, prepare(cfg, None))
        return
    parts = run_in_folder(cfg, prepare=prepare, begin=begin, train=train_prepared)
    if parts is not None:
        run = shlex.quote(cfg.run)
        say(f"next: python -m optical_jax export --run {run} --out FOLDER")
        captions = shlex.quote(f"LANG=captions:{cfg.data.images[0]}")
        say(f"      python train.py --teacher.path {run} --data.bitext {captions} --run STUDENT")

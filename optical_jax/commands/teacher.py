"""`python -m optical_jax teacher`: train an English late-interaction retriever on relevance judgements."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence

from optical_jax.commands.entry import run_command_line
from optical_jax.commands.settings import TeacherCommand, read_command
from optical_jax.config.validation import validate_teacher
from optical_jax.training.task import run_in_folder, say
from optical_jax.training.teacher.task import begin, dry_run, prepare, train_prepared

EXAMPLE = (
    "python -m optical_jax teacher --run runs/teacher --encoder.path ENCODER --data.train triples.tsv --data.passages 2"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return run_command_line(lambda: run_command(sys.argv[1:] if argv is None else argv))


def run_command(argv: Sequence[str]) -> None:
    command = read_command(argv, TeacherCommand, validate_teacher, EXAMPLE)
    cfg = command.settings
    if command.dry_run:
        dry_run(cfg, prepare(cfg, None))
        return
    parts = run_in_folder(cfg, prepare=prepare, begin=begin, train=train_prepared)
    if parts is not None:
        run = shlex.quote(cfg.run)
        say(f"next: python eval.py --run {run} --collection DIR --lang {cfg.data.language}")
        say(f"      python -m optical_jax export --run {run} --out FOLDER, for train.py --teacher.path FOLDER")

"""`python -m optical_jax export`: a run's student as a folder for transformers and Sentence Transformers."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from optical_jax.commands.doors import open_door
from optical_jax.errors import ConfigError


@dataclass(frozen=True)
class ExportCommand:
    """Write a run's student as a Hugging Face folder: weights, tokenizer, config.

    transformers.AutoModel loads it with the same hidden states, Sentence Transformers 6 with the same token vectors.
    """

    run: str
    """Run folder."""
    out: str
    """Folder to write; an earlier export there is replaced."""
    checkpoint: str = "last"
    """Which checkpoint: last, best, or a step."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Returns the exit code."""
    return open_door(lambda: run_command(sys.argv[1:] if argv is None else argv))


def run_command(argv: Sequence[str]) -> None:
    """Load one checkpoint of the run's student, and write it.

    Raises:
      ConfigError: no such run or checkpoint, or `out` holds something else.
      MachineError: `out` cannot be written.
    """
    command = tyro.cli(ExportCommand, args=list(argv), prog="python -m optical_jax export")
    # Here, so that --help answers without importing jax.
    from optical_jax.models.export import check_target, save_tower
    from optical_jax.towers import is_run, load

    run, out = Path(command.run), Path(command.out)
    if not is_run(run):
        raise ConfigError(f"run={run} holds no run; name the --run folder of a training")
    if command.checkpoint not in ("last", "best") and not command.checkpoint.isdecimal():
        raise ConfigError(f"checkpoint={command.checkpoint!r} is none; give last, best or a step")
    if out.resolve() in ((run / "student").resolve(), (run / "teacher").resolve()):
        raise ConfigError(f"out={out} is a part of the run; name a folder of its own, such as {run / 'export'}")
    check_target(out)
    student = load(run, side="query", checkpoint=command.checkpoint)
    save_tower(student.params, student.cfg, student.tokenizer, out)
    print(f"wrote the {command.checkpoint} student of {run} to {out}")

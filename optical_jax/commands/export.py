"""`python -m optical_jax export`: a run's student as a folder for transformers and Sentence Transformers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tyro

from optical_jax.commands.entry import as_main, refuse_no_flags
from optical_jax.errors import ConfigError
from optical_jax.export.options import ExportCommand
from optical_jax.export.run import gather_facts, write_pair
from optical_jax.files import PAIR
from optical_jax.invocation import program
from optical_jax.runs.finding import check_run, is_run

EXAMPLE = "export --run runs/tiny --out my_encoder"


def run_command(argv: Sequence[str]) -> None:
    """Export one checkpoint of the model that the run trains.

    Raises:
      ConfigError: no such run or checkpoint, or `out` has other contents.
      MachineError: `out` cannot be written.
    """
    refuse_no_flags(argv, "name a run, and a folder to write", EXAMPLE)
    command = tyro.cli(ExportCommand, args=list(argv), prog=program("export"))
    check(command)
    # Here, so that --help does not import jax.
    from optical_jax.export.student_card import model_card
    from optical_jax.export.teacher_card import teacher_card
    from optical_jax.files import trains_pair, trains_teacher
    from optical_jax.models.formats.export import differences, save_tower
    from optical_jax.models.formats.pair_configs import is_pair_family
    from optical_jax.runs.checkpoint import find_step
    from optical_jax.runs.load import load, sides_of

    run, out = Path(command.run), Path(command.out)
    which: Any = int(command.checkpoint) if command.checkpoint.isdecimal() else command.checkpoint
    step = find_step(run, which)
    if trains_pair(run):
        write_pair(run, out, step, command)
        return
    part, what, make_card = (
        ("auto", "teacher", teacher_card) if trains_teacher(run) else ("student", "student", model_card)
    )
    tower = load(run, side=sides_of(run)[0], checkpoint=step, part=part)
    card = make_card(gather_facts(run, out, step, tower, command.license))
    save_tower(tower.params, tower.cfg, tower.tokenizer, out, card, dtype=command.dtype)
    print(f"wrote the {command.checkpoint} {what} of {run} to {out}")
    if not is_pair_family(tower.cfg):
        print("".join(f"note: {line}\n" for line in differences(tower.cfg.head)), end="")


main = as_main(run_command)


def check(command: ExportCommand) -> None:
    """Validate the flags before anything heavy is imported.

    Raises:
      ConfigError: no such run, no checkpoint's name, or `out` has other contents.
    """
    from optical_jax.models.formats.replacing import check_target

    run, out = Path(command.run), Path(command.out)
    check_run(run)
    if command.checkpoint not in ("last", "best") and not command.checkpoint.isdecimal():
        raise ConfigError(f"checkpoint={command.checkpoint!r} is not valid; use last, best or a step number")
    above = out.resolve().parent
    if out.resolve().name in ("student", "teacher", "model") and (above == run.resolve() or is_run(above)):
        raise ConfigError(f"out={out} is a part of a run; name another folder, such as {run / 'export'}")
    if (above / PAIR).is_file() and out.resolve().name in ("text", "image"):
        raise ConfigError(f"out={out} is a part of the pair in {above}; name another folder")
    check_target(out)

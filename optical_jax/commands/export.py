"""`python -m optical_jax export`: a run's student as a folder for transformers and Sentence Transformers."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from optical_jax.commands.entry import open_door, refuse_no_flags
from optical_jax.errors import ConfigError

if TYPE_CHECKING:
    from optical_jax.export.student_card import CardFacts, Model
    from optical_jax.towers.tower import Tower


@dataclass(frozen=True)
class ExportCommand:
    """Write a run's student (or its teacher in training) as a Hugging Face folder: weights, tokenizer, model card.

    transformers.AutoModel loads it with the same hidden states, Sentence Transformers 6 with the same token vectors. Of
    an image-text teacher's run: a folder of both its towers, text/ and image/, each such a folder.
    """

    run: str
    """Run folder."""
    out: str
    """Folder to write; an earlier export there is replaced."""
    checkpoint: str = "last"
    """Which checkpoint: last, best, or a step."""
    dtype: Literal["float32", "float16"] = "float32"
    """Type the weights are written in; float16 halves the folder."""
    license: str = ""
    """Licence of the weights, for the model card, such as cc-by-4.0; the run's `licences` are those of its parts."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Returns the exit code."""
    return open_door(lambda: run_command(sys.argv[1:] if argv is None else argv))


EXAMPLE = "python -m optical_jax export --run runs/tiny --out my_encoder"


def run_command(argv: Sequence[str]) -> None:
    """Load one checkpoint of what the run trains, and write it.

    Raises:
      ConfigError: no such run or checkpoint, or `out` holds something else.
      MachineError: `out` cannot be written.
    """
    refuse_no_flags(argv, "name a run, and a folder to write", EXAMPLE)
    command = tyro.cli(ExportCommand, args=list(argv), prog="python -m optical_jax export")
    # Here, so that --help answers without importing jax.
    from optical_jax.export.student_card import model_card
    from optical_jax.export.teacher_card import teacher_card
    from optical_jax.files import trains_pair, trains_teacher
    from optical_jax.models.formats.export import check_target, save_tower
    from optical_jax.runs.checkpoint import find_step
    from optical_jax.runs.load import is_run, load, sides_of

    run, out = Path(command.run), Path(command.out)
    if not is_run(run):
        raise ConfigError(f"run={run} holds no run; name the --run folder of a training")
    if command.checkpoint not in ("last", "best") and not command.checkpoint.isdecimal():
        raise ConfigError(f"checkpoint={command.checkpoint!r} is none; give last, best or a step")
    if out.resolve() in [(run / part).resolve() for part in ("student", "teacher", "model")]:
        raise ConfigError(f"out={out} is a part of the run; name a folder of its own, such as {run / 'export'}")
    check_target(out)
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


def write_pair(run: Path, out: Path, step: int, command: ExportCommand) -> None:
    """Both towers of an image-text teacher's run, with their card."""
    from optical_jax.export.image_teacher_card import PairFacts, image_teacher_card
    from optical_jax.runs.metrics import read_metrics
    from optical_jax.runs.pair import trained_pair
    from optical_jax.towers.pair import save_tower_pair

    pair, config = trained_pair(run, step), read_record(run / "config.json")
    facts = PairFacts(
        name=run.resolve().name,
        folder=out.resolve().name,
        pair=pair,
        step=step,
        text=model_of(config, "text"),
        image=model_of(config, "image"),
        license=command.license.strip(),
        config=config,
        env=read_record(run / "env.json"),
        images=read_record(run / "images.json"),
        metrics=read_metrics(run / "metrics.jsonl"),
    )
    save_tower_pair(pair, out, image_teacher_card(facts), dtype=command.dtype)
    print(f"wrote the {command.checkpoint} pair of {run} to {out}")


def gather_facts(run: Path, out: Path, step: int, tower: Tower, license: str) -> CardFacts:
    """What the run's files tell; a file that is not there (a run of parts, an older one) tells nothing."""
    from optical_jax.export.recipe import special_token_ids
    from optical_jax.export.student_card import CardFacts
    from optical_jax.runs.metrics import read_metrics

    config = read_record(run / "config.json")
    return CardFacts(
        name=run.resolve().name,
        folder=out.resolve().name,
        tower=tower.cfg,
        step=step,
        special_ids=special_token_ids(tower.tokenizer),
        teacher=model_of(config, "teacher"),
        start=model_of(config, "encoder" if "encoder" in config else "student"),
        license=license.strip(),
        config=config,
        env=read_record(run / "env.json"),
        bitext=read_record(run / ("rankings.json" if "encoder" in config else "bitext.json")),
        metrics=read_metrics(run / "metrics.jsonl"),
        # A study's tables of one way of asking are its own; eval.py's have both.
        evaluations=[
            found for path in sorted(run.glob("eval/*/metrics.json")) if "way" not in (found := read_record(path))
        ],
    )


def read_record(path: Path) -> dict[str, Any]:
    """A JSON file of the run, or nothing where there is none.

    Raises:
      ConfigError: it is broken.
    """
    from optical_jax.files import read_json

    try:
        return read_json(path) if path.is_file() else {}
    except ValueError as error:
        raise ConfigError(f"{path} is broken ({error}); restore it, or remove it to export without") from error


def model_of(config: Mapping[str, Any], role: str) -> Model:
    """The model at `<role>.path`, under the name that others know it by: no path of this machine."""
    from optical_jax.export.student_card import Model
    from optical_jax.models.formats.pretrained import HUB_NAME, SHIPPED

    path = config.get(role, {}).get("path", "")
    hub = bool(HUB_NAME.fullmatch(path)) and path != SHIPPED and not Path(path).exists()
    return Model(path if hub else Path(path).name, hub)

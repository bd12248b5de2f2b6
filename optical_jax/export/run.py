"""A run's models as Hugging Face folders, with their cards."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optical_jax.errors import ConfigError
from optical_jax.export.options import ExportCommand

if TYPE_CHECKING:
    from optical_jax.export.student_card import CardFacts, Model
    from optical_jax.towers.tower import Tower


def write_pair(run: Path, out: Path, step: int, command: ExportCommand) -> None:
    """Both towers of an image-text teacher's run, with their card."""
    from optical_jax.export.image_teacher_card import PairFacts, image_teacher_card
    from optical_jax.runs.metrics import read_metrics
    from optical_jax.runs.pair import trained_pair
    from optical_jax.towers.pair import save_pair

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
    save_pair(pair, out, image_teacher_card(facts), dtype=command.dtype)
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

"""Export a run's models as Hugging Face folders with model cards."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optical_jax.errors import ConfigError, DataError
from optical_jax.export.options import ExportCommand

if TYPE_CHECKING:
    from optical_jax.export.card import Model
    from optical_jax.export.student_card import CardFacts
    from optical_jax.towers.tower import Tower


def write_pair(run: Path, out: Path, step: int, command: ExportCommand) -> None:
    """Export both towers of an image-text teacher's run, with their model card."""
    from optical_jax.export.image_teacher_card import PairFacts, image_teacher_card
    from optical_jax.runs.pair import trained_pair
    from optical_jax.towers.pair import save_pair

    pair, records = trained_pair(run, step), run_records(run, out, step, command.license)
    text, image = (model_of(records["config"], part) for part in ("text", "image"))
    facts = PairFacts(pair=pair, text=text, image=image, images=read_record(run / "images.json"), **records)
    save_pair(pair, out, image_teacher_card(facts), dtype=command.dtype)
    print(f"wrote the {command.checkpoint} pair of {run} to {out}")


def gather_facts(run: Path, out: Path, step: int, tower: Tower, license: str) -> CardFacts:
    """Read the records of a run for the model card of a text tower."""
    from optical_jax.export.recipe import special_token_ids
    from optical_jax.export.student_card import CardFacts

    records = run_records(run, out, step, license)
    start, data = ("encoder", "rankings.json") if "encoder" in records["config"] else ("student", "bitext.json")
    return CardFacts(
        tower=tower.cfg,
        special_ids=special_token_ids(tower.tokenizer),
        teacher=model_of(records["config"], "teacher"),
        start=model_of(records["config"], start),
        bitext=read_record(run / data),
        # Metrics with "way" were written by a study for one retrieval direction; those of eval.py have both.
        evaluations=[
            found for path in sorted(run.glob("eval/*/metrics.json")) if "way" not in (found := read_record(path))
        ],
        **records,
    )


def run_records(run: Path, out: Path, step: int, license: str) -> dict[str, Any]:
    """The fields of `RunFacts`; records that an old run lacks are empty."""
    from optical_jax.runs.metrics import read_metrics

    return {
        "name": run.resolve().name,
        "folder": out.resolve().name,
        "step": step,
        "license": license.strip(),
        "config": read_record(run / "config.json"),
        "env": read_record(run / "env.json"),
        "metrics": read_metrics(run / "metrics.jsonl"),
    }


def read_record(path: Path) -> dict[str, Any]:
    """Read a JSON record of the run; empty if there is none.

    Raises:
      ConfigError: it is malformed.
    """
    from optical_jax.files import read_json

    try:
        return read_json(path) if path.is_file() else {}
    except DataError as error:
        raise ConfigError(f"{path} is not valid JSON ({error}); restore it, or delete it to export without") from error


def model_of(config: Mapping[str, Any], role: str) -> Model:
    """Hub or folder name of the model at `<role>.path`, without the local path."""
    from optical_jax.export.card import Model
    from optical_jax.models.formats.finding import HUB_NAME, SHIPPED

    path = config.get(role, {}).get("path", "")
    hub = bool(HUB_NAME.fullmatch(path)) and path != SHIPPED and not Path(path).exists()
    return Model(path if hub else Path(path).name, hub)

"""What stands in a study's folder: its choices, and how far each of its runs came. Nothing here starts JAX."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from optical_jax.config import expand_path
from optical_jax.data.collection import read_collection
from optical_jax.data.image_sources import read_image_set
from optical_jax.errors import ConfigError
from optical_jax.files import read_json
from optical_jax.metrics_writer import read_metrics
from optical_jax.studies.design import Study, Task
from optical_jax.studies.tables import SPLIT, check_metrics, folders_of, is_pictures, languages_of

CHOICES = "choices.json"
FAILED = "failed.txt"
"""In the folder of a run whose loss stopped being a number: what it said."""

Expected = Mapping[str, frozenset[str]]
"""Language -> names of the folders under RUN/eval that a whole run has."""


def read_choices(study: Study) -> dict[str, Any] | None:
    path = Path(study.folder) / CHOICES
    return read_json(path) if path.is_file() else None


def failure_of(task: Task) -> str | None:
    """What the run said when its loss stopped being a number; None of a run that did not fail."""
    path = task.folder / FAILED
    return path.read_text(encoding="utf-8").strip() if path.is_file() else None


def is_trained(task: Task) -> bool:
    """Whether the run has all its steps behind it.

    Raises:
      ConfigError: the folder holds a run of another config, or of another number of steps.
    """
    from optical_jax.run_folder import RunFolder

    folder = RunFolder(task.folder)
    if not folder.holds_run_of(task.config):
        return False
    # Elsewhere a run may be made longer; here its learning rates would be those of no arm.
    began, asked = (folder.saved_config() or {})["training"]["steps"], task.config.training.steps
    if began != asked:
        raise ConfigError(
            f"{task.folder} holds a run of training.steps={began}, and the study asks for {asked}; "
            "give the same, or name another --folder"
        )
    done = folder.finished()
    return done is not None and done["step"] >= asked


def is_evaluated(task: Task, expected: Expected) -> bool:
    """Whether the run is trained, and evaluated after its last step on all that is expected."""
    records = read_metrics(task.folder / "metrics.jsonl")
    if not records or "params_sha256" not in records[-1] or records[-1]["step"] < task.config.training.steps:
        return False
    step = records[-1]["step"]
    return all(
        (path := task.folder / "eval" / name / "metrics.json").is_file() and read_json(path)["checkpoint"] == step
        for name in expected[task.language]
    )


def evaluations_of(study: Study, task: Task) -> Iterable[tuple[str, dict[str, Any]]]:
    """(name of the folder, content of metrics.json) of those of the study's collections that a run was evaluated on."""
    for name in (name for collection in study.collections for name in folders_of(collection)):
        path = task.folder / "eval" / name / "metrics.json"
        if path.is_file():
            yield name, read_json(path)


def expected_evaluations(study: Study, tasks: Sequence[Task]) -> Expected:
    """What a run of each language has when it is whole.

    A study that was copied may lie where its collections do not; then what any run of the language has of them.
    """
    found: dict[str, set[str]] = {language: set() for language in study.languages}
    for collection in study.collections:
        names = set(folders_of(collection))
        languages = languages_of(collection)
        for task in tasks:
            there = names if languages else {name for name in names if (task.folder / "eval" / name).is_dir()}
            if not languages or task.language in languages:
                found[task.language] |= there
    return {language: frozenset(names) for language, names in found.items()}


def check_collections(study: Study) -> None:
    """Refuse a collection that could not be read after hours of training.

    Raises:
      ConfigError: it is not there, or has none of the study's languages or metrics.
      DataError: it cannot be read.
    """
    for collection in study.collections:
        path = expand_path(collection, "collections")
        asked = [language for language in study.languages if language in languages_of(collection)]
        if not asked:
            files = "captions" if is_pictures(collection) else "queries.LANG.jsonl"
            raise ConfigError(
                f"collections: {path} has no {files} in any of {' '.join(study.languages)}; correct the path, or leave "
                "it out"
            )
        if is_pictures(collection):
            read_image_set(path, SPLIT)
        else:
            read_collection(path, SPLIT, asked)
    check_metrics(study)


def dev_lines(task: Task) -> list[tuple[int, dict[str, float]]]:
    """(step, figures on the language's dev pairs), in the order of steps."""
    records = read_metrics(task.folder / "metrics.jsonl")
    return [(line["step"], line["dev"][task.language]) for line in records if "dev" in line]


def last_dev(task: Task) -> float:
    """The run's figure that chooses, after its last step."""
    return dev_lines(task)[-1][1][task.config.checkpoint.best_metric]


def step_lines(run: Path) -> list[dict[str, Any]]:
    """The lines on steps; the first is left out where there are more, for it waits for the compiler."""
    lines = [line for line in read_metrics(run / "metrics.jsonl") if "pairs_per_second" in line]
    return lines[1:] or lines

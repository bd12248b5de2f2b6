"""Status of a study's runs and its chosen trials, read from the study folder without JAX."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from optical_jax.config import expand_path
from optical_jax.data.batches.captioned_images import ALL_IMAGES
from optical_jax.data.collections.sources import read_source
from optical_jax.data.images.sources import is_image_set, read_image_set
from optical_jax.data.text.entries import parse_entry
from optical_jax.errors import ConfigError, DataError
from optical_jax.files import read_json
from optical_jax.runs.metrics import read_metrics
from optical_jax.studies.design import Study, Task, arms_with_references
from optical_jax.studies.readers import check_readers, image_inputs
from optical_jax.studies.tables import (
    SCORINGS,
    SPLIT,
    check_metrics,
    folders_of,
    is_images,
    languages_of,
    results_folder,
    source_of,
    table_names,
)

CHOICES = "choices.json"
FAILED = "failed.txt"
"""Error message of a run whose loss became NaN or infinite; in the run's folder."""
DATA = ("bitext", "pictures")
"""Kinds of a run's inputs that are listed by file path."""


@dataclass(frozen=True)
class Expected:
    """Results under RUN/eval that a complete run has."""

    folders: Mapping[str, frozenset[str]]
    """Language -> names of the results folders."""
    references: frozenset[str]
    """Arms whose runs also have the untrained references."""
    inputs: Mapping[str, Mapping[str, str]]
    """Folder name -> sha256 of its collection's current files; empty if files are not compared."""


def read_choices(study: Study) -> dict[str, Any] | None:
    path = Path(study.folder) / CHOICES
    return read_json(path) if path.is_file() else None


def failure_of(task: Task) -> str | None:
    """Error message of a run whose loss became NaN or infinite; None if it did not fail."""
    path = task.folder / FAILED
    return path.read_text(encoding="utf-8").strip() if path.is_file() else None


def is_trained(task: Task) -> bool:
    """Whether the run has finished all its training steps.

    Raises:
      ConfigError: the folder holds a run of another config, or of another number of steps.
    """
    from optical_jax.runs.folder import RunFolder

    folder = RunFolder(task.folder)
    if not folder.holds_run_of(task.config):
        return False
    # Outside a study a run may be extended; here its learning rate schedule would match no arm.
    began, asked = (folder.saved_config() or {})["training"]["steps"], task.config.training.steps
    if began != asked:
        raise ConfigError(
            f"{task.folder} holds a run of training.steps={began}, but the study has {asked}; "
            "use the same number, or name another --folder"
        )
    done = folder.finished()
    return done is not None and done["step"] >= asked


def is_evaluated(task: Task, expected: Expected) -> bool:
    """Whether the run is trained and has all expected evaluations of its last step."""
    records = read_metrics(task.folder / "metrics.jsonl")
    if not records or "params_sha256" not in records[-1] or records[-1]["step"] < task.config.training.steps:
        return False
    step, references = records[-1]["step"], task.arm in expected.references
    return all(
        has_results(task.folder / "eval" / name, step, references, expected.inputs.get(name, {}))
        for name in expected.folders[task.language]
    )


def has_results(folder: Path, step: int | str, references: bool, inputs: Mapping[str, str]) -> bool:
    """Whether a folder has a checkpoint's metrics on these files, with references if `references` is set."""
    path = folder / "metrics.json"
    found = read_json(path) if path.is_file() else {}
    of_these_files = all(inputs.get(name, sha256) == sha256 for name, sha256 in found.get("inputs", {}).items())
    return found.get("checkpoint") == step and of_these_files and (bool(found["references"]) or not references)


def evaluations_of(study: Study, task: Task) -> Iterable[tuple[str, dict[str, Any]]]:
    """Yield (table, content of metrics.json) for the study's collections that a run was evaluated on."""
    for table in (table for collection in study.collections for table in table_names(collection)):
        for scoring in SCORINGS:
            path = task.folder / "eval" / results_folder(table, scoring) / "metrics.json"
            if path.is_file():
                yield table, read_json(path)


def expected_evaluations(
    study: Study, tasks: Sequence[Task], inputs: Mapping[str, Mapping[str, str]] | None = None
) -> Expected:
    """Evaluations that a complete run has.

    If a copied study's collections are absent, these are the evaluations that any run of the language has.

    Args:
      study: the study.
      tasks: its final runs.
      inputs: result of `check_collections`; None if files are not compared.
    """
    found: dict[str, set[str]] = {language: set() for language in study.languages}
    for collection in study.collections:
        names = set(folders_of(collection))
        languages = languages_of(collection)
        for task in tasks:
            there = names if languages else {name for name in names if (task.folder / "eval" / name).is_dir()}
            if not languages or task.language in languages:
                found[task.language] |= there
    folders = {language: frozenset(names) for language, names in found.items()}
    return Expected(folders, frozenset(arms_with_references(study)), inputs or {})


def check_collections(study: Study) -> dict[str, dict[str, str]]:
    """Validate the study's collections before hours of training.

    Returns:
      Name of a folder under RUN/eval -> sha256 of its collection's files, and of the dual encoder that encodes it.

    Raises:
      ConfigError: a collection is missing, has none of the study's languages or metrics, or shares a name.
      DataError: it cannot be read.
    """
    named: dict[str, str] = {}
    inputs: dict[str, dict[str, str]] = {}
    for collection in study.collections:
        for name in folders_of(collection):
            if (other := named.setdefault(name, collection)) != collection:
                raise ConfigError(
                    f"collections: {other} and {collection} would both be reported as {name}; rename one of the folders"
                )
        expand_path(collection, "collections")
        source = source_of(collection)
        path = source.spec
        asked = [language for language in study.languages if language in languages_of(collection)]
        if not asked:
            files = "captions" if is_images(collection) else "queries.LANG.jsonl"
            raise ConfigError(
                f"collections: {path} has no {files} in any of {' '.join(study.languages)}; correct the path, or leave "
                "it out"
            )
        if source.captions and not is_image_set(path):
            raise ConfigError(f"collections: {collection}: {path} has no captions of images; leave out captions:")
        if source.pair and not is_images(collection):
            raise ConfigError(
                f"collections: {collection}: {path} is evaluated without images; leave out by {source.pair}"
            )
        if is_images(collection):
            check_readers(study, collection)
            files = image_inputs(read_image_set(path, SPLIT), source.pair)
        else:
            files = read_source(path, SPLIT, asked).sha256
        inputs |= dict.fromkeys(folders_of(collection), files)
    check_metrics(study)
    return inputs


def check_languages(study: Study) -> None:
    """Check that every arm's bitext is in the study's language, by which its dev metrics are read.

    Raises:
      ConfigError: an arm's bitext is in another language.
      DataError: a file is missing.
    """
    for language in study.languages:
        for arm in study.arms:
            for config in arm.trials.values():
                entries = study.in_language(config, language).data.bitext
                found = {parse_entry(entry, "data.bitext").language for entry in entries}
                if found != {language}:
                    raise ConfigError(
                        f"languages: arm {arm.name} learns {' '.join(sorted(found)) or 'nothing'}, but the language is "
                        f"{language}; use {language}=FILE in in_language"
                    )


def check_same_files(tasks: Iterable[Task]) -> None:
    """Check that all runs read the same version of every input file, or their tests would compare data too.

    Raises:
      ConfigError: names the changed file and both runs.
    """
    first: dict[tuple[str, str], tuple[str, Path]] = {}
    for task in tasks:
        path = task.folder / "env.json"
        inputs = read_json(path)["inputs"] if path.is_file() else {}
        # Model files are not compared: their names within a folder are the same for all models.
        for name, sha256 in ((name, sha256) for kind in DATA for name, sha256 in inputs.get(kind, {}).items()):
            # Images have one digest of all that a run's captions name, so it is comparable only for the same data.
            data = replace(task.config.data, temperature=1.0, weights=(), global_batch=1, row_length=1, buckets=())
            same = str(data) if name.endswith(ALL_IMAGES) else ""
            before, folder = first.setdefault((name, same), (sha256, task.folder))
            if before != sha256:
                raise ConfigError(
                    f"{name} changed between the runs in {folder} and {task.folder}; delete the older runs, or name "
                    "another --folder"
                )


def dev_lines(task: Task) -> list[tuple[int, dict[str, float]]]:
    """(step, metrics on the language's dev pairs), in the order of steps."""
    records = read_metrics(task.folder / "metrics.jsonl")
    return [(line["step"], line["dev"][task.language]) for line in records if "dev" in line]


def last_dev(task: Task) -> float:
    """Dev metric by which trials are chosen, after the run's last step."""
    lines = dev_lines(task)
    if not lines:
        raise DataError(
            f"{task.folder}: no dev metrics, for there are no dev pairs; give files of which a tenth can be held out, "
            "or data.dev"
        )
    return lines[-1][1][task.config.checkpoint.best_metric]


def step_lines(run: Path) -> list[dict[str, Any]]:
    """Step lines of metrics.jsonl, without the first (which includes compilation) if there are others."""
    lines = [line for line in read_metrics(run / "metrics.jsonl") if "pairs_per_second" in line]
    return lines[1:] or lines

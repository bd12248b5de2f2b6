"""What stands in a study's folder: its choices, and how far each of its runs came. Nothing here starts JAX."""

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
"""In the folder of a run whose loss stopped being a number: what it said."""
DATA = ("bitext", "pictures")
"""Kinds of a run's inputs that are files by their paths."""


@dataclass(frozen=True)
class Expected:
    """What a whole run has under RUN/eval."""

    folders: Mapping[str, frozenset[str]]
    """By language, their names."""
    references: frozenset[str]
    """Arms beside whose runs stand what needs no training."""
    inputs: Mapping[str, Mapping[str, str]]
    """By the folder's name, the sha256 of its collection's files as they are now; empty where that is not asked."""


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
    from optical_jax.runs.folder import RunFolder

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
    step, references = records[-1]["step"], task.arm in expected.references
    return all(
        has_results(task.folder / "eval" / name, step, references, expected.inputs.get(name, {}))
        for name in expected.folders[task.language]
    )


def has_results(folder: Path, step: int | str, references: bool, inputs: Mapping[str, str]) -> bool:
    """Whether a folder has a checkpoint's metrics on these files, and those of references if they are wanted."""
    path = folder / "metrics.json"
    found = read_json(path) if path.is_file() else {}
    of_these_files = all(inputs.get(name, sha256) == sha256 for name, sha256 in found.get("inputs", {}).items())
    return found.get("checkpoint") == step and of_these_files and (bool(found["references"]) or not references)


def evaluations_of(study: Study, task: Task) -> Iterable[tuple[str, dict[str, Any]]]:
    """(table, content of metrics.json) of those of the study's collections that a run was evaluated on."""
    for table in (table for collection in study.collections for table in table_names(collection)):
        for scoring in SCORINGS:
            path = task.folder / "eval" / results_folder(table, scoring) / "metrics.json"
            if path.is_file():
                yield table, read_json(path)


def expected_evaluations(
    study: Study, tasks: Sequence[Task], inputs: Mapping[str, Mapping[str, str]] | None = None
) -> Expected:
    """What a run is to have when it is whole.

    A study that was copied may lie where its collections do not; then what any run of the language has of them.

    Args:
      study: the study.
      tasks: its final runs.
      inputs: what `check_collections` gave; none where files are not looked at.
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
    """Refuse a collection that could not be read after hours of training.

    Returns:
      By the name of a folder under RUN/eval, the sha256 of the files of its collection, and of a pair that reads it.

    Raises:
      ConfigError: it is not there, has none of the study's languages or metrics, or is named as another.
      DataError: it cannot be read.
    """
    named: dict[str, str] = {}
    inputs: dict[str, dict[str, str]] = {}
    for collection in study.collections:
        for name in folders_of(collection):
            if (other := named.setdefault(name, collection)) != collection:
                raise ConfigError(
                    f"collections: {other} and {collection} would both be told of as {name}; rename one of the folders"
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
            raise ConfigError(f"collections: {collection}: {path} has no captions of pictures; leave out captions:")
        if source.pair and not is_images(collection):
            raise ConfigError(
                f"collections: {collection}: {path} is asked without pictures; leave out by {source.pair}"
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
    """Refuse files of another language than the study says: dev figures would be looked for under its name.

    Raises:
      ConfigError: names both.
      DataError: a file is missing.
    """
    for language in study.languages:
        for arm in study.arms:
            for config in arm.trials.values():
                entries = study.in_language(config, language).data.bitext
                found = {parse_entry(entry, "data.bitext").language for entry in entries}
                if found != {language}:
                    raise ConfigError(
                        f"languages: arm {arm.name} learns {' '.join(sorted(found)) or 'nothing'} where the study says "
                        f"{language}; write {language}=FILE in in_language"
                    )


def check_same_files(tasks: Iterable[Task]) -> None:
    """Refuse runs that read one file before and after it changed: a test between them would compare data too.

    Raises:
      ConfigError: names the file and both runs.
    """
    first: dict[tuple[str, str], tuple[str, Path]] = {}
    for task in tasks:
        path = task.folder / "env.json"
        inputs = read_json(path)["inputs"] if path.is_file() else {}
        # Of models the names are those in their folders, alike for all.
        for name, sha256 in ((name, sha256) for kind in DATA for name, sha256 in inputs.get(kind, {}).items()):
            # Pictures have one digest of all that a run's captions name: those of other files may name others.
            data = replace(task.config.data, temperature=1.0, weights=(), global_batch=1, row_length=1, buckets=())
            same = str(data) if name.endswith(ALL_IMAGES) else ""
            before, folder = first.setdefault((name, same), (sha256, task.folder))
            if before != sha256:
                raise ConfigError(
                    f"{name} changed between the runs in {folder} and {task.folder}; delete the older runs, or name "
                    "another --folder"
                )


def dev_lines(task: Task) -> list[tuple[int, dict[str, float]]]:
    """(step, figures on the language's dev pairs), in the order of steps."""
    records = read_metrics(task.folder / "metrics.jsonl")
    return [(line["step"], line["dev"][task.language]) for line in records if "dev" in line]


def last_dev(task: Task) -> float:
    """The run's figure that chooses, after its last step."""
    lines = dev_lines(task)
    if not lines:
        raise DataError(
            f"{task.folder}: no dev figures, for there were no dev pairs; give files of which a tenth can be held out, "
            "or data.dev"
        )
    return lines[-1][1][task.config.checkpoint.best_metric]


def step_lines(run: Path) -> list[dict[str, Any]]:
    """The lines on steps; the first is left out where there are more, for it waits for the compiler."""
    lines = [line for line in read_metrics(run / "metrics.jsonl") if "pairs_per_second" in line]
    return lines[1:] or lines

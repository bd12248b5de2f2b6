"""Retrieval evaluation of a run or a model, or comparison of two runs: the command `eval.py`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from optical_jax.config import LOW_RESOURCE, ImageTowerConfig
from optical_jax.errors import ConfigError
from optical_jax.evaluation import images, report, texts
from optical_jax.evaluation.options import EvalCommand
from optical_jax.evaluation.retrieval import Evaluation, Prepared, RetrievalTask, System, encode_items, evaluate
from optical_jax.files import own_system, read_json, write_json
from optical_jax.partitioning import over_all_devices
from optical_jax.plots.curves import try_to_draw
from optical_jax.progress import ProgressReport
from optical_jax.retrieval.blocks import Block
from optical_jax.retrieval.metrics import PerQuery
from optical_jax.retrieval.significance import compare_runs
from optical_jax.runs.folder import read_run_config
from optical_jax.runs.load import checkpoint_step, is_run
from optical_jax.towers.texts import STUDENT_REMEDY, TEACHER_REMEDY, Counter, check_texts, max_tokens
from optical_jax.towers.tower import Tower

KINDS = (images.read_task, texts.read_task)
"""Readers of `--collection`, tried in order; each returns None for a source that is not of its kind."""


def read_task(command: EvalCommand) -> RetrievalTask:
    """Read the queries and documents that `--collection` names.

    Raises:
      ConfigError: no reader accepts it, or a flag does not apply to it.
      DataError: it is missing or malformed.
    """
    return next(task for read in KINDS if (task := read(command)) is not None)


def run_evaluation(command: EvalCommand) -> None:
    """Run `eval.py` with parsed flags."""
    for run in filter(None, (command.run, *command.compare)):
        checkpoint_step(Path(run), command.checkpoint)
    if command.model and is_run(Path(command.model)):
        raise ConfigError(f"model={command.model} is a run; give --run {command.model}")
    task = read_task(command)
    if command.compare:
        compare(command, task)
    elif command.run:
        evaluate_run(command, task, Path(command.run))
    else:
        evaluate_model(command, task)


def evaluate_run(command: EvalCommand, task: RetrievalTask, run: Path) -> Evaluation:
    """Evaluate a run's trained model and its references; results are written into the run folder."""
    step = checkpoint_step(run, command.checkpoint)
    with over_all_devices():
        prepared = task.of_run(command, run, step)
        folder = results_folder(command, task, run)
        folder.mkdir(parents=True, exist_ok=True)
        evaluation = evaluate_prepared(command, prepared)
    low_resource = read_run_config(run).get("low_resource", LOW_RESOURCE)
    metrics = evaluation.as_json(low_resource)
    (folder / "metrics.json").unlink(missing_ok=True)
    report.write_files(folder, evaluation, tag="_".join(run.resolve().name.split()))
    pages = prepared.task.write_pages(folder, evaluation)
    if try_to_draw(prepared.task.draw, metrics, folder / "curves.png"):
        pages.append("curves.png")
    # Written last: a folder with metrics.json is complete.
    write_json(folder / "metrics.json", metrics)
    if command.out and not command.compare:
        write_json(Path(command.out), metrics)
    report.print_evaluation(evaluation, low_resource)
    for name in pages:
        print(f"{name.partition('.')[0]}: {folder / name}")
    return evaluation


def evaluate_model(command: EvalCommand, task: RetrievalTask) -> None:
    """Evaluate a model that encodes both queries and documents; nothing is written but `--out`."""
    with over_all_devices():
        evaluation = evaluate_prepared(command, task.of_model(command))
    if command.out:
        write_json(Path(command.out), evaluation.as_json(LOW_RESOURCE))
    report.print_evaluation(evaluation, LOW_RESOURCE)


def evaluate_prepared(command: EvalCommand, prepared: Prepared) -> Evaluation:
    """Encode, rank and compute metrics, with progress on stderr."""

    counters: dict[int, Counter] = {}
    check_vocabularies(prepared.systems, prepared.task.documents, command.max_unknown)

    def vectors(tower: Tower, items: Mapping[str, Any], label: str) -> Iterator[Block]:
        pooled = prepared.scoring == "pooled"
        with ProgressReport(label, len(items), "items") as progress:
            options: dict[str, Any] = {"batch_size": command.batch_size, "advance": progress.advance}
            if reads_texts(tower):
                # The evaluated system comes first; its references encode the same texts again.
                counter = counters.get(id(items)) or Counter()
                options["look"] = counter if id(items) not in counters else None
                counters.setdefault(id(items), counter)
            yield from encode_items(tower, items, pooled=pooled, **options)

    found = evaluate(prepared.task, prepared.systems, vectors)
    system, own = next(iter(prepared.systems.items()))
    truncated = {
        "documents": truncation(counters, prepared.task.documents, own.documents),
        "queries": {
            language: truncation(counters, queries.items, own.queries) for language, queries in own.asked.items()
        },
    }
    record = {**prepared.record, "truncated": truncated}
    return Evaluation(prepared.task, prepared.scoring, system, found | prepared.more(found), prepared.origin, record)


def reads_texts(tower: Tower) -> bool:
    return not isinstance(tower.cfg, ImageTowerConfig)


def truncation(counters: Mapping[int, Counter], items: Mapping[str, Any], tower: Tower) -> dict[str, int] | None:
    """For metrics.json: texts, how many of them are truncated and to what length; None for images."""
    if id(items) not in counters:
        return None
    counts = counters[id(items)].counts
    return {"texts": counts.texts, "truncated": counts.truncated, "max_length": max_tokens(tower)}


def check_vocabularies(systems: Mapping[str, System], documents: Mapping[str, Any], max_unknown: float) -> None:
    """Check that the tokenizers know the texts that they are given; of references there is a warning only.

    Raises:
      DataError: too many tokens of the evaluated system are unknown.
    """
    checked: set[tuple[int, int]] = set()
    evaluated = next(iter(systems))
    for name, one in systems.items():
        if name == "untrained":  # reads as the trained one
            continue
        sides = [(one.queries, queries.items, f"{language} queries, {name}") for language, queries in one.asked.items()]
        for tower, items, what in [*sides, (one.documents, documents, "documents")]:
            if not items or not reads_texts(tower) or (id(tower), id(items)) in checked:
                continue
            checked.add((id(tower), id(items)))
            trained = name == "student" and tower is one.queries
            check_texts(
                tower,
                list(items.values()),
                what,
                at_most=max_unknown if name == evaluated else None,
                remedy=STUDENT_REMEDY if trained else TEACHER_REMEDY,
            )


def results_folder(command: EvalCommand, task: RetrievalTask, run: Path) -> Path:
    return run / "eval" / f"{task.name}-{task.split}{task.folder_suffix(command, run)}"


# ---- two runs ----------------------------------------------------------------------------------------------------


def compare(command: EvalCommand, task: RetrievalTask) -> None:
    """Paired significance tests of the second run against the first, over the same queries (or images)."""
    runs = [Path(run) for run in command.compare]
    steps = [checkpoint_step(run, command.checkpoint) for run in runs]
    found = [metrics_of_run(command, task, run, step) for run, step in zip(runs, steps, strict=True)]
    (a, _), (b, _) = found
    tests = compare_runs(a, b, metrics=task.compared)
    scorings = [scoring for _, scoring in found]
    for name, run, step, scoring in zip("AB", runs, steps, scorings, strict=True):
        print(f"{name} = {run}, checkpoint {step}, {scoring}")
    report.print_comparison(tests, task.comparison_notes)
    if command.out:
        content = {
            "collection": task.name,
            "split": task.split,
            **({"searched": task.searched} if len(task.directions) > 1 else {}),
            "scoring": scorings if len(task.directions) > 1 else scorings[0],
            "runs": list(command.compare),
            "checkpoints": steps,
            "tests": report.tests_json(tests),
        }
        write_json(Path(command.out), content)


def metrics_of_run(
    command: EvalCommand, task: RetrievalTask, run: Path, step: int
) -> tuple[Mapping[str, PerQuery], str]:
    """Metrics per query or image, and their scoring; read from the last evaluation if it is up to date."""
    system, folder, languages = own_system(run), results_folder(command, task, run), list(task.asked)
    if (folder / "metrics.json").is_file():
        saved = read_json(folder / "metrics.json")
        if saved["checkpoint"] == step and task.is_current(command, run, step, saved):
            if set(languages) <= set(saved["languages"]):
                return report.read_per_query(folder, system, languages, task.compared), saved["scoring"]
            # Valid results of other languages are kept: evaluate the union of the languages.
            task = read_task(replace(command, lang=tuple(dict.fromkeys([*saved["languages"], *languages]))))
    scoring = evaluate_run(command, task, run).scoring
    return report.read_per_query(folder, system, languages, task.compared), scoring

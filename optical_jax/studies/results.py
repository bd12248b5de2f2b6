"""Results of a study: a long table of metrics, means and standard deviations over seeds, and significance tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from optical_jax.studies.comparison import ArmTest, references_of, tests_of
from optical_jax.studies.design import Study, Task, arms_with_references, group_of, pairs_seen
from optical_jax.studies.folders import (
    check_same_files,
    dev_lines,
    evaluations_of,
    expected_evaluations,
    failure_of,
    is_evaluated,
    read_choices,
    step_lines,
)
from optical_jax.studies.runner import chosen_tasks

REFERENCES = ("untrained", "teacher", "bm25", "dictionary")
OF_STUDENT_AND_DATA = ("untrained", "dictionary")
"""References that depend on the student and data settings of an arm."""
TIMING = "timing"
"""Collection name of rows that are not reproducible (step times)."""


@dataclass(frozen=True)
class Row:
    """One metric of one run: a row of the long table."""

    arm: str
    """Arm, or a reference named by `reference_names`."""
    trial: str
    language: str
    group: str
    """low or high: resource level of the language."""
    seed: int
    collection: str
    """Collection name and split; "dev" for the bitext's dev pairs, "training" and "timing" for metrics of the training
    itself."""
    scoring: str
    metric: str
    value: float
    queries: int
    """Number of queries that the metric is averaged over; 0 if it is not an average over queries."""


@dataclass(frozen=True)
class Summary:
    """An arm's macro average over a group's languages: mean and standard deviation over seeds."""

    arm: str
    group: str
    collection: str
    scoring: str
    metric: str
    mean: float
    sd: float
    """Sample standard deviation over seeds; NaN for one seed."""
    seeds: int
    languages: int


@dataclass(frozen=True)
class Results:
    rows: list[Row]
    summaries: list[Summary]
    tests: list[ArmTest]
    references: list[str]
    """Arms that the others are tested against."""
    tasks: list[Task]
    """All final runs, finished or not."""
    done: list[Task]
    missing: list[Task]
    """Not started, or not complete."""
    failed: list[Task]
    """Runs whose loss became NaN or infinite."""


def collect_results(study: Study) -> Results:
    """Collect the results of all final runs in the study's folder so far."""
    choices = read_choices(study)
    tasks = chosen_tasks(study, choices) if choices else []
    expected, references = expected_evaluations(study, tasks), references_of(study, choices)
    failed = [task for task in tasks if failure_of(task) is not None]
    done = [task for task in tasks if task not in failed and is_evaluated(task, expected)]
    rows = [row for task in done for row in rows_of_run(study, task)]
    missing = [task for task in tasks if task not in done and task not in failed]
    check_same_files(done)
    return Results(rows, summarise(rows), tests_of(study, done, references), references, tasks, done, missing, failed)


def reference_names(study: Study, arm: str) -> dict[str, str]:
    """References evaluated with an arm's runs -> their row names: `untrained (ARM)` if several arms have their own."""
    arms = arms_with_references(study)
    if arm not in arms:
        return {}
    if arm == arms[0]:
        return {name: name for name in REFERENCES}
    return {name: f"{name} ({arm})" for name in REFERENCES if name in OF_STUDENT_AND_DATA}


def all_references(study: Study) -> list[str]:
    """Names of the references of all arms, in the order of tables."""
    return [name for arm in arms_with_references(study) for name in reference_names(study, arm).values()]


def rows_of_run(study: Study, task: Task) -> list[Row]:
    group = group_of(task)
    named = reference_names(study, task.arm)

    def row(collection: str, scoring: str, metric: str, value: float, queries: int, arm: str = task.arm) -> Row:
        trial = task.trial if arm == task.arm else ""
        return Row(arm, trial, task.language, group, task.seed, collection, scoring, metric, float(value), queries)

    rows = []
    for path, figures in evaluations_of(study, task):
        beside = {name: figures["references"].get(system, {}) for system, name in named.items()}
        for arm, languages in {task.arm: figures["languages"], **beside}.items():
            if found := languages.get(task.language):
                metrics = [metric for metric in found if metric != "queries"]
                rows += [row(path, figures["scoring"], m, found[m], found["queries"], arm) for m in metrics]
    rows += [row("dev", "maxsim", metric, value, 0) for _, dev in dev_lines(task)[-1:] for metric, value in dev.items()]
    own: dict[str, float] = {"pairs_seen": pairs_seen(task.config)}
    steps = step_lines(task.folder)
    if not steps:  # a baseline without training
        return [*rows, row("training", "", "pairs_seen", own["pairs_seen"], 0)]
    seconds = float(np.median([task.config.data.global_batch / line["pairs_per_second"] for line in steps]))
    rows.append(row(TIMING, "", "step_seconds", seconds, 0))
    told = ("loss", "plan_entropy", "greedy_cosine", "pooled_cosine")
    own |= {name: steps[-1][name] for name in told if name in steps[-1]}
    return rows + [row("training", "", name, value, 0) for name, value in own.items()]


# ---- means -------------------------------------------------------------------------------------------------------


def summarise(rows: Sequence[Row]) -> list[Summary]:
    """Mean and sd over seeds of every arm, group, collection, scoring and metric.

    Only seeds with the most languages are included.
    """
    cells: dict[tuple[str, str, str, str, str], dict[int, dict[str, float]]] = {}
    for row in rows:
        for group in (row.group, "all"):
            key = row.arm, group, row.collection, row.scoring, row.metric
            cells.setdefault(key, {}).setdefault(row.seed, {})[row.language] = row.value
    found = []
    for key, seeds in cells.items():
        most = max(map(len, seeds.values()))
        means = [float(np.mean(list(values.values()))) for values in seeds.values() if len(values) == most]
        sd = float(np.std(means, ddof=1)) if len(means) > 1 else float("nan")
        found.append(Summary(*key, float(np.mean(means)), sd, len(means), most))
    return found

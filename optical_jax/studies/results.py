"""What a study found: one long table, means and spread over seeds, tests of significance, and the files they go to."""

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
"""Of these, what is another one for another student or other data."""
TIMING = "timing"
"""Stands for a collection in rows that another run with the same seeds does not repeat."""


@dataclass(frozen=True)
class Row:
    """One figure of one run; the long table has nothing else."""

    arm: str
    """Or a reference's, as `reference_names` calls it."""
    trial: str
    language: str
    group: str
    """low or high resource."""
    seed: int
    collection: str
    """A collection's name and split; "dev" for the bitext's dev pairs, "training" and "timing" for figures of the run
    itself."""
    scoring: str
    metric: str
    value: float
    queries: int
    """What the figure is a mean over; 0 where it is none."""


@dataclass(frozen=True)
class Summary:
    """An arm's figure over a group's languages, each counting once: mean and spread over seeds."""

    arm: str
    group: str
    collection: str
    scoring: str
    metric: str
    mean: float
    sd: float
    """Sample standard deviation over seeds; NaN of one."""
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
    """The final runs, done or not."""
    done: list[Task]
    missing: list[Task]
    """Not begun, or not whole."""
    failed: list[Task]
    """Their loss stopped being a number."""


def collect_results(study: Study) -> Results:
    """Everything that the final runs in the study's folder hold so far."""
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
    """What stands beside an arm's runs -> what it is called: `untrained (ARM)` where several arms have their own."""
    arms = arms_with_references(study)
    if arm not in arms:
        return {}
    if arm == arms[0]:
        return {name: name for name in REFERENCES}
    return {name: f"{name} ({arm})" for name in REFERENCES if name in OF_STUDENT_AND_DATA}


def all_references(study: Study) -> list[str]:
    """Of all arms, in the order of tables."""
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
    if not steps:  # a baseline that trains nothing
        return [*rows, row("training", "", "pairs_seen", own["pairs_seen"], 0)]
    seconds = float(np.median([task.config.data.global_batch / line["pairs_per_second"] for line in steps]))
    rows.append(row(TIMING, "", "step_seconds", seconds, 0))
    told = ("loss", "plan_entropy", "greedy_cosine", "pooled_cosine")
    own |= {name: steps[-1][name] for name in told if name in steps[-1]}
    return rows + [row("training", "", name, value, 0) for name, value in own.items()]


# ---- means -------------------------------------------------------------------------------------------------------


def summarise(rows: Sequence[Row]) -> list[Summary]:
    """For every arm, group, collection, scoring and metric; a seed counts if it has as many languages as any seed."""
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

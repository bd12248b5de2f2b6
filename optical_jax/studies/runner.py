"""Run a study: tuning runs, selection of the best trials, and final runs."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from optical_jax.errors import MachineError
from optical_jax.files import locked, write_json
from optical_jax.progress import ProgressReport
from optical_jax.studies.design import Study, Task, best_trials, final_tasks, tuning_tasks
from optical_jax.studies.folders import (
    CHOICES,
    Expected,
    check_collections,
    check_languages,
    expected_evaluations,
    failure_of,
    is_evaluated,
    is_trained,
    last_dev,
    step_lines,
)
from optical_jax.studies.pool import Pool, signals_interrupt


def run_study(study: Study, workers: int = 1) -> None:
    """Run all missing runs of a study; calling it again resumes an interrupted study.

    Raises:
      ConfigError: the folder holds a run of another config, or a collection is missing.
      MachineError: another process runs this study, or a worker was killed.
      Interrupted: by SIGINT or SIGTERM; unfinished runs are saved.
      OpticalError: as in training; but a run whose loss is not finite is recorded as failed, and the study continues.
    """
    inputs = check_collections(study)
    check_languages(study)
    folder = Path(study.folder)
    folder.mkdir(parents=True, exist_ok=True)
    refusal = MachineError(f"study {folder} is being run by another process; wait for it")
    with locked(folder, refusal), signals_interrupt(), Pool(study, workers) as pool:
        tuning = tuning_tasks(study)
        figures = run_missing(pool, "tuning", tuning, None)
        choices = choose(study, tuning, figures)
        write_json(folder / CHOICES, choices)
        for arm, found in choices["arms"].items() if tuning else ():
            print(f"chosen: {arm}: {found['trial']}", file=sys.stderr, flush=True)
        final = chosen_tasks(study, choices)
        run_missing(pool, "final", final, expected_evaluations(study, final, inputs))


def run_missing(pool: Pool, label: str, tasks: Sequence[Task], expected: Expected | None) -> list[float]:
    """Run the missing tasks; return the dev metric of every task, in order. All are checked before the first is run.

    Without `expected` evaluations, a run is complete when it is trained.
    """
    figures = [dev_metric_of(task, expected) for task in tasks]
    missing = [number for number, figure in enumerate(figures) if figure is None]
    if not missing:
        return [figure for figure in figures if figure is not None]
    with ProgressReport(label, len(tasks), "runs", done=len(tasks) - len(missing), slow=True) as progress:
        progress.advance(0)
        for position, outcome in pool.run([tasks[number] for number in missing]):
            task = tasks[missing[position]]
            figures[missing[position]] = outcome.dev
            progress.advance()
            found = f"dev {outcome.dev:.3f}" if outcome.dev == outcome.dev else "failed, its loss is not finite"
            progress.say(
                f"{label} {len(tasks) - figures.count(None)}/{len(tasks)}  {task.arm} {task.trial} {task.language} "
                f"seed {task.seed}: {found}, {outcome.seconds:.0f} s" + progress.eta_of_line(", ")
            )
    return [figure for figure in figures if figure is not None]


def dev_metric_of(task: Task, expected: Expected | None) -> float | None:
    """Dev metric of a complete run; NaN if it failed; None if it has to be run."""
    trained = is_trained(task)
    if failure_of(task) is not None:
        return float("nan")
    if not trained or (expected is not None and not is_evaluated(task, expected)):
        return None
    return last_dev(task)


# ---- choices -----------------------------------------------------------------------------------------------------


def choose(study: Study, tasks: Sequence[Task], dev: Sequence[float]) -> dict[str, Any]:
    """Select the best trial of every arm: trial, dev metrics of all trials by language, and steps, for choices.json."""
    figures: dict[tuple[str, str], dict[str, float]] = {}
    for task, figure in zip(tasks, dev, strict=True):
        if figure == figure:
            figures.setdefault((task.arm, task.trial), {})[task.language] = figure
    best = best_trials(study, {trial: list(found.values()) for trial, found in figures.items()})
    steps = equal_steps(study, best) if study.budget == "seconds" else {}
    arms = {
        arm.name: {
            "trial": best[arm.name],
            "trials": {trial: figures.get((arm.name, trial), {}) for trial in arm.trials},
            **({"steps": steps[arm.name]} if arm.name in steps else {}),
        }
        for arm in study.arms
    }
    first = study.tuned_arms[0]
    return {"metric": first.trials[best[first.name]].checkpoint.best_metric, "arms": arms}


def chosen_tasks(study: Study, choices: Mapping[str, Any]) -> list[Task]:
    """Final runs of the trials selected in choices.json."""
    arms = choices["arms"]
    steps = {name: found["steps"] for name, found in arms.items() if "steps" in found}
    return final_tasks(study, {name: found["trial"] for name, found in arms.items()}, steps)


def equal_steps(study: Study, best: Mapping[str, str]) -> dict[str, int]:
    """Steps per arm for equal training time: that of the fastest arm, by the median step time of tuning runs.

    An arm whose tuning runs all failed before they were timed is left out.
    """
    seconds = {}
    for arm, trial in ((arm.name, best[arm.name]) for arm in study.tuned_arms):
        runs = [task.folder for task in tuning_tasks(study) if (task.arm, task.trial) == (arm, trial)]
        batch = study.arm(arm).trials[trial].data.global_batch
        if rates := [line["pairs_per_second"] for run in runs for line in step_lines(run)]:
            seconds[arm] = batch / median(rates)
    return {
        arm: max(1, round(study.arm(arm).trials[best[arm]].training.steps * min(seconds.values()) / took))
        for arm, took in seconds.items()
    }

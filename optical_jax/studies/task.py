"""Train and evaluate one run of a study in a worker process."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from typing import Any

from optical_jax.errors import NonFiniteLossError
from optical_jax.studies.design import Task
from optical_jax.studies.folders import FAILED, is_trained, last_dev


@dataclass(frozen=True)
class Outcome:
    """Dev metric and duration of a run."""

    dev: float
    """Dev metric that selects trials, after the last step; NaN if the run failed."""
    seconds: float
    """Wall-clock time of training and evaluation."""


def begin(collections: list[str], compiled: str) -> Any:
    """Set up JAX's compilation cache, and return the evaluator that caches document vectors between runs."""
    os.environ["JAX_COMPILATION_CACHE_DIR"] = compiled
    import jax

    from optical_jax.studies.evaluators import Evaluator

    # JAX may have read the environment already.
    jax.config.update("jax_compilation_cache_dir", compiled)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    return Evaluator(collections)


def run_and_forget(task: Task, evaluator: Any, references: bool) -> Outcome:
    import jax

    outcome = run_task(task, evaluator, references)
    # A grid compiles hundreds of programs, which would all stay in memory.
    jax.clear_caches()
    return outcome


def run_task(task: Task, evaluator: Any, references: bool) -> Outcome:
    """Train and evaluate a run, skipping finished parts; training output goes to the run's log.txt."""
    from optical_jax.training.student.task import train_run

    began = time.monotonic()
    if not is_trained(task):
        evaluator.check(task.config)
        task.folder.mkdir(parents=True, exist_ok=True)
        with (task.folder / "log.txt").open("a", encoding="utf-8") as log:
            try:
                with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
                    train_run(task.config)
            except NonFiniteLossError as error:
                (task.folder / FAILED).write_text(f"{error}\n", encoding="utf-8")
                return Outcome(float("nan"), time.monotonic() - began)
    if task.stage == "final":
        evaluator.evaluate(task.folder, task.language, references=references)
    return Outcome(last_dev(task), time.monotonic() - began)

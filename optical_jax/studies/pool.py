"""Worker pool for a study's runs: this process, or several worker processes with a share of the CPU cores each.

Workers are spawned (JAX does not support fork), in their own process groups: Ctrl-C in a terminal reaches only this
process, which forwards it once, because a second signal would stop a training without saving.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from multiprocessing import connection, get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optical_jax.errors import Interrupted, MachineError, OpticalError
from optical_jax.studies.design import Study, Task, arms_with_references
from optical_jax.studies.task import begin, run_and_forget

if TYPE_CHECKING:
    from optical_jax.studies.task import Outcome

STOPPED = "stopped by a signal; unfinished runs were saved, and the same command resumes them"

HUGE_PAGES = "glibc.malloc.hugetlb=1"
"""Transparent huge pages make a step on a CPU a fifth faster (docs/performance.md), since XLA maps its buffers anew in
every step."""


class Worker:
    """A worker process, our end of its pipe, and its current task."""

    def __init__(self, number: int, cores: list[int], study: Study, compiled: str) -> None:
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.log = Path(study.folder) / f"worker-{number}.log"
        self.task: tuple[int, Task] | None = None
        self.process = context.Process(target=work, args=(theirs, cores, list(study.collections), compiled, self.log))
        self.process.start()
        theirs.close()

    def give(self, number: int, task: Task, references: bool) -> None:
        self.task = number, task
        # It may have died while idle; `result` raises that.
        with contextlib.suppress(BrokenPipeError):
            self.pipe.send((task, references))

    def result(self) -> tuple[int, Outcome]:
        """Wait for the current task and return its position and outcome.

        Raises:
          MachineError: the process was killed.
          Exception: the exception that the run raised.
        """
        assert self.task is not None
        try:
            found = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            raise MachineError(
                f"the worker at {self.task[1].folder} died ({how_it_ended(self.process.exitcode)}; {self.log} has its "
                "output); run the same command to resume, with fewer --workers if memory was exhausted"
            ) from None
        number, self.task = self.task[0], None
        if isinstance(found, Exception):
            raise found
        return number, found


def how_it_ended(code: int | None) -> str:
    return signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"


class Pool:
    """Runs tasks in worker processes; a context manager that always terminates them."""

    def __init__(self, study: Study, workers: int) -> None:
        self._study = study
        # Runs share a compilation cache.
        compiled = os.environ.get("JAX_COMPILATION_CACHE_DIR") or str((Path(study.folder) / "compiled").absolute())
        # Read at process start, so it affects the workers only.
        os.environ.setdefault("GLIBC_TUNABLES", HUGE_PAGES)
        self._workers: list[Worker] = []
        self._evaluator: Any = None
        if workers == 1:
            self._evaluator = begin(list(study.collections), compiled)
            return
        with contextlib.ExitStack() as half_way:
            half_way.callback(self._stop)
            for number, share in enumerate(core_shares(workers)):
                self._workers.append(Worker(number, share, study, compiled))
            half_way.pop_all()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: Any) -> None:
        self._stop()

    def run(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Outcome]]:
        """Yield (position of a task, its outcome) as tasks finish."""
        beside = arms_with_references(self._study)
        waiting = [(number, task, task.arm in beside) for number, task in reversed(list(enumerate(tasks)))]
        if not self._workers:
            while waiting:
                number, task, references = waiting.pop()
                yield number, run_and_forget(task, self._evaluator, references)
            return
        while waiting or any(worker.task for worker in self._workers):
            for worker in self._workers:
                if worker.task is None and waiting:
                    worker.give(*waiting.pop())
            busy = {worker.pipe: worker for worker in self._workers if worker.task}
            for pipe in connection.wait(list(busy)):
                yield busy[pipe].result()  # pyright: ignore[reportArgumentType]

    def _stop(self) -> None:
        """Terminate the workers; busy ones save their run first. Another signal kills them at once."""
        alive = [worker for worker in self._workers if worker.process.is_alive()]
        if busy := [worker for worker in alive if worker.task]:
            told = "1 run is" if len(busy) == 1 else f"{len(busy)} runs are"
            print(f"{told} saved first; press Ctrl-C again to stop without saving", file=sys.stderr, flush=True)
        try:
            for worker in alive:
                worker.pipe.close()
                if worker in busy:
                    worker.process.terminate()
            for worker in alive:
                worker.process.join()
        except KeyboardInterrupt:
            for worker in alive:
                worker.process.kill()
            raise Interrupted("stopped without saving; the same command resumes each run at its last save") from None


def core_shares(workers: int) -> list[list[int]]:
    """Partition this process's CPU cores between workers: sharing cores would be slower."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return [cores[worker::workers] or cores[worker % len(cores) :][:1] if cores else [] for worker in range(workers)]


# ---- in a worker -------------------------------------------------------------------------------------------------


def work(pipe: Any, cores: list[int], collections: list[str], compiled: str, log: Path) -> None:
    """Worker loop: run tasks until the pipe closes or a signal arrives; an exception of a run is sent back."""
    os.setpgrp()
    # XLA messages, and those at process exit, would break the progress bar.
    with log.open("a", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        # Before JAX is imported: it starts one thread per core.
        if cores:
            os.sched_setaffinity(0, cores)
        evaluator = begin(collections, compiled)
        while True:
            task, references = pipe.recv()
            try:
                pipe.send(run_and_forget(task, evaluator, references))
            except Interrupted:
                return
            except OpticalError as error:
                pipe.send(error)
            except Exception as error:
                error.add_note(traceback.format_exc())
                pipe.send(error)
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        return


@contextlib.contextmanager
def signals_interrupt() -> Iterator[None]:
    """Handle SIGTERM (sent by job schedulers) like Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(STOPPED) from None
    finally:
        signal.signal(signal.SIGTERM, before)

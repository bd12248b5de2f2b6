"""Processes that work through a study's runs: this one, or several that each have their share of its cores.

Several are started afresh (JAX does not survive a fork), in process groups of their own: Ctrl-C in a terminal reaches
this process alone, which passes it on once, for a second signal would stop a training without saving.
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

STOPPED = "stopped by a signal; runs were saved where they were, and the same command goes on from there"

HUGE_PAGES = "glibc.malloc.hugetlb=1"
"""Where the kernel gives huge pages on request, a step on a CPU spends a fifth less (docs/performance.md): its buffers
are mapped anew each time."""


class Worker:
    """A process, our end of the pipe to it, and what it is at."""

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
        # It may have died while it had nothing to do; that is told when its result is asked for.
        with contextlib.suppress(BrokenPipeError):
            self.pipe.send((task, references))

    def result(self) -> tuple[int, Outcome]:
        """What the run came to; waits for it.

        Raises:
          MachineError: the process was killed.
          Exception: what the run raised.
        """
        assert self.task is not None
        try:
            found = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            raise MachineError(
                f"the worker at {self.task[1].folder} died ({how_it_ended(self.process.exitcode)}; {self.log} has what "
                "it printed); the same command goes on; where memory was short, with fewer --workers"
            ) from None
        number, self.task = self.task[0], None
        if isinstance(found, Exception):
            raise found
        return number, found


def how_it_ended(code: int | None) -> str:
    return signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"


class Pool:
    """Runs tasks; as a context it ends its processes, whatever happens."""

    def __init__(self, study: Study, workers: int) -> None:
        self._study = study
        # What one run has compiled the next need not compile again.
        compiled = os.environ.get("JAX_COMPILATION_CACHE_DIR") or str((Path(study.folder) / "compiled").absolute())
        # Read by a process when it starts, so of workers alone.
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
        """(position of a task, its outcome) as each ends."""
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
        """End the processes; those at a run save it first. A signal meanwhile ends them at once."""
        alive = [worker for worker in self._workers if worker.process.is_alive()]
        if busy := [worker for worker in alive if worker.task]:
            told = "1 run is" if len(busy) == 1 else f"{len(busy)} runs are"
            print(f"{told} saved first; once more stops without saving", file=sys.stderr, flush=True)
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
            raise Interrupted("stopped without saving; the same command goes on, each run at its last save") from None


def core_shares(workers: int) -> list[list[int]]:
    """This process's cores dealt out: what several workers would do in turns on the same cores takes them longer."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return [cores[worker::workers] or cores[worker % len(cores) :][:1] if cores else [] for worker in range(workers)]


# ---- in a worker -------------------------------------------------------------------------------------------------


def work(pipe: Any, cores: list[int], collections: list[str], compiled: str, log: Path) -> None:
    """Until the pipe closes, or a signal comes; after an error of a run it goes on with the next."""
    os.setpgrp()
    # Messages of XLA, and of the kernel's on the way out, would tear the progress bar.
    with log.open("a", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        # Before JAX starts: it makes as many threads as there are cores.
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
    """SIGTERM, with which schedulers stop, ends the study as Ctrl-C does."""
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

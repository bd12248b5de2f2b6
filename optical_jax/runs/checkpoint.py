"""Checkpoints of a run, by Orbax: saved atomically; the newest few and the best are kept.

Each ``checkpoints/<step>/`` holds params and opt_state, and in its metadata the position of the data loader and the
config. Evaluation reads params only.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from optical_jax.config import CheckpointConfig
from optical_jax.errors import ConfigError, MachineError
from optical_jax.types import Params

Which = Literal["last", "best"] | int

PLAIN_PATH = re.compile(r"(?!/(?:gs|s3|az|hf)(?:/|$))(?:[A-Za-z]:)?[\w/. @%+,=~-]*")
"""Paths that Orbax opens as they are. It searches below a path without escaping it, so that `[x]`, `*` and `?` in a
name are taken for a pattern; it reads `/s3/...` and `x:/...` as cloud storage; and tensorstore takes UTF-8 only."""


@contextlib.contextmanager
def plain_path(folder: Path) -> Iterator[str]:
    """Absolute path of a folder for Orbax: of a temporary link to it, unless its own is a `PLAIN_PATH`.

    Raises:
      ConfigError: no such link can be made, so checkpoints could be saved but not read again.
    """
    path = folder.absolute().as_posix()
    with contextlib.ExitStack() as stack:
        yield path if PLAIN_PATH.fullmatch(path) else _link_to(folder.absolute(), stack)


def _link_to(folder: Path, stack: contextlib.ExitStack) -> str:
    for place in (None, "/tmp", "/var/tmp"):
        try:
            # A new name every time: tensorstore caches by path what it has read.
            link = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="optical_jax-", dir=place)), "link")
            if PLAIN_PATH.fullmatch(link.as_posix()):
                link.symlink_to(folder, target_is_directory=True)
                return link.as_posix()
        except OSError:
            continue
    odd = [ascii(c) for c in sorted(set(folder.as_posix())) if not PLAIN_PATH.fullmatch(c)]
    raise ConfigError(
        f"{folder}: checkpoints cannot be read again below a path with {' '.join(odd) or '/'.join(folder.parts[:2])}, "
        f"and no temporary link to it can be made in {tempfile.gettempdir()}; name another folder, or set TMPDIR to a "
        "writable one with a plain path"
    )


class Checkpoints:
    """Save and restore checkpoints of a training. A context manager: leaving waits for the last save."""

    def __init__(self, folder: Path, cfg: CheckpointConfig) -> None:
        self._folder, self._cfg = folder.absolute(), cfg
        self._orbax: Any = None
        self._unchecked: int | None = None
        """Step of the newest save, until it is checked."""

    def __enter__(self) -> Checkpoints:
        policies: Any = ocp.training.preservation_policies
        kept: list[Any] = [policies.LatestN(self._cfg.keep)]
        if self._cfg.keep_best:
            kept.append(policies.BestN(get_metric_fn=_best_metric, n=1, keep_checkpoints_without_metrics=False))
        # A link must point to a folder that exists.
        self._folder.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            self._orbax = ocp.training.Checkpointer(
                stack.enter_context(plain_path(self._folder)),
                preservation_policy=policies.AnyPreservationPolicy(kept),
                cleanup_tmp_directories=True,
            )
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        with self._stack:
            try:
                self.wait()
            finally:
                with as_machine_errors():
                    self._orbax.close()

    @property
    def latest_step(self) -> int | None:
        return None if self._orbax.latest is None else self._orbax.latest.step

    def best_metric(self) -> float | None:
        """Best dev metric among the checkpoints kept; None if none has one."""
        values = [c.metrics["best_metric"] for c in self._orbax.checkpoints if c.metrics]
        return max(values) if values else None

    def save(
        self,
        step: int,
        params: Params,
        opt_state: Any,
        *,
        data: dict[str, Any],
        config: dict[str, Any],
        best_metric: float | None,
    ) -> None:
        """Start saving in the background; the arrays are copied off the devices before this returns."""
        if step == self.latest_step:
            return
        # Orbax waits for the save before, too.
        self.wait()
        with as_machine_errors():
            self._orbax.save_checkpointables_async(
                step,
                {"params": params, "opt_state": opt_state},
                metrics=None if best_metric is None else {"best_metric": best_metric},
                custom_metadata={"data": data, "config": config},
                force=True,
            )
        self._unchecked = step

    def wait(self) -> None:
        """Wait until everything saved so far is on disk.

        Raises:
          MachineError: the disk is full or read-only, or what was saved cannot be read again.
        """
        step, self._unchecked = self._unchecked, None
        with as_machine_errors():
            self._orbax.wait()
        if step is not None and jax.process_index() == 0:
            check_merged(self._folder / str(step))

    def restore(self, params: Params, opt_state: Any) -> tuple[Params, Any, dict[str, Any], int]:
        """Restore the newest checkpoint, sharded as the abstract trees (`jax.ShapeDtypeStruct`s) state.

        Returns:
          params, opt_state, the position of the data loader, and the step.
        """
        step = self.latest_step
        assert step is not None, "no checkpoint to restore"
        found = self._orbax.load_checkpointables(step, {"params": params, "opt_state": opt_state})
        metadata: Any = self._orbax.checkpointables_metadata(step).custom_metadata
        return found["params"], found["opt_state"], metadata["data"], step


def check_merged(checkpoint: Path) -> None:
    """Check that a checkpoint can be read: where its arrays were not merged, Orbax logs a warning and goes on.

    Raises:
      MachineError: they were not.
    """
    for part in ("params", "opt_state"):
        names = os.listdir(checkpoint / part)
        if any(name.startswith("ocdbt.process_") for name in names) and "manifest.ocdbt" not in names:
            raise MachineError(
                f"{checkpoint / part} was saved without manifest.ocdbt and cannot be read again; name a run folder on "
                "another disk, or with a plain path"
            )


DISK_TROUBLE = ("No space left", "Disk quota", "Read-only file system", "Permission denied", "RESOURCE_EXHAUSTED")


def _no_disk_trouble(record: logging.LogRecord) -> bool:
    """Log filter against tracebacks of a full disk: every Orbax thread logs one, and `wait` raises the error anyway."""
    if not record.exc_info:
        return True
    text = "".join(traceback.format_exception(*record.exc_info))
    return not any(words in text for words in DISK_TROUBLE)


logging.getLogger("absl").addFilter(_no_disk_trouble)


@contextlib.contextmanager
def as_machine_errors() -> Iterator[None]:
    """Turn disk errors of Orbax and tensorstore, which are of many types, into MachineError by their text.

    Raises:
      MachineError: for a full or read-only disk.
    """
    try:
        yield
    except Exception as error:
        trouble = [words for words in DISK_TROUBLE if words in str(error)]
        if not trouble:
            raise
        raise MachineError(
            f"a checkpoint cannot be written: {trouble[0]}; the last complete one is kept; "
            "free space, and the same command resumes from it"
        ) from error


def _best_metric(metrics: Any) -> float:
    return metrics["best_metric"]


@contextlib.contextmanager
def _reader(run: Path) -> Iterator[Any]:
    if not (run / "checkpoints").is_dir():
        raise ConfigError(f"run {run} has no checkpoints/ folder; train it first, or name another run")
    with plain_path(run / "checkpoints") as path, contextlib.closing(ocp.training.Checkpointer(path)) as checkpointer:
        yield checkpointer


def find_step(run: Path, which: Which = "last") -> int:
    """Step of a checkpoint of a run, without loading it.

    Args:
      which: "last", "best" (by dev metric), or a step, which must be among those kept.

    Raises:
      ConfigError: the run has no such checkpoint.
    """
    with _reader(run) as checkpointer:
        return _choose(run, checkpointer.checkpoints, which)


def load_params(run: Path, which: Which = "last") -> tuple[Params, int]:
    """Load the parameters of one checkpoint as host arrays, and its step; not the optimizer state.

    Raises:
      ConfigError: as `find_step`.
    """
    with _reader(run) as checkpointer:
        step = _choose(run, checkpointer.checkpoints, which)
        metadata = checkpointer.checkpointables_metadata(step).metadata["params"]
        abstract = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), metadata)
        return checkpointer.load_checkpointables(step, {"params": abstract})["params"], step


def _choose(run: Path, checkpoints: Any, which: Which) -> int:
    steps = [c.step for c in checkpoints]
    if not steps:
        raise ConfigError(f"run {run} has no finished checkpoint yet; let it train to its first save")
    if which == "last":
        return steps[-1]
    if which == "best":
        scored = [c for c in checkpoints if c.metrics]
        if not scored:
            raise ConfigError(f"run {run} has no checkpoint with a dev metric; use --checkpoint last")
        # Of ties the later one, which was trained on more pairs.
        return max(scored, key=lambda c: (_best_metric(c.metrics), c.step)).step
    if which not in steps:
        raise ConfigError(f"run {run} has no checkpoint {which}; it has {', '.join(map(str, steps))}")
    return which

"""The training loop: run steps, log metrics, evaluate, save checkpoints, stop on signals."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import jax

from optical_jax.config import Config, ImageStageConfig, TeacherStageConfig, to_json
from optical_jax.data.batches.iterator import Batches
from optical_jax.errors import Interrupted, NonFiniteLossError
from optical_jax.params import fingerprint
from optical_jax.partitioning import named_sharding
from optical_jax.progress import ProgressReport
from optical_jax.runs.checkpoint import Checkpoints
from optical_jax.runs.metrics import MetricsWriter
from optical_jax.training.state import TrainState
from optical_jax.types import Metrics, Params

DevMetrics = dict[str, dict[str, float]]
"""Language -> metric -> value."""


@dataclass
class Window:
    """Sums of step metrics since the last line of metrics.jsonl."""

    began: float = field(default_factory=time.monotonic)
    steps: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    input_seconds: float = 0.0
    """Spent waiting for batches."""

    def add(self, step: int, metrics: Metrics) -> None:
        """Read one step's metrics off the device.

        Raises:
          NonFiniteLossError: loss, gradient or parameters are not finite.
        """
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        for name in ("loss", "grad_norm", "param_norm"):
            if not math.isfinite(values[name]):
                raise NonFiniteLossError(
                    f"{name} is {values[name]} at step {step}; the last checkpoint is kept; "
                    "look at the data around this step, or lower optimizer.peak_lr in another --run"
                )
        self.steps += 1
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def record(self, pairs: int) -> dict[str, float]:
        """Means over the window, and rates a second."""
        seconds = time.monotonic() - self.began
        means = {name: total / self.steps for name, total in self.sums.items() if name != "real_tokens"}
        return means | {
            "pairs_per_second": self.steps * pairs / seconds,
            "input_share": self.input_seconds / seconds,
            "real_tokens_per_second": self.sums["real_tokens"] / seconds,
        }


def train(
    cfg: Config | TeacherStageConfig | ImageStageConfig,
    state: TrainState,
    train_step: Callable[[TrainState, Any], tuple[TrainState, Metrics]],
    loader: Batches,
    start: int,
    *,
    mesh: jax.sharding.Mesh,
    learning_rate: Callable[[int], Any],
    evaluate: Callable[[Params], DevMetrics],
    checkpoints: Checkpoints,
    writer: MetricsWriter,
) -> TrainState:
    """Run steps `start` + 1 to `cfg.training.steps`.

    `train_step` takes a state, which it consumes, and one of the loader's batches on the devices.

    Raises:
      NonFiniteLossError: nothing after the last good checkpoint is saved.
      Interrupted: SIGINT or SIGTERM came; the state was saved first.
    """
    settings, steps = cfg.training, cfg.training.steps
    sharding, config, best = named_sharding(mesh, ("batch",)), to_json(cfg), checkpoints.best_metric()
    window, unread = Window(), None

    def save(step: int, figure: float | None = None) -> None:
        checkpoints.save(step, state.params, state.opt_state, data=loader.state(), config=config, best_metric=figure)

    if steps == 0:
        # A student that is complete as it starts: the run has a checkpoint all the same.
        save(0)
    with ProgressReport("training", steps, "steps", done=start) as progress, catch_signals() as caught:
        if start < steps:
            progress.say("compiling: the first step of each shape of batch takes longer, and Ctrl-C waits for it")
        for step in range(start + 1, steps + 1):
            began = time.monotonic()
            rows = next(loader)
            window.input_seconds += time.monotonic() - began
            batch = put(rows, sharding)
            state, metrics = train_step(state, batch)
            # Read one step late: the device works on this step while the host reads the last one's metrics.
            if unread is not None:
                window.add(*unread)
            unread = (step, metrics)

            is_last = step == steps
            at_log = is_last or step % settings.log_every == 0
            at_dev = is_last or (settings.dev_every > 0 and step % settings.dev_every == 0)
            at_save = is_last or step % cfg.checkpoint.every == 0
            # Read once: whether this step saves and whether it is the last one must agree.
            stopping = bool(caught)
            if at_log or at_dev or at_save or stopping:
                window.add(*unread)
                unread = None
            if at_log:
                record = {"step": step, "learning_rate": float(learning_rate(step - 1))}
                record |= window.record(cfg.data.global_batch)
                writer.write(record)
                progress.say(log_line(record, steps, progress))
                window = Window()
            figure = None
            if at_dev:
                began = time.monotonic()
                dev = evaluate(state.params)
                if dev:
                    figure = sum(figures[cfg.checkpoint.best_metric] for figures in dev.values()) / len(dev)
                    writer.write({"step": step, "dev": dev, "dev_seconds": time.monotonic() - began})
                    for line in dev_lines(step, dev, cfg.checkpoint.best_metric):
                        progress.say(line)
                window.began += time.monotonic() - began
            if (
                at_save
                or stopping
                or (figure is not None and cfg.checkpoint.keep_best and (best is None or figure > best))
            ):
                save(step, figure)
            if figure is not None:
                best = figure if best is None else max(best, figure)
            progress.advance()
            if stopping and not is_last:
                raise Interrupted(
                    f"stopped by {caught[0]} after saving step {step} of {steps}; the same command goes on from there"
                )
    checkpoints.wait()
    writer.write({"step": steps, "params_sha256": fingerprint(state.params)})
    return state


def put(batch: Any, sharding: jax.sharding.NamedSharding) -> Any:
    """Put this process's rows of a batch (NumPy arrays) on the devices, as global arrays."""
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), batch)


@contextmanager
def catch_signals() -> Iterator[list[str]]:
    """Collect SIGINT and SIGTERM by name, to be handled between two steps; a second signal acts at once."""
    caught: list[str] = []

    def note(number: int, frame: Any) -> None:
        caught.append(signal.Signals(number).name)
        for each, handler in before.items():
            signal.signal(each, handler)
        # Not print: the signal may have come in the middle of one. Nobody may be there to read it either: Ctrl-C has
        # stopped the tee behind a pipe too, and the save must come all the same.
        with suppress(OSError):
            after_echo = "\n" if os.isatty(2) else ""
            os.write(2, f"{after_echo}{caught[-1]}: saves after this step; once more stops without saving\n".encode())

    before = {each: signal.signal(each, note) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def log_line(record: dict[str, Any], steps: int, progress: ProgressReport) -> str:
    return (
        f"step {record['step']:>6}/{steps}  loss {record['loss']:.4f}  lr {record['learning_rate']:.1e}  "
        f"{record['pairs_per_second']:.1f} pairs/s{progress.eta_of_line('  ')}"
    )


LANGUAGES_A_LINE = 5
"""As many as 80 columns hold."""


def mean_metrics(dev: DevMetrics) -> dict[str, float]:
    """Metric -> its mean over languages."""
    names = next(iter(dev.values()))
    return {name: sum(figures[name] for figures in dev.values()) / len(dev) for name in names}


def dev_lines(step: int, dev: DevMetrics, metric: str) -> list[str]:
    """Log lines of dev metrics: all of one language, or means and one `metric` per language."""
    head = f"step {step:>6}  dev  "
    name, figures = next(iter(dev.items())) if len(dev) == 1 else (f"mean of {len(dev)}", mean_metrics(dev))
    lines = [f"{head}{name} " + " ".join(f"{each} {value:.3f}" for each, value in figures.items())]
    if len(dev) > 1:
        each = [f"{lang} {figures[metric]:.3f}" for lang, figures in dev.items()]
        for first in range(0, len(each), LANGUAGES_A_LINE):
            part = "  ".join(each[first : first + LANGUAGES_A_LINE])
            lines.append(" " * len(head) + f"{metric}  {part}")
    return lines

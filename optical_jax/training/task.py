"""What every training does around its own data and step: the command line, the run folder, the checkpoint to go on
from, the loop."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from optical_jax.errors import ConfigError, Interrupted

if TYPE_CHECKING:
    from optical_jax.data.batches.iterator import Batches
    from optical_jax.params import SpecTree
    from optical_jax.runs.checkpoint import Checkpoints
    from optical_jax.runs.folder import RunConfig, RunFolder
    from optical_jax.training.optimizer import AnyFrozen
    from optical_jax.training.state import TrainState
    from optical_jax.types import Params

Settings = TypeVar("Settings", bound="RunConfig")
Parts = TypeVar("Parts", bound=Any)
"""What a run is made of, read and checked; has `inputs`, by kind the sha256 of its files."""


def run_in_folder(
    cfg: Settings,
    *,
    prepare: Callable[[Settings, RunFolder | None], Parts],
    begin: Callable[[Settings, RunFolder, Parts], None],
    train: Callable[[Settings, RunFolder, Parts], None],
) -> Parts | None:
    """Train, resume, or report a finished run: whatever the run folder calls for.

    Args:
      cfg: the run's settings.
      prepare: reads data and models, those of a run that is resumed from its folder.
      begin: writes what makes the folder a run.
      train: runs to the last step.

    Returns:
      What was prepared; None where the run was finished already.
    """
    from optical_jax.runs.folder import RunFolder

    folder = RunFolder(Path(cfg.run))
    # Schedulers stop with SIGTERM: outside the loop, which saves first, it ends a start as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with folder.lock():
        folder.keep_compiled()
        resumed = folder.holds_run_of(cfg)
        done = folder.finished()
        if done is not None and done["step"] >= cfg.training.steps:
            folder.save_licences(cfg)
            say(f"{cfg.run} is finished: {done['step']} steps, params_sha256 {done['params_sha256']}")
            say_result(folder)
            say_curves(folder, again=False)
            return None
        parts = prepare(cfg, folder if resumed else None)
        if resumed:
            folder.resume(cfg, parts.inputs)
        else:
            begin(cfg, folder, parts)
        try:
            train(cfg, folder, parts)
        except Interrupted:
            say_curves(folder)
            raise
        say_result(folder)
        say_curves(folder)
    return parts


def first_state(
    cfg: RunConfig,
    checkpoints: Checkpoints,
    params: Params,
    specs: SpecTree,
    mesh: Any,
    tx: Any,
    frozen: AnyFrozen,
    loader: Batches,
) -> tuple[TrainState, int]:
    """The state to go on from and its step: of the newest checkpoint, which also moves the loader, or a fresh one.

    Raises:
      ConfigError: the run is further than it is to go.
    """
    from optical_jax.training.state import TrainState, abstract_train_state, init_train_state

    if checkpoints.latest_step is None:
        return init_train_state(params, specs, mesh, tx, frozen), 0
    abstract = abstract_train_state(specs, mesh, tx, frozen)
    restored, opt_state, position, start = checkpoints.restore(abstract.params, abstract.opt_state)
    loader.restore(position)
    say(f"resuming {cfg.run} at step {start} of {cfg.training.steps}")
    if start > cfg.training.steps:
        raise ConfigError(
            f"training.steps={cfg.training.steps} is less than {cfg.run} has behind it; give at least {start}"
        )
    return TrainState(restored, opt_state), start


def loop(
    cfg: RunConfig,
    folder: RunFolder,
    state: TrainState,
    train_step: Callable[[TrainState, Any], Any],
    loader: Batches,
    start: int,
    *,
    mesh: Any,
    evaluate: Callable[[Params], Any],
    checkpoints: Checkpoints,
) -> None:
    """Dev figures before the first step, then all steps, on the record."""
    from optical_jax.config import to_json
    from optical_jax.runs.metrics import MetricsWriter, cut_after, open_mirror
    from optical_jax.training.loop import dev_lines, train
    from optical_jax.training.optimizer import learning_rate

    # Before the first checkpoint a run begins anew, its first dev line included.
    cut_after(folder.metrics, start if start else -1)
    writer = MetricsWriter(folder.metrics, open_mirror(cfg.training.tracker, folder.path, to_json(cfg)))
    try:
        if start == 0 and (dev := evaluate(state.params)):
            writer.write({"step": 0, "dev": dev})
            for line in dev_lines(0, dev, cfg.checkpoint.best_metric):
                print(line, file=sys.stderr, flush=True)
        train(
            cfg,
            state,
            train_step,
            loader,
            start,
            mesh=mesh,
            learning_rate=learning_rate(cfg.optimizer, cfg.training.steps),
            evaluate=evaluate,
            checkpoints=checkpoints,
            writer=writer,
        )
    finally:
        writer.close()


def say(line: str) -> None:
    print(line, flush=True)


def say_result(folder: RunFolder) -> None:
    """The dev figures before and after training, a line a language."""
    from optical_jax.runs.metrics import read_metrics
    from optical_jax.training.loop import mean_figures

    lines = [record for record in read_metrics(folder.metrics) if "dev" in record]
    if len(lines) < 2:
        return
    before, after = lines[0]["dev"], lines[-1]["dev"]
    if len(after) > 1:
        before, after = before | {"mean": mean_figures(before)}, after | {"mean": mean_figures(after)}
    say(f"dev, step {lines[0]['step']} -> {lines[-1]['step']}:")
    width = max(map(len, after))
    for language, figures in after.items():
        old = before.get(language, {})
        told = (f"{name} {old.get(name, float('nan')):.3f} -> {value:.3f}" for name, value in figures.items())
        say(f"  {language:<{width}}  " + "  ".join(told))


def say_curves(folder: RunFolder, *, again: bool = True) -> None:
    """Draw the run's curves, and tell where; `again` draws them though they are there."""
    from optical_jax.plots.curves import draw_training, try_to_draw
    from optical_jax.runs.metrics import read_metrics

    path = folder.path / "curves.png"
    if (path.is_file() and not again) or try_to_draw(draw_training, read_metrics(folder.metrics), path):
        say(f"curves: {path}")

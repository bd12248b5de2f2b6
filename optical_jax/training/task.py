"""One training of any model: `prepare` it, then train it in a run folder, or report what it would cost (dry_run.py).

Each training (student, teacher, image-text teacher) is a function `prepare(cfg, folder) -> Prepared`.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import optax
from jax.sharding import Mesh

from optical_jax.config import expand_path, to_json
from optical_jax.data.batches.iterator import Batches
from optical_jax.data.text.code_switch import Lexicon
from optical_jax.errors import ConfigError, Interrupted
from optical_jax.files import read_if_present
from optical_jax.models.attention import check_platform
from optical_jax.models.formats.finding import find_folder
from optical_jax.params import SpecTree
from optical_jax.partitioning import check_divisible, make_mesh, platform
from optical_jax.printing import printable_lines
from optical_jax.runs.checkpoint import Checkpoints
from optical_jax.runs.folder import Inputs, RunConfig, RunFolder
from optical_jax.runs.load import model_files
from optical_jax.runs.metrics import MetricsWriter, cut_after, open_mirror, read_metrics
from optical_jax.training.loop import DevMetrics, dev_lines, mean_metrics
from optical_jax.training.loop import train as run_steps
from optical_jax.training.optimizer import AnyFrozen, learning_rate
from optical_jax.training.state import TrainState, abstract_train_state, init_train_state
from optical_jax.training.step import TrainStep
from optical_jax.types import Params

if TYPE_CHECKING:
    from optical_jax.towers.pair import TowerPair
    from optical_jax.towers.tower import Tower
    from optical_jax.training.estimate import RunCost


@dataclass
class Prepared:
    """A training that is read and checked, before anything compiles."""

    mesh: Mesh
    loader: Batches
    epoch_size: int
    """Batches of one epoch."""
    params: Params
    """All parameters of the state as they start, on the host."""
    specs: SpecTree
    tx: optax.GradientTransformation
    frozen: AnyFrozen
    step: TrainStep
    constants: tuple[Any, ...]
    """What the step takes between state and batch: a teacher's parameters, on the devices."""
    evaluate: Callable[[Params], DevMetrics]
    """Dev metrics of the parameters."""
    models: Mapping[str, Tower | TowerPair]
    """By folder of the run, the models as they start: "teacher", "student", "model"."""
    inputs: Inputs
    """By kind, path -> sha256 of every input file."""
    records: Mapping[str, Any]
    """File name -> what the run folder records of the data, as JSON."""
    cost: Callable[[], RunCost] | None
    """What a dry run reports beside what it measures; called by nothing else."""
    next_commands: Sequence[str]
    """What to run once the training is done."""
    references: Mapping[str, str] = field(default_factory=dict)
    """Models that the run folder refers to by path, instead of a copy."""
    lexicons: Mapping[str, Lexicon] = field(default_factory=dict)
    """By language, what data.code_switch replaces."""
    fill_caches: Callable[[int], None] | None = None
    """f(first step): computes vectors that the loader then reads. Called once the state is on the devices."""

    def release(self) -> None:
        """Free the host's copies of the weights, once the devices hold the state."""
        self.params, self.models, self.cost = {}, {}, None


def train(cfg: RunConfig, prepare: Callable[[Any, RunFolder | None], Prepared]) -> None:
    """Train, resume, or report a finished run, as its folder requires.

    Args:
      cfg: the run's settings.
      prepare: f(cfg, folder), which reads data and models; those of a resumed run from its folder, None for a new run.
    """
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
            return
        prepared = prepare(cfg, folder if resumed else None)
        if resumed:
            folder.resume(cfg, prepared.inputs)
        else:
            begin(cfg, folder, prepared)
        try:
            train_prepared(cfg, folder, prepared)
        except Interrupted:
            say_curves(folder)
            raise
        say_result(folder)
        say_curves(folder)
    say("next: " + "\n      ".join(prepared.next_commands))


def begin(cfg: RunConfig, folder: RunFolder, prepared: Prepared) -> None:
    """Write what makes the folder a run: models as they start, hashes of all inputs, what became of the data."""
    folder.begin(
        cfg,
        prepared.models,
        prepared.inputs,
        prepared.records,
        references=prepared.references,
        lexicons=prepared.lexicons,
    )


def train_prepared(cfg: RunConfig, folder: RunFolder, prepared: Prepared) -> None:
    """Compile, restore the newest checkpoint, evaluate before the first step, run all steps."""
    steps = cfg.training.steps
    with jax.set_mesh(prepared.mesh), Checkpoints(folder.checkpoints, cfg.checkpoint) as checkpoints:
        state, start = first_state(cfg, checkpoints, prepared)
        prepared.release()
        if prepared.fill_caches is not None:
            prepared.fill_caches(start)
            prepared.fill_caches = None
        # Before the first checkpoint a run begins anew, its first dev line included.
        cut_after(folder.metrics, start if start else -1)
        writer = MetricsWriter(folder.metrics, open_mirror(cfg.training.tracker, folder.path, to_json(cfg)))
        try:
            if start == 0 and (dev := prepared.evaluate(state.params)):
                writer.write({"step": 0, "dev": dev})
                for line in dev_lines(0, dev, cfg.checkpoint.best_metric):
                    print(line, file=sys.stderr, flush=True)
            run_steps(
                cfg,
                state,
                lambda state, batch: prepared.step(state, *prepared.constants, batch),
                prepared.loader,
                start,
                mesh=prepared.mesh,
                learning_rate=learning_rate(cfg.optimizer, steps),
                evaluate=prepared.evaluate,
                checkpoints=checkpoints,
                writer=writer,
            )
        finally:
            writer.close()


def first_state(cfg: RunConfig, checkpoints: Checkpoints, prepared: Prepared) -> tuple[TrainState, int]:
    """The state to start from and its step: of the newest checkpoint, which also moves the loader, or a new one.

    Raises:
      ConfigError: the run is further than training.steps.
    """
    specs, mesh, tx, frozen = prepared.specs, prepared.mesh, prepared.tx, prepared.frozen
    if checkpoints.latest_step is None:
        return init_train_state(prepared.params, specs, mesh, tx, frozen), 0
    abstract = abstract_train_state(specs, mesh, tx, frozen)
    params, opt_state, position, start = checkpoints.restore(abstract.params, abstract.opt_state)
    prepared.loader.restore(position)
    say(f"resuming {cfg.run} at step {start} of {cfg.training.steps}")
    if start > cfg.training.steps:
        raise ConfigError(
            f"training.steps={cfg.training.steps} is less than {cfg.run} has behind it; give at least {start}"
        )
    return TrainState(params, opt_state), start


def checked_mesh(cfg: RunConfig, *names: str) -> Mesh:
    """The mesh of a run, once the batch divides over it and each `name.attention` exists on these devices.

    Raises:
      ConfigError: names the setting, its value and the remedy.
    """
    mesh = make_mesh(cfg.mesh)
    check_divisible(cfg, mesh)
    for name in names:
        check_platform(getattr(cfg, name).attention, platform(), f"{name}.attention")
    return mesh


def model_inputs(cfg: RunConfig, folder: RunFolder | None, *names: str) -> Inputs:
    """Files of the models from outside, by setting; on a resume only where `name.path` has changed."""
    before, found = folder.saved_config() if folder else None, {}
    for name in names:
        path = getattr(cfg, name).path
        if path and (before is None or before[name]["path"] != path):
            found[f"{name}.path"] = model_files(find_folder(expand_path(path, f"{name}.path"), cfg.cache_dir or None))
    return found


def say(line: str) -> None:
    print(printable_lines(line), flush=True)


def say_result(folder: RunFolder) -> None:
    """Print dev metrics before and after training, a line a language."""
    lines = [record for record in read_metrics(folder.metrics) if "dev" in record]
    if len(lines) < 2:
        return
    before, after = lines[0]["dev"], lines[-1]["dev"]
    if len(after) > 1:
        before, after = before | {"mean": mean_metrics(before)}, after | {"mean": mean_metrics(after)}
    say(f"dev, step {lines[0]['step']} -> {lines[-1]['step']}:")
    width = max(map(len, after))
    for language, metrics in after.items():
        old = before.get(language, {})
        changes = (f"{name} {old.get(name, float('nan')):.3f} -> {value:.3f}" for name, value in metrics.items())
        say(f"  {language:<{width}}  " + "  ".join(changes))
    bitext = read_if_present(folder.path / "bitext.json")
    if bitext and any(report.get("same_texts") for report in bitext["dev"]):
        say(
            "  these dev pairs are lines of the training's own texts, so other texts will have lower metrics: name "
            "others with --data.dev, or hold out whole documents with --data.dev-by document"
        )


def say_curves(folder: RunFolder, *, again: bool = True) -> None:
    """Draw the run's curves and print the file's path; `again` draws them even if the file exists."""
    from optical_jax.plots.curves import draw_training, try_to_draw

    path = folder.path / "curves.png"
    if (path.is_file() and not again) or try_to_draw(draw_training, read_metrics(folder.metrics), path):
        say(f"curves: {path}")

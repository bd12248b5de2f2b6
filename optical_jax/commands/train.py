"""`train.py`: from bitext files and an English retriever to a student's checkpoints."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optical_jax.commands.curves import draw_training_curves
from optical_jax.commands.doors import add_xla_flag, open_door, refuse_no_flags
from optical_jax.commands.settings import parse_train_command
from optical_jax.config import Config, expand_path
from optical_jax.errors import ConfigError, Interrupted
from optical_jax.metrics_writer import check_tracker
from optical_jax.validation import validate

if TYPE_CHECKING:
    from optical_jax.data.bitext import Bitext, BitextSplits
    from optical_jax.data.loader import Loader
    from optical_jax.run_folder import RunFolder
    from optical_jax.towers import Tower
    from optical_jax.types import Params


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Returns the exit code."""
    return open_door(lambda: run_command(sys.argv[1:] if argv is None else argv))


EXAMPLE = "python train.py --config configs/tiny.py --run runs/tiny"


def run_command(argv: Sequence[str]) -> None:
    refuse_no_flags(argv, "name a config, and a folder for the run", EXAMPLE)
    command = parse_train_command(argv)
    cfg = command.settings
    validate(cfg, needs_run=not command.dry_run)
    check_tracker(cfg.training.tracker)
    if cfg.training.deterministic:
        add_xla_flag("--xla_gpu_deterministic_ops=true")
    if command.dry_run:
        from optical_jax.commands.dry_run import dry_run

        dry_run(cfg, prepare(cfg, None))
    else:
        train_run(cfg)


def train_run(cfg: Config) -> None:
    """Train, resume, or report a finished run: whatever the run folder calls for."""
    from optical_jax.run_folder import RunFolder

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
        parts = prepare(cfg, folder if resumed else None)
        if resumed:
            folder.resume(cfg, parts.inputs)
        else:
            folder.begin(cfg, parts.teacher, parts.student, parts.inputs, parts.report)
        try:
            train_prepared(cfg, folder, parts)
        except Interrupted:
            say_curves(folder)
            raise
        say_result(folder)
        say_curves(folder)
    languages = " ".join(parts.languages)
    say(f"next: python eval.py --run {shlex.quote(cfg.run)} --collection DIR --lang {languages}")


@dataclass
class Parts:
    """What a run is made of, read and checked, before anything compiles."""

    mesh: Any
    languages: list[str]
    dev: Mapping[str, Bitext]
    teacher: Tower
    student: Tower
    loader: Loader
    inputs: dict[str, dict[str, str]]
    """By kind, path -> sha256 of every input file."""
    report: dict[str, Any]
    """What became of every line of the bitext, by split."""

    def leave_weights(self) -> None:
        """Let the host forget the towers' weights, once the devices hold them."""
        self.teacher, self.student = replace(self.teacher, params={}), replace(self.student, params={})


def prepare(cfg: Config, folder: RunFolder | None) -> Parts:
    """Read data and models; those of a run that is resumed come from its folder. Nothing is written.

    Raises:
      ConfigError, DataError: what cannot be, by name.
    """
    import jax

    from optical_jax.data.bitext import load_bitext
    from optical_jax.data.loader import make_loader
    from optical_jax.data.pairs import TokenSide, tokenize_pairs
    from optical_jax.data.report import report_lines
    from optical_jax.models.attention import check_platform, platform
    from optical_jax.partitioning import batch_shards, check_divisible, make_mesh
    from optical_jax.student import load_teacher, make_student
    from optical_jax.towers import load
    from optical_jax.training.step import check_attention

    mesh = make_mesh(cfg.mesh)
    check_divisible(cfg, mesh)
    for name in ("student", "teacher"):
        check_platform(getattr(cfg, name).attention, platform(), f"{name}.attention")
    splits = load_bitext(cfg.data)
    inputs = {"bitext": bitext_files(splits)} | model_inputs(cfg, folder.saved_config() if folder else None)
    if folder is not None:
        teacher = load(folder.path, side="document", cache_dir=cfg.cache_dir or None)
        student = load(folder.path, checkpoint="untrained")
    else:
        teacher = load_teacher(cfg)
        student = make_student(cfg, teacher, splits.train)

    student_side = TokenSide(student.tokenizer, student.cfg.head, cfg.student.max_length)
    teacher_side = TokenSide(teacher.tokenizer, teacher.cfg.head, cfg.teacher.max_length)
    pairs = {language: tokenize_pairs(one, student_side, teacher_side) for language, one in splits.train.items()}
    for one in splits.dev.values():
        tokenize_pairs(one, student_side, teacher_side)
    reports = {"train": [b.report for b in splits.train.values()], "dev": [b.report for b in splits.dev.values()]}
    for line in report_lines(reports):
        say(line)
    loader = make_loader(
        pairs,
        cfg.data,
        cfg.seed,
        idf=cfg.loss.ot.masses == "idf",
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        shards=batch_shards(mesh),
        parts=cfg.training.accumulate,
    )
    check_attention(cfg, student.cfg, teacher.cfg, loader.layout.row_lengths)
    report = {split: [one.as_json() for one in each] for split, each in reports.items()}
    return Parts(mesh, list(splits.train), splits.dev, teacher, student, loader, inputs, report)


def bitext_files(splits: BitextSplits) -> dict[str, str]:
    """Path -> sha256 of every file of the bitext."""
    return {file.path: file.sha256 for one in (*splits.train.values(), *splits.dev.values()) for file in one.files}


def model_inputs(cfg: Config, before: Mapping[str, Any] | None) -> dict[str, dict[str, str]]:
    """Files of teacher and student, by setting; on a resume only where the path is another one than `before`."""
    from optical_jax.models.pretrained import find_folder
    from optical_jax.references import model_files

    found = {}
    for name, path in (("teacher", cfg.teacher.path), ("student", cfg.student.path)):
        if path and (before is None or before[name]["path"] != path):
            folder = find_folder(expand_path(path, f"{name}.path"), cfg.cache_dir or None)
            found[f"{name}.path"] = model_files(folder)
    return found


def train_prepared(cfg: Config, folder: RunFolder, parts: Parts) -> None:
    """Compile, restore, loop."""
    import jax

    from optical_jax.checkpoint import Checkpoints
    from optical_jax.config import to_json
    from optical_jax.metrics_writer import MetricsWriter, cut_after, open_mirror
    from optical_jax.models.late_interaction import tower_specs
    from optical_jax.partitioning import params_shardings
    from optical_jax.training.loop import dev_lines, train
    from optical_jax.training.optimizer import learning_rate, make_optimizer
    from optical_jax.training.step import TrainState, abstract_train_state, init_train_state, make_train_step
    from optical_jax.training.teacher_cache import use_teacher_cache

    mesh, student, teacher, loader = parts.mesh, parts.student.cfg, parts.teacher.cfg, parts.loader
    tx = make_optimizer(cfg.optimizer, cfg.training.steps, fix_positions=not cfg.student.word_order)
    with jax.set_mesh(mesh), Checkpoints(folder.checkpoints, cfg.checkpoint) as checkpoints:
        train_step = make_train_step(cfg, student, teacher, mesh, tx)
        teacher_params = jax.device_put(parts.teacher.params, params_shardings(tower_specs(teacher), mesh))
        start = 0
        if checkpoints.latest_step is None:
            state = init_train_state(parts.student.params, student, mesh, tx)
        else:
            abstract = abstract_train_state(student, mesh, tx)
            params, opt_state, position, start = checkpoints.restore(abstract.params, abstract.opt_state)
            state = TrainState(params, opt_state)
            loader.restore(position)
            say(f"resuming {cfg.run} at step {start} of {cfg.training.steps}")
            if start > cfg.training.steps:
                raise ConfigError(
                    f"training.steps={cfg.training.steps} is less than {cfg.run} has behind it; give at least {start}"
                )
        parts.leave_weights()
        use_teacher_cache(
            cfg.teacher,
            teacher_params,
            teacher,
            loader,
            (start, cfg.training.steps),
            cfg.data.global_batch,
            mesh,
            say,
        )
        # Before the first checkpoint a run begins anew, its first dev line included.
        cut_after(folder.metrics, start if start else -1)
        evaluate = dev_evaluation(parts, teacher_params)
        writer = MetricsWriter(folder.metrics, open_mirror(cfg.training.tracker, folder.path, to_json(cfg)))
        try:
            if start == 0 and parts.dev:
                dev = evaluate(state.params)
                writer.write({"step": 0, "dev": dev})
                for line in dev_lines(0, dev, cfg.checkpoint.best_metric):
                    print(line, file=sys.stderr, flush=True)
            train(
                cfg,
                state,
                teacher_params,
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


def dev_evaluation(parts: Parts, teacher_params: Params) -> Any:
    """Dev retrieval as a function of the student's parameters."""
    from optical_jax.evaluation.parallel import make_dev_evaluation
    from optical_jax.towers import encode

    return make_dev_evaluation(
        {language: (one.english, one.foreign) for language, one in parts.dev.items()},
        lambda params, texts: encode(replace(parts.student, params=params), texts),
        lambda texts: encode(replace(parts.teacher, params=teacher_params), texts),
    )


def say(line: str) -> None:
    print(line, flush=True)


def say_result(folder: RunFolder) -> None:
    """The dev figures before and after training, a line a language."""
    from optical_jax.metrics_writer import read_metrics
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
    path = folder.path / "curves.png"
    if (path.is_file() and not again) or draw_training_curves(folder.path):
        say(f"curves: {path}")

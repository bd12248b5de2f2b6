"""`python -m optical_jax study` from a file to its page: resuming, repeating, signals, and every study in configs/."""

import contextlib
import csv
import json
import os
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import jax
import pytest

from optical_jax.commands.settings import TrainCommand, parse_command
from optical_jax.commands.study import load_study, main
from optical_jax.files import locked
from optical_jax.models.late_interaction import tower_specs
from optical_jax.partitioning import make_mesh, named_sharding, params_shardings
from optical_jax.studies.folders import FAILED
from optical_jax.training.loop import put
from optical_jax.training.optimizer import make_optimizer
from optical_jax.training.state import init_train_state
from optical_jax.training.step import make_train_step
from optical_jax.training.student.task import prepare
from tests import ROOT
from tests.helpers.processes import begun, wait_until

STUDY = """
import sys
from dataclasses import replace

sys.path[:0] = [{studies!r}, {configs!r}]
import tiny_losses


def shorter(config):
    saves = replace(config.checkpoint, every={every}, keep_best=False)
    training = replace(config.training, steps={steps}, log_every=2, dev_every={steps})
    optimizer = replace(config.optimizer, weight_decay={decay})
    return replace(config, training=training, checkpoint=saves, optimizer=optimizer)


def get_study():
    study = tiny_losses.get_study()
    arms = (replace(a, trials={{name: shorter(c) for name, c in a.trials.items()}}) for a in study.arms[-{arms}:])
    return replace(study, arms=tuple(arms), folder={folder!r}, seeds=(0,))
"""
FAILING = """

def wild(config):
    return replace(config, optimizer=replace(config.optimizer, peak_lr=1e38, clip_norm=0.0, warmup_steps=0))


of_numbers = get_study


def get_study():
    study = of_numbers()
    arms = (replace(a, trials={"wild": wild(a.trials["lr0.005"]), "lr0.001": a.trials["lr0.001"]}) for a in study.arms)
    return replace(study, arms=tuple(arms), budget="seconds")
"""


def study_file(folder: Path, *, steps: int = 4, every: int = 4, decay: float = 0.01, arms: int = 2) -> str:
    """A study of 4 tuning runs and 2 final ones, of a few steps; of one arm, the one that compiles soonest, half."""
    file = folder.parent / f"{folder.name}-{steps}-{decay}.py"
    studies = ROOT / "configs" / "studies"
    file.write_text(
        STUDY.format(
            studies=str(studies),
            configs=str(studies.parent),
            folder=str(folder),
            steps=steps,
            every=every,
            decay=decay,
            arms=arms,
        )
    )
    return str(file)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """The folder of a study that nobody stopped."""
    folder = tmp_path_factory.mktemp("studies") / "whole"
    assert main([study_file(folder)]) == 0
    return folder


def copied(whole: Path, folder: Path) -> str:
    shutil.copytree(whole, folder, symlinks=True)
    return study_file(folder)


def test_a_study_from_file_to_page(whole):
    with (whole / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["arm"] for row in rows} == {"transport", "pooled_cosine", "untrained", "bm25", "dictionary"}
    assert {row["collection"] for row in rows} == {"collection-dev", "dev", "training"}
    assert {float(row["value"]) for row in rows if row["metric"] == "pairs_seen"} == {4 * 16}
    assert sorted(path.parent.name for path in (whole / "final").glob("*/*/eval")) == ["sw-0", "sw-0"]
    assert "finished: 2 of 2 final runs are done" in (whole / "report.html").read_text()


def test_again_trains_nothing(whole, tmp_path, capsys):
    file = copied(whole, tmp_path / "again")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "again").rglob("metrics.jsonl")}
    assert main([file]) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(before) == 6
    said = capsys.readouterr()
    assert "tuning " not in said.err
    assert "finished: 2 of 2" in said.out
    for name in ("table.csv", "summary.csv", "tests.csv"):
        assert (tmp_path / "again" / name).read_bytes() == (whole / name).read_bytes()


def test_the_same_seeds_give_the_same_table_and_what_is_missing_is_done_again(whole, tmp_path, capsys):
    """Of one run all is gone; another was killed before its evaluation was whole."""
    file = copied(whole, tmp_path / "b")
    shutil.rmtree(tmp_path / "b" / "final" / "transport" / "sw-0")
    cut = tmp_path / "b" / "final" / "pooled_cosine" / "sw-0"
    (cut / "eval" / "collection-dev-pooled" / "metrics.json").unlink()
    trained = (cut / "metrics.jsonl").stat().st_mtime_ns
    assert main([file]) == 0, capsys.readouterr().err
    assert (cut / "metrics.jsonl").stat().st_mtime_ns == trained
    assert (tmp_path / "b" / "table.csv").read_bytes() == (whole / "table.csv").read_bytes()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"decay": 0.02}, "optimizer.weight_decay: 0.01 -> 0.02"),
        ({"steps": 6}, "training.steps=4, but the study has 6"),
    ],
)
def test_other_runs_in_the_folder_are_refused_before_anything_runs(whole, tmp_path, capsys, change, said):
    copied(whole, tmp_path / "c")
    # The last task: the tuning runs before it are looked at too.
    shutil.rmtree(tmp_path / "c" / "tuning" / "transport")
    assert main([study_file(tmp_path / "c", **change)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "pooled_cosine" in error
    assert not (tmp_path / "c" / "tuning" / "transport").exists()


def test_a_trial_whose_loss_is_no_number_is_not_taken(tmp_path, capsys):
    """And with equal seconds the one arm there is keeps its steps."""
    file = Path(study_file(tmp_path / "wild", arms=1))
    file.write_text(file.read_text() + FAILING)
    assert main([str(file)]) == 0, capsys.readouterr().err
    (failed,) = (tmp_path / "wild").rglob(FAILED)
    assert failed.parent == tmp_path / "wild" / "tuning" / "pooled_cosine" / "wild" / "sw"
    assert "is inf at step" in failed.read_text()
    (chosen,) = json.loads((tmp_path / "wild" / "choices.json").read_text())["arms"].values()
    assert (chosen["trial"], chosen["trials"]["wild"], chosen["steps"]) == ("lr0.001", {}, 4)
    page = (tmp_path / "wild" / "report.html").read_text()
    assert "finished: 1 of 1 final runs are done" in page
    assert "as many seconds of steps as the fastest arm needs" in page


def test_a_final_run_whose_loss_was_no_number_is_a_result_and_not_run_again(whole, tmp_path, capsys):
    file = copied(whole, tmp_path / "d")
    (tmp_path / "d" / "final" / "pooled_cosine" / "sw-0" / FAILED).write_text("loss is nan at step 2\n")
    assert main([file]) == 0
    assert "1 of 2 final runs are done, 1 failed" in capsys.readouterr().out
    assert "loss is nan at step 2" in (tmp_path / "d" / "report.html").read_text()
    assert "step 2" in (tmp_path / "d" / "final" / "pooled_cosine" / "sw-0" / FAILED).read_text()


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        ([], 2, "no flags given; name a study"),
        (["configs/studies/nothing.py"], 2, "does not exist; available: configs/studies/losses.py"),
        (["configs/tiny.py"], 2, "configs/tiny.py cannot be loaded"),
        (["configs/studies/tiny_losses.py", "--workers", "0"], 2, "workers=0 is not valid"),
    ],
)
def test_wrong_commands(argv, code, said, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert main(argv) == code
    assert said in capsys.readouterr().err


def test_a_study_that_is_being_run_is_locked(tmp_path, capsys):
    with locked(tmp_path, AssertionError("held by nobody else")):
        assert main([study_file(tmp_path)]) == 5
    assert "is being run by another process" in capsys.readouterr().err


def test_dry_run_tells_how_much_it_is(tmp_path, capsys):
    folder = tmp_path / "none"
    assert main([study_file(folder), "--dry-run"]) == 0
    assert "tuning: 4 runs (2 trials an arm, sw)" in capsys.readouterr().out
    assert not folder.exists()


# ---- processes ---------------------------------------------------------------------------------------------------


def study(file: str, workers: int = 2) -> contextlib.AbstractContextManager[subprocess.Popen[str]]:
    """In a process of its own, on one device, as users do."""
    return begun("-m", "optical_jax", "study", file, "--workers", workers, devices=1)


def wait_for_steps(folder: Path, process: subprocess.Popen[str]) -> None:
    """Until a run writes its figures, which it did not do before this call."""
    since = time.time()

    def written() -> bool:
        # Not rglob, which also walks through folders that the study is just renaming.
        found = [path for runs in ("tuning/*/*/*", "final/*/*") for path in folder.glob(f"{runs}/metrics.jsonl")]
        # The loop has begun, and with it the saving.
        return any('"loss"' in path.read_text() for path in found if path.stat().st_mtime > since)

    wait_until(written, process)


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


@pytest.mark.slow
def test_two_workers_stopped_and_killed_end_where_one_does(tmp_path):
    """SIGTERM saves and exits 75; a worker killed with -9 is exit 5; then the same command ends as one process does."""
    longer = {"steps": 300, "every": 300, "arms": 1}
    file = study_file(tmp_path / "two", **longer)
    with study(file) as process:
        wait_for_steps(tmp_path / "two", process)
        workers = workers_of(process)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 75, said
    assert "saved first; press Ctrl-C again to stop without saving" in said
    assert "the same command resumes them" in said
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
    assert [path.name for path in (tmp_path / "two").glob("tuning/*/*/sw/checkpoints/*")]

    with study(file) as process:
        wait_for_steps(tmp_path / "two", process)
        os.kill(workers_of(process)[0], signal.SIGKILL)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 5, said
    assert "died (SIGKILL;" in said
    assert "fewer --workers" in said

    for again, workers in ((file, 2), (study_file(tmp_path / "one", **longer), 1)):
        with study(again, workers) as done:
            _, said = done.communicate(timeout=300)
        assert done.returncode == 0, said
    with (tmp_path / "one" / "table.csv").open() as one, (tmp_path / "two" / "table.csv").open() as two:
        for ours, theirs in zip(csv.DictReader(one), csv.DictReader(two), strict=True):
            assert {**ours, "value": 0} == {**theirs, "value": 0}
            # Fewer cores add up in another order.
            assert float(ours["value"]) == pytest.approx(float(theirs["value"]), abs=0.02)


# ---- the studies in configs/ ----------------------------------------------------------------------------------------


def losses_of_studies() -> list:
    """The loss of every trial of every arm; of those that differ in a temperature or a weight alone, the first."""
    found: dict = {}
    for path in sorted((ROOT / "configs" / "studies").glob("*.py")):
        for arm in load_study(str(path)).arms:
            for trial, config in arm.trials.items():
                added = tuple(term.split("=")[0] for term in config.loss.add)
                alike = replace(config.loss, temperature=1.0, add=added)
                found.setdefault(alike, pytest.param(config.loss, id=f"{path.stem}-{arm.name}-{trial}"))
    return list(found.values())


@pytest.fixture(scope="module")
def tiny():
    """Config, towers, mesh, optimizer, first state, teacher and two batches of configs/tiny.py, which no loss changes
    but one with idf masses."""
    cfg = parse_command(TrainCommand, ["--config", str(ROOT / "configs" / "tiny.py")]).settings
    # Padded: packed rows are laid out for as many devices as there are, and one compiles sooner.
    data = replace(cfg.data, global_batch=8, batching="buckets", buckets=(16,))
    cfg = replace(cfg, data=data, training=replace(cfg.training, steps=2))
    cfg = replace(cfg, optimizer=replace(cfg.optimizer, warmup_steps=0))
    parts = prepare(replace(cfg, loss=replace(cfg.loss, ot=replace(cfg.loss.ot, masses="idf"))), None)
    mesh = make_mesh(cfg.mesh, jax.devices()[:1])
    tx = make_optimizer(cfg.optimizer, cfg.training.steps)
    with jax.set_mesh(mesh):
        teacher = jax.device_put(
            parts.models["teacher"].params, params_shardings(tower_specs(parts.models["teacher"].cfg), mesh)
        )
        state = init_train_state(parts.models["student"].params, tower_specs(parts.models["student"].cfg), mesh, tx)
        batches = [put(next(parts.loader), named_sharding(mesh, ("batch",))) for _ in range(2)]
    return SimpleNamespace(
        cfg=cfg,
        towers=(parts.models["student"].cfg, parts.models["teacher"].cfg),
        mesh=mesh,
        tx=tx,
        state=state,
        teacher=teacher,
        batches=batches,
    )


@pytest.mark.parametrize("loss", losses_of_studies())
def test_every_loss_of_every_study_trains(loss, tiny):
    """Two steps, compiled once: finite, and the parameters move."""
    found = []
    with jax.set_mesh(tiny.mesh):
        step = make_train_step(replace(tiny.cfg, loss=loss), *tiny.towers, tiny.mesh, tiny.tx)
        state = jax.tree.map(lambda x: x.copy(), tiny.state)  # a step consumes what it is given
        for batch in tiny.batches:
            state, metrics = step(state, tiny.teacher, batch)
            found.append(jax.device_get(metrics))
    for metrics in found:
        assert all(value == value for value in metrics.values()), metrics
        assert metrics["grad_norm"] > 0
    assert found[0]["param_norm"] != found[1]["param_norm"]


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "studies").glob("*.py")), ids=lambda path: path.stem)
def test_every_study_is_fair(path):
    from optical_jax.studies.design import check_study

    check_study(load_study(str(path)))

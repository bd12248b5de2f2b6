"""train.py as its users meet it, on the tiny config: every exit code, and runs that are killed and go on."""

import contextlib
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from optical_jax.commands.train import main
from tests import ROOT
from tests.helpers.processes import begun, records, wait_until
from tests.helpers.trainings import STUDENT


@pytest.fixture(scope="module", autouse=True)
def at_root() -> Iterator[None]:
    with contextlib.chdir(ROOT):
        yield


@pytest.fixture
def train(capsys) -> Callable[..., tuple[int, str, str]]:
    """Exit code and what is printed, in this process."""

    def call(*flags: object) -> tuple[int, str, str]:
        try:
            code = main([*STUDENT, *map(str, flags)])
        except SystemExit as stopped:  # tyro's own
            code = stopped.code
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


@pytest.fixture(scope="module")
def undisturbed(student_training) -> Path:
    """A run that nobody stopped."""
    return student_training.run


def fingerprint(run: Path) -> str:
    last = records(run)[-1]
    assert set(last) == {"step", "params_sha256"}
    return last["params_sha256"]


def test_what_is_logged(undisturbed):
    logged = [r for r in records(undisturbed) if "loss" in r]
    wanted = {
        "loss",
        "learning_rate",
        "grad_norm",
        "pairs_per_second",
        "input_share",
        "real_tokens_per_second",
        "plan_entropy",
        "greedy_cosine",
    }
    assert all(wanted <= set(r) for r in logged)
    assert logged[-1]["loss"] < logged[0]["loss"]


LONGER = ["--checkpoint.every", "20", "--training.steps", "160"]


@pytest.mark.slow
def test_signals_save_and_a_kill_costs_time_alone(train, tmp_path):
    """SIGINT and SIGTERM save, say how to go on and exit 75; kill -9 leaves the last checkpoint. Each goes on from the
    one before, and the run ends bit for bit as one that nobody stopped."""
    run, saved = tmp_path / "stopped", 0
    for number in (signal.SIGINT, signal.SIGTERM):
        with begun("train.py", *STUDENT, "--run", run, *LONGER) as process:
            wait_until(lambda past=saved: any(r["step"] >= past + 10 for r in records(run)), process)
            process.send_signal(number)
            printed, said = process.communicate(timeout=120)
        assert process.returncode == 75, said
        assert not saved or f"at step {saved} of 160" in printed
        stopped = re.search(rf"error: stopped by {number.name} after saving step (\d+) of 160; the same command", said)
        assert stopped, said
        saved = int(stopped[1])
        assert (run / "checkpoints" / stopped[1]).is_dir()
        assert (run / "curves.png").is_file()
    later = saved // 20 * 20 + 20
    with begun("train.py", *STUDENT, "--run", run, *LONGER) as process:
        wait_until((run / "checkpoints" / str(later)).is_dir, process)
    assert process.returncode == -signal.SIGKILL
    assert "params_sha256" not in records(run)[-1]
    code, printed, said = train("--run", run, *LONGER)
    assert code == 0, said
    resumed = re.search(r"resuming \S+ at step (\d+) of 160", printed)
    assert resumed
    assert int(resumed[1]) in range(later, 160, 20)
    whole = tmp_path / "whole"
    assert train("--run", whole, *LONGER)[0] == 0
    assert fingerprint(run) == fingerprint(whole)
    assert [r["step"] for r in records(run) if "loss" in r] == list(range(5, 161, 5))


def test_more_steps_go_on_from_the_last(undisturbed, train, tmp_path):
    run = shutil.copytree(undisturbed, tmp_path / "more")
    code, printed, said = train("--run", run, "--training.steps", "35")
    assert code == 0, said
    assert "at step 30 of 35" in printed
    assert records(run)[-1]["step"] == 35
    (run / "metrics.jsonl").write_text("")  # As a run that is not finished: 7 steps are less than it has behind it.
    code, _, said = train("--run", run, "--training.steps", "7")
    assert code == 2
    assert "training.steps=7 is less than" in said


def test_dry_run_counts_a_cached_teacher_once(train, tmp_path):
    """30 steps of 16 pairs; the texts are those that the run's steps see, each once. Nothing is written."""
    dry = ["--run", tmp_path / "dry", "--dry-run", "--teacher.cache", tmp_path / "cache"]
    (code, cached, said), (_, small, _) = (train(*dry, "--teacher.cache-gib", gib) for gib in (1, 1e-6))
    assert code == 0, said
    assert "the teacher runs in every step" in small
    assert not list(tmp_path.iterdir())
    told = re.search(r"teacher.cache: ([\d,]+) texts encoded before the first step", cached)
    assert told
    assert 16 < int(told[1].replace(",", "")) <= 30 * 16
    rows = [re.search(r"100\.0%.* (\S+)%\s+(\S+)%\s+(\S+)%", printed) for printed in (small, cached)]
    assert all(rows)
    assert [float(row[2]) > 0 for row in rows] == [True, False]


def broken(tmp_path: Path, text: str | bytes) -> str:
    file = tmp_path / "sw.train.tsv"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(file)


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (["--no-such-flag", "5"], 2, "no-such-flag"),
        (["--training.steps", "-5"], 2, "error: training.steps=-5 is not valid; use 0 or more"),
        (["--loss.name", "magic"], 2, "magic"),
        (
            ["--config", "configs/none.py"],
            2,
            "error: config=configs/none.py does not exist; available: configs/demo.py",
        ),
        (["--teacher.path", "configs"], 2, "error: "),
        (["--student.path", "/no/such/folder"], 2, "error: "),
        (["--mesh.data", "3"], 2, "error: mesh data=3"),
        (["--student.attention", "cudnn"], 2, "error: student.attention=cudnn needs bfloat16, not student.dtype"),
        (
            ["--teacher.attention", "splash", "--teacher.dtype", "bfloat16"],
            2,
            "error: teacher.attention=splash runs on TPUs, not on this device (platform cpu); use auto",
        ),
        (["--data.bitext", "/no/such/sw.train.tsv"], 3, "error: /no/such/sw.train.tsv"),
    ],
)
def test_wrong_commands_and_missing_files(flags, code, said, train, tmp_path):
    ended, printed, told = train("--run", tmp_path / "x", *flags)
    assert ended == code, told
    assert said in printed + told
    if said.startswith("error"):
        assert len(told.strip().splitlines()) == 1, told


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "sw.train.tsv"),
        ("A dog\tMbwa\nno tab here\n", "sw.train.tsv:2: "),
        ("A dog\tMbwa\nA cat\t\n", "sw.train.tsv:2: "),
        (b"A dog\tMbwa\nA cat\tPak\xff\n", "sw.train.tsv:2: "),
    ],
)
def test_broken_bitext_names_file_and_line(text, said, train, tmp_path):
    code, _, told = train("--run", tmp_path / "x", "--data.bitext", broken(tmp_path, text))
    assert code == 3, told
    assert said in told


def test_a_first_start_that_fails_does_not_stand_in_the_way_of_the_next(train, tmp_path):
    run, nine = tmp_path / "again", "".join(f"Word {i}\tNeno {i}\n" for i in range(9))
    with begun("train.py", *STUDENT, "--run", run, "--data.bitext", "/no/such/sw.train.tsv") as process:
        _, said = process.communicate(timeout=300)
    assert process.returncode == 3
    # A process of its own says no more than that, whatever is imported and set up on the way.
    assert said.startswith("error: /no/such/sw.train.tsv")
    assert said.count("\n") == 1
    # Nine pairs are too few to hold any out: no dev figures, and no failure for want of them.
    code, _, said = train("--run", run, "--data.bitext", broken(tmp_path, nine), "--training.steps", "5")
    assert code == 0, said
    assert not [r for r in records(run) if "dev" in r]


def test_a_reader_that_leaves_early_is_no_error():
    command = f"{sys.executable} train.py --help | head -1"
    done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "train.py [-h]" in done.stdout
    assert not done.stderr


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_checkpoint(train, tmp_path):
    run = tmp_path / "nan"
    wild = ["--optimizer.peak-lr", "1e38", "--optimizer.clip-norm", "0", "--optimizer.warmup-steps", "0"]
    code, _, said = train("--run", run, *wild, "--checkpoint.every", "1")
    assert code == 4, said
    # Loss and gradient of the first step are numbers; the update by 1e38 is not, and is not saved.
    assert "error: param_norm is inf at step 1; the last checkpoint is kept" in said
    assert not list((run / "checkpoints").iterdir())


def test_a_teacher_that_is_not_copied_is_checked(train, tmp_path):
    run = tmp_path / "reference"
    copy = tmp_path / "teacher"
    copy.mkdir()
    for file in (ROOT / "configs" / "tiny" / "teacher").iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    flags = ["--run", run, "--teacher.path", copy, "--checkpoint.no-copy-teacher", "--training.steps", "5"]
    code, _, said = train(*flags)
    assert code == 0, said
    assert not list((run / "teacher").glob("*.safetensors"))
    from optical_jax import load
    from optical_jax.errors import ConfigError

    assert load(run, side="document").cfg.encoder.width == 48
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(bytes(weights))
    with pytest.raises(ConfigError, match="other weights than the teacher"):
        load(run, side="document")


def test_the_teachers_vectors_are_encoded_once(train, undisturbed, tmp_path):
    """The same losses from a cache that is filled, from a full one, and, to half precision, without."""

    def losses(name: str, *flags: object) -> tuple[list[float], str]:
        flags = ("--training.steps", 10, "--teacher.cache", tmp_path / "cache", *flags)
        code, printed, said = train("--run", tmp_path / name, *flags)
        assert code == 0, said
        return [record["loss"] for record in records(tmp_path / name) if "loss" in record], printed

    filling, said = losses("filling")
    assert re.search(r"teacher cache: (\d+) texts encoded, \1 in ", said)
    full, said = losses("full")
    assert "teacher cache: 0 texts encoded" in said
    assert full == filling
    # Ten steps of warm-up, as the first ten of thirty.
    np.testing.assert_allclose(filling, [r["loss"] for r in records(undisturbed) if "loss" in r][:2], atol=1e-3)
    (about,) = (tmp_path / "cache").glob("*/teacher.json")
    about.parent.rename(tmp_path / "away")
    refused, said = losses("refused", "--teacher.cache-gib", "1e-6")
    assert "teacher.cache_gib=1e-06; the teacher runs in every step" in said
    np.testing.assert_allclose(refused, filling, rtol=1e-5)

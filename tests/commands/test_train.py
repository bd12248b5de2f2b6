"""train.py as its users meet it, on the tiny config: every exit code, and runs that are killed and go on."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from optical_jax.commands.train import main
from tests import ROOT

DEMO = [
    "--config",
    "configs/tiny.py",
    "--training.steps",
    "30",
    "--checkpoint.every",
    "10",
    "--training.log-every",
    "5",
]


@pytest.fixture(scope="session")
def environ(tmp_path_factory) -> dict[str, str]:
    """One device; programs are compiled once for all the processes of these tests."""
    cache = tmp_path_factory.getbasetemp() / "compiled"
    return os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "PYTHONWARNINGS": "default",
    }


def train(*flags: object, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "train.py", *DEMO, *map(str, flags)]
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture
def train_here(monkeypatch, capsys) -> Callable[..., tuple[int, str, str]]:
    """The same in this process, which has eight devices and has imported all: for what compiles nothing."""
    monkeypatch.chdir(ROOT)

    def call(*flags: object) -> tuple[int, str, str]:
        try:
            code = main([*DEMO, *map(str, flags)])
        except SystemExit as stopped:  # tyro's own
            code = stopped.code
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


def records(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory, environ) -> Path:
    """A run that nobody stopped."""
    run = tmp_path_factory.mktemp("runs") / "undisturbed"
    done = train("--run", run, environ=environ)
    assert done.returncode == 0, done.stderr
    return run


LONGER = ["--checkpoint.every", "1000", "--training.steps", "400"]


@pytest.fixture(scope="session")
def undisturbed_longer(tmp_path_factory, environ) -> Path:
    run = tmp_path_factory.mktemp("runs") / "longer"
    done = train("--run", run, *LONGER, environ=environ)
    assert done.returncode == 0, done.stderr
    return run


def fingerprint(run: Path) -> str:
    last = records(run)[-1]
    assert set(last) == {"step", "params_sha256"}
    return last["params_sha256"]


def test_a_run_folder_is_whole(undisturbed):
    found = {p.name for p in undisturbed.iterdir()}
    assert {"config.json", "env.json", "metrics.jsonl", "bitext.json", "checkpoints", "student", "teacher"} <= found
    lines = records(undisturbed)
    logged = [r for r in lines if "loss" in r]
    assert [r["step"] for r in logged] == [5, 10, 15, 20, 25, 30]
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
    assert [r["step"] for r in lines if "dev" in r] == [0, 30]
    assert re.fullmatch("[0-9a-f]{64}", fingerprint(undisturbed))
    assert (undisturbed / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_command_again_prints_the_result(undisturbed, train_here):
    before = (undisturbed / "metrics.jsonl").read_bytes()
    (undisturbed / "curves.png").unlink()
    code, printed, _ = train_here("--run", undisturbed)
    assert code == 0
    assert "is finished: 30 steps" in printed
    assert f"curves: {undisturbed}/curves.png" in printed
    assert (undisturbed / "curves.png").is_file()
    assert (undisturbed / "metrics.jsonl").read_bytes() == before


@pytest.mark.slow
def test_kill_9_in_the_middle_costs_nothing_but_time(undisturbed, environ, tmp_path):
    run = tmp_path / "killed"
    command = [sys.executable, "train.py", *DEMO, "--run", str(run)]
    process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until((run / "checkpoints" / "10").is_dir, process)
    process.kill()
    process.wait()
    assert "params_sha256" not in records_so_far(run)[-1]
    done = train("--run", run, environ=environ)
    assert done.returncode == 0, done.stderr
    assert re.search(r"resuming \S+ at step [12]0 of 30", done.stdout)
    assert fingerprint(run) == fingerprint(undisturbed)
    assert [r["step"] for r in records(run) if "loss" in r] == [5, 10, 15, 20, 25, 30]


def records_so_far(run: Path) -> list[dict]:
    if not (run / "metrics.jsonl").is_file():
        return []
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().split("\n")[:-1]]


def wait_until(reached: Callable[[], bool], process: subprocess.Popen) -> None:
    for _ in range(20_000):
        if reached():
            return
        assert process.poll() is None, "it ended before it could be stopped"
        time.sleep(0.005)
    raise AssertionError("not reached in 100 seconds")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_says_how_to_go_on_and_exits_75(undisturbed_longer, environ, tmp_path, number):
    run = tmp_path / "stopped"
    command = [sys.executable, "train.py", *DEMO, *LONGER, "--run", str(run)]
    process = subprocess.Popen(
        command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_until(lambda: any(r["step"] >= 10 for r in records_so_far(run)), process)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 75, said
    stopped = re.search(rf"error: stopped by {number.name} after saving step (\d+) of 400; the same command", said)
    assert stopped, said
    assert (run / "checkpoints" / stopped[1]).is_dir()
    assert (run / "curves.png").is_file()
    if number == signal.SIGTERM:  # What was saved is the same after either.
        done = train("--run", run, *LONGER, environ=environ)
        assert f"at step {stopped[1]} of 400" in done.stdout
        assert fingerprint(run) == fingerprint(undisturbed_longer)


def test_more_steps_go_on_from_the_last(environ, train_here, tmp_path):
    run = tmp_path / "more"
    assert train("--run", run, "--training.steps", "5", environ=environ).returncode == 0
    done = train("--run", run, "--training.steps", "10", environ=environ)
    assert done.returncode == 0, done.stderr
    assert "at step 5 of 10" in done.stdout
    assert records(run)[-1]["step"] == 10
    (run / "metrics.jsonl").write_text("")  # As a run that is not finished: 7 steps are less than it has behind it.
    code, _, said = train_here("--run", run, "--training.steps", "7")
    assert code == 2
    assert "training.steps=7 is less than" in said


def test_dry_run_tells_the_cost_and_writes_nothing(environ, tmp_path):
    done = train("--run", tmp_path / "dry", "--dry-run", environ=environ)
    assert done.returncode == 0, done.stderr
    for word in (" parameters, ", "GFLOP a pair", "MiB a device", "pairs/s", "30 steps of 16 pairs"):
        assert word in done.stdout
    assert not (tmp_path / "dry").exists()


def test_dry_run_counts_a_cached_teacher_once(environ, tmp_path):
    """30 steps of 16 pairs; the texts are those that the run's steps see, each once. Nothing is written."""
    dry = ["--run", tmp_path / "dry", "--dry-run", "--teacher.cache", tmp_path / "cache"]
    cached, small = (train(*dry, "--teacher.cache-gib", gib, environ=environ) for gib in (1, 1e-6))
    assert cached.returncode == 0, cached.stderr
    assert "the teacher runs in every step" in small.stdout
    assert not list(tmp_path.iterdir())
    told = re.search(r"teacher.cache: ([\d,]+) texts encoded before the first step", cached.stdout)
    assert told
    assert 16 < int(told[1].replace(",", "")) <= 30 * 16
    rows = [re.search(r"100\.0%.* (\S+)%\s+(\S+)%\s+(\S+)%", done.stdout) for done in (small, cached)]
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
def test_wrong_commands_and_missing_files(flags, code, said, train_here, tmp_path):
    ended, printed, told = train_here("--run", tmp_path / "x", *flags)
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
def test_broken_bitext_names_file_and_line(text, said, train_here, tmp_path):
    code, _, told = train_here("--run", tmp_path / "x", "--data.bitext", broken(tmp_path, text))
    assert code == 3, told
    assert said in told


def test_a_first_start_that_fails_does_not_stand_in_the_way_of_the_next(environ, tmp_path):
    run, nine = tmp_path / "again", "".join(f"Word {i}\tNeno {i}\n" for i in range(9))
    failed = train("--run", run, "--data.bitext", "/no/such/sw.train.tsv", environ=environ)
    assert failed.returncode == 3
    # A process of its own says no more than that, whatever is imported and set up on the way.
    assert failed.stderr.startswith("error: /no/such/sw.train.tsv")
    assert failed.stderr.count("\n") == 1
    # Nine pairs are too few to hold any out: no dev figures, and no failure for want of them.
    done = train("--run", run, "--data.bitext", broken(tmp_path, nine), "--training.steps", "5", environ=environ)
    assert done.returncode == 0, done.stderr
    assert not [r for r in records(run) if "dev" in r]


def test_a_reader_that_leaves_early_is_no_error(environ):
    command = f"{sys.executable} train.py --help | head -1"
    done = subprocess.run(command, shell=True, cwd=ROOT, env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: train.py")
    assert not done.stderr


def test_a_batch_that_does_not_divide_over_the_mesh(train_here, tmp_path):
    code, _, said = train_here("--run", tmp_path / "x", "--data.global-batch", "12")
    assert code == 2
    assert "error: data.global_batch=12 does not divide into 8 shards (mesh data=8 x fsdp=1)" in said


def test_another_config_in_the_folder_is_a_diff(undisturbed, train_here):
    code, _, said = train_here("--run", undisturbed, "--seed", "7", "--loss.ot.epsilon", "0.5")
    assert code == 2
    assert "\n  loss.ot.epsilon: 0.05 -> 0.5\n  seed: 0 -> 7\n" in said


def test_a_locked_run_is_refused(undisturbed, train_here):
    from optical_jax.runs.folder import RunFolder

    with RunFolder(undisturbed).lock():
        code, _, said = train_here("--run", undisturbed)
    assert code == 5
    assert "is being trained by another process" in said


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_checkpoint(environ, tmp_path):
    run = tmp_path / "nan"
    wild = ["--optimizer.peak-lr", "1e38", "--optimizer.clip-norm", "0", "--optimizer.warmup-steps", "0"]
    done = train("--run", run, *wild, "--checkpoint.every", "1", environ=environ)
    assert done.returncode == 4, done.stderr
    # Loss and gradient of the first step are numbers; the update by 1e38 is not, and is not saved.
    assert "error: param_norm is inf at step 1; the last checkpoint is kept" in done.stderr
    assert not list((run / "checkpoints").iterdir())


def test_a_teacher_that_is_not_copied_is_checked(environ, tmp_path):
    run = tmp_path / "reference"
    copy = tmp_path / "teacher"
    copy.mkdir()
    for file in (ROOT / "configs" / "tiny" / "teacher").iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    flags = ["--run", run, "--teacher.path", copy, "--checkpoint.no-copy-teacher", "--training.steps", "5"]
    done = train(*flags, environ=environ)
    assert done.returncode == 0, done.stderr
    assert not list((run / "teacher").glob("*.safetensors"))
    from optical_jax import load
    from optical_jax.errors import ConfigError

    assert load(run, side="document").cfg.encoder.width == 48
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(bytes(weights))
    with pytest.raises(ConfigError, match="other weights than the teacher"):
        load(run, side="document")


def test_the_teachers_vectors_are_encoded_once(environ, undisturbed, tmp_path):
    """The same losses from a cache that is filled, from a full one, and, to half precision, without."""

    def losses(name: str, *flags: object) -> tuple[list[float], str]:
        flags = ("--training.steps", 10, "--teacher.cache", tmp_path / "cache", *flags)
        done = train("--run", tmp_path / name, *flags, environ=environ)
        assert done.returncode == 0, done.stderr
        return [record["loss"] for record in records(tmp_path / name) if "loss" in record], done.stdout

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

"""What the trainings of a student, a teacher and an image-text teacher have in common, as their users meet it."""

import json
import re
import shutil

import pytest

from optical_jax.commands.settings import ImageTeacherCommand, TeacherCommand, TrainCommand, parse_command
from optical_jax.config import Config, ImageStageConfig, TeacherStageConfig, to_json
from optical_jax.errors import ConfigError
from optical_jax.runs.folder import RunFolder
from tests import ROOT
from tests.helpers.processes import records
from tests.helpers.trainings import Training

KINDS = ("student", "teacher", "image_teacher")


@pytest.fixture(scope="module", params=KINDS)
def kind(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def training(kind, request) -> Training:
    return request.getfixturevalue(f"{kind}_training")


@pytest.fixture
def command(training, capsys):
    """Exit code and what is printed."""

    def call(*flags: object) -> tuple[int, str, str]:
        code = training.main([*training.flags, *map(str, flags)])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


def test_a_run_folder_is_whole(kind, training):
    report = {"student": "bitext.json", "teacher": "rankings.json", "image_teacher": "images.json"}[kind]
    towers = {"student", "teacher"} if kind == "student" else {"model"}
    found = {path.name for path in training.run.iterdir()}
    assert {"config.json", "env.json", "metrics.jsonl", report, "checkpoints", "curves.png", *towers} <= found
    lines = records(training.run)
    assert tuple(r["step"] for r in lines if "loss" in r) == training.steps
    assert [r["step"] for r in lines if "dev" in r] == [0, training.steps[-1]]
    assert set(lines[-1]) == {"step", "params_sha256"}
    assert re.fullmatch("[0-9a-f]{64}", lines[-1]["params_sha256"])
    assert (training.run / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_command_again_prints_the_result(training, command, tmp_path):
    run = shutil.copytree(training.run, tmp_path / "again")
    (run / "curves.png").unlink()
    code, printed, said = command("--run", run)
    assert code == 0, said
    assert f"is finished: {training.steps[-1]} steps" in printed
    assert f"curves: {run}/curves.png" in printed
    assert (run / "curves.png").is_file()
    assert (run / "metrics.jsonl").read_bytes() == (training.run / "metrics.jsonl").read_bytes()


def test_a_run_that_stops_and_goes_on_ends_bit_for_bit_the_same(training, command, tmp_path):
    """The same run, but all that came after the last checkpoint but one is lost."""
    run, last = shutil.copytree(training.run, tmp_path / "stopped"), training.steps[-1]
    lines = (run / "metrics.jsonl").read_text().splitlines()[:-1]
    (run / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    assert (run / "checkpoints" / str(training.saved)).is_dir()
    shutil.rmtree(run / "checkpoints" / str(last))
    code, printed, said = command("--run", run)
    assert code == 0, said
    assert f"at step {training.saved} of {last}" in printed
    assert records(run)[-1] == records(training.run)[-1]
    losses, expected = ([r["loss"] for r in records(each) if "loss" in r] for each in (run, training.run))
    assert losses == expected


def test_another_config_in_the_folder_is_a_diff(training, command):
    code, _, said = command("--run", training.run, "--seed", "7", "--optimizer.peak-lr", "0.25")
    assert code == 2
    assert "holds a run of another config" in said
    assert re.search(r"\n  optimizer.peak_lr: \S+ -> 0.25\n  seed: 0 -> 7\n", said)


def test_a_locked_run_is_refused(training, command):
    with RunFolder(training.run).lock():
        code, _, said = command("--run", training.run)
    assert code == 5
    assert "is being trained by another process" in said


WORDS = {
    "student": (" parameters, ", "GFLOP a pair", "MiB a device", "pairs/s", "30 steps of 16 pairs"),
    "teacher": (" parameters, ", "MiB a device", "8 queries in", "16 passages in", "6 steps of 8 queries"),
    "image_teacher": (
        "16 of 24 x 24 pixels", "captions: 89 texts encoded before the first step", "GFLOP a pair", "6 steps of 16",
    ),
}  # fmt: skip


def test_dry_run_tells_the_cost_and_writes_nothing(kind, command, tmp_path):
    code, printed, said = command("--run", tmp_path / "dry", "--dry-run")
    assert code == 0, said
    for words in WORDS[kind]:
        assert words in printed
    assert not (tmp_path / "dry").exists()


def test_a_batch_that_does_not_divide_over_the_mesh(command, tmp_path):
    code, _, said = command("--run", tmp_path / "x", "--data.global-batch", "12")
    assert code == 2
    assert "error: data.global_batch=12 does not divide into 8 shards (mesh data=8 x fsdp=1)" in said


SETTINGS = {"student": Config, "teacher": TeacherStageConfig, "image_teacher": ImageStageConfig}
NAMES = {"student": "a student", "teacher": "a teacher", "image_teacher": "an image-text teacher"}


def test_runs_of_three_kinds_are_told_apart(kind, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(to_json(SETTINGS[kind]())))
    for other in set(KINDS) - {kind}:
        with pytest.raises(ConfigError, match=f"holds a training of {NAMES[kind]}"):
            RunFolder(tmp_path).holds_run_of(SETTINGS[other]())


@pytest.mark.parametrize(
    ("command", "config", "said"),
    [
        (TrainCommand, "teacher_afriqa.py", " teacher"),
        (TrainCommand, "images/teacher.py", " image_teacher"),
        (TeacherCommand, "tiny.py", " train"),
        (ImageTeacherCommand, "tiny.py", " train"),
    ],
)
def test_a_config_of_another_kind_names_its_command(command, config, said):
    with pytest.raises(ConfigError, match=rf"start it with .*{said}$"):
        parse_command(command, ["--config", str(ROOT / "configs" / config)])

"""Runs below paths that a library takes for a pattern or an address: every training resumes, reads and exports them."""

import json
import os

import jax
import numpy as np
import pytest

from optical_jax.commands.export import main as export
from optical_jax.errors import ConfigError
from optical_jax.models.formats.replacing import check_target
from optical_jax.params import fingerprint
from optical_jax.runs.checkpoint import load_params
from optical_jax.runs.folder import RunFolder
from optical_jax.runs.load import load

ODD = "data [old]/back\\slash *? [x] $HOME 50%"


def with_value(flags: list[str], flag: str, value: str) -> list[str]:
    at = flags.index(flag)
    return [*flags[: at + 1], value, *flags[at + 2 :]]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("training", "part"),
    [("student_training", "student"), ("teacher_training", "auto"), ("image_teacher_training", "text")],
)
def test_every_training_reads_what_it_saved(request, tmp_path, training, part):
    """What is read has the fingerprint that the training ended with, before and after it is resumed."""
    made, run = request.getfixturevalue(training), tmp_path / ODD
    for steps in (1, 2):
        flags = with_value(made.flags, "--training.steps", str(steps))
        if "--optimizer.warmup-steps" in flags:
            flags = with_value(flags, "--optimizer.warmup-steps", "1")
        assert made.main([*flags, "--run", str(run)]) == 0
        params, step = load_params(run)
        assert step == steps
        last = json.loads((run / "metrics.jsonl").read_text("utf-8").splitlines()[-1])
        assert fingerprint(params) == last["params_sha256"]
    out = run / "my [encoder]"
    assert export(["--run", str(run), "--out", str(out)]) == 0
    exported = load(out, part="auto" if part == "student" else part)
    jax.tree.map(np.testing.assert_array_equal, exported.params, load(run, part=part).params)


def test_a_run_below_a_path_that_is_not_utf8_is_refused_before_anything_is_written(tmp_path, capsys, student_training):
    run = tmp_path / os.fsdecode(b"bad\xff")
    assert student_training.main([*student_training.flags, "--run", str(run)]) == 2
    error = capsys.readouterr().err
    assert r"bad\xff', is not UTF-8" in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_utf8_is_refused_before_an_export(tmp_path, capsys, student_training):
    out = tmp_path / os.fsdecode(b"bad\xff")
    assert export(["--run", str(student_training.run), "--out", str(out)]) == 2
    assert r"bad\xff', is not UTF-8" in capsys.readouterr().err
    with pytest.raises(ConfigError, match=r"bad\\xff is not valid UTF-8; name another folder"):
        check_target(out)
    with pytest.raises(ConfigError, match=r"bad\\xff is not valid UTF-8; name another folder"), RunFolder(out).lock():
        pass
    assert list(tmp_path.iterdir()) == []

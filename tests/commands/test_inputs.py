"""What flags name is looked for before anything heavy is imported; resumed runs need no more than they hold."""

import json
import os
import subprocess
import sys

import pytest

from optical_jax.commands import inputs
from optical_jax.commands.export import main as export
from optical_jax.config import Config, DataConfig, StudentConfig, TeacherConfig
from optical_jax.config.validation import validate
from optical_jax.errors import ConfigError, DataError
from optical_jax.models.formats.finding import SHIPPED
from tests import ROOT

RUN, PAIRS, LINES = "RUN", "sw=PAIRS", "LINES"
MISSING = {
    "train bitext": ("train", ["--run", "r", "--data.bitext", "sw=nowhere.tsv", "--teacher.path", SHIPPED], 3),
    "train captions": ("train", ["--run", "r", "--data.bitext", "sw=captions:nowhere", "--teacher.path", SHIPPED], 3),
    "train dev": ("train", ["--run", "r", "--data.bitext", PAIRS, "--data.dev", "sw=nowhere.tsv"], 3),
    "train teacher": ("train", ["--run", "r", "--data.bitext", PAIRS, "--teacher.path", "nowhere"], 2),
    "train student": ("train", ["--data.bitext", PAIRS, "--teacher.path", SHIPPED, "--student.path", "nowhere"], 2),
    "train images": ("train", ["--data.bitext", PAIRS, "--teacher.path", SHIPPED, "--data.pictures", "nowhere"], 3),
    "train config": ("train", ["--config", "nowhere.py"], 2),
    "train recipe": ("train", ["--config", "nowhere"], 2),
    "teacher encoder": ("teacher", ["--run", "r", "--encoder.path", "nowhere", "--data.train", LINES], 2),
    "teacher train": ("teacher", ["--run", "r", "--encoder.path", SHIPPED, "--data.train", "nowhere.tsv"], 3),
    "teacher collection": (
        "teacher", ["--run", "r", "--encoder.path", SHIPPED, "--data.train", LINES, "--data.collection", "nowhere"], 3,
    ),
    "image_teacher images": ("image_teacher", ["--run", "r", "--text.path", SHIPPED, "--data.images", "nowhere"], 3),
    "image_teacher text": ("image_teacher", ["--run", "r", "--text.path", "nowhere", "--data.images", "."], 2),
    "eval run": ("eval", ["--run", "nowhere", "--collection", "."], 2),
    "eval model": ("eval", ["--model", "nowhere", "--collection", "."], 2),
    "eval compare": ("eval", ["--compare", RUN, "nowhere", "--collection", "."], 2),
    "eval collection": ("eval", ["--run", RUN, "--collection", "nowhere"], 3),
    "eval translations": ("eval", ["--run", RUN, "--collection", ".", "--translations", "sw=nowhere"], 3),
    "search run": ("search", ["--run", "nowhere", "--docs", LINES, "q"], 2),
    "search docs": ("search", ["--run", RUN, "--docs", "nowhere", "q"], 3),
    "search images": ("search", ["--run", RUN, "--images", "nowhere", "q"], 3),
    "align run": ("align", ["--run", "nowhere", "a", "b"], 2),
    "align image": ("align", ["--run", RUN, "--image", "nowhere.png", "a"], 3),
    "align gold": ("align", ["--run", RUN, "--bitext", PAIRS, "--gold", "nowhere"], 3),
    "lexicon run": ("lexicon", ["--run", "nowhere"], 2),
    "export run": ("export", ["--run", "nowhere", "--out", "x"], 2),
    "export out": ("export", ["--run", RUN, "--out", "nowhere_to_export"], 2),
    "mine train": ("mine", ["--train", "nowhere.tsv", "--out", "x.tsv"], 3),
    "mine model": ("mine", ["--train", LINES, "--by", "nowhere", "--out", "x.tsv"], 2),
    "phrases images": ("phrases", ["--run", RUN, "--images", "nowhere"], 3),
    "phrases boxes": ("phrases", ["--run", RUN, "--images", ".", "--boxes", "nowhere"], 3),
    "bench bitext": ("bench", ["--bitext", "nowhere"], 2),
    "collect": ("collect", ["--collection", "miracl/sw:nowhere", "--out", "x"], 3),
    "check": ("check", ["sw=nowhere.tsv"], 3),
    "study": ("study", ["nowhere.py"], 2),
}  # fmt: skip
"""What is missing -> command, flags, exit code."""

ONE_AFTER_ANOTHER = """
import contextlib, io, json, sys
from optical_jax.__main__ import main
for command, words in json.load(sys.stdin):
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        code = main([command, *words])
    heavy = sorted({"jax", "flax", "transformers", "orbax", "grain"} & {*sys.modules})
    print(json.dumps([code, said.getvalue(), heavy]), flush=True)
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """Of every row of `MISSING`: exit code, what was said, and the heavy libraries imported by then."""
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "RUN" / "checkpoints").mkdir(parents=True)
    (folder / "RUN" / "config.json").write_text("{}")
    (folder / "PAIRS").write_text("a cat\tpaka\n")
    (folder / "LINES").write_text("a line\n")
    (folder / "nowhere_to_export").mkdir()
    (folder / "nowhere_to_export" / "a.txt").write_text("of the user's own")
    asked = json.dumps([(command, words) for command, words, _ in MISSING.values()])
    env = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", ONE_AFTER_ANOTHER], cwd=folder, env=env, input=asked, capture_output=True, text=True
    )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    assert len(lines) == len(MISSING), done.stderr
    return dict(zip(MISSING, lines, strict=True))


@pytest.mark.parametrize("what", MISSING)
def test_a_missing_file_is_named_before_jax_is_imported(what, answers):
    code, said, heavy = answers[what]
    assert code == MISSING[what][2], said
    assert said.startswith("error: ")
    assert "nowhere" in said.partition(";")[0]
    assert not heavy


def test_a_tower_in_an_exported_pair_is_not_replaced(tmp_path, capsys):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "config.json").write_text("{}")
    text = tmp_path / "pair" / "text"
    text.mkdir(parents=True)
    for file in (tmp_path / "pair" / "pair.json", text / "optical_jax.json"):
        file.write_text("{}")
    assert export(["--run", str(tmp_path / "run"), "--out", str(text)]) == 2
    assert "is a part of the pair in " in capsys.readouterr().err


def test_a_training_without_pairs_is_refused_before_jax_is_imported(tmp_path):
    with pytest.raises(ConfigError, match=r"^data\.bitext is empty; name at least one file: --data\.bitext sw=FILE$"):
        inputs.check_student(Config(run=str(tmp_path / "run")))


def test_a_run_that_exists_needs_nothing_else(tmp_path):
    """A finished run prints its result although its pairs and its teacher are gone."""
    cfg = Config(
        run=str(tmp_path / "run"),
        teacher=TeacherConfig(path=str(tmp_path / "gone")),
        student=StudentConfig(path=str(tmp_path / "gone")),
        data=DataConfig(bitext=(f"sw={tmp_path / 'gone.tsv'}",)),
    )
    validate(cfg)
    with pytest.raises(DataError, match=r"gone\.tsv: no such file"):
        inputs.check_student(cfg)
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "config.json").write_text("{}")
    inputs.check_student(cfg)


@pytest.mark.parametrize("spec", ["ir_datasets:beir/scifact/test", "miracl/sw:org/data", "FOLDER", "miracl/sw:FOLDER"])
def test_sets_that_may_exist_pass(spec, tmp_path):
    inputs.check_set(spec.replace("FOLDER", str(tmp_path)), "collection", "name another")


def test_a_model_is_the_shipped_one_a_folder_or_a_hub_name(tmp_path, monkeypatch):
    inputs.check_model(SHIPPED, "model", "")
    inputs.check_model(str(tmp_path), "model", "")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConfigError, match=r"^teacher\.path=/no/where: no such folder; name a folder"):
        inputs.check_model("/no/where", "teacher.path", "")

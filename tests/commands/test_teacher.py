"""The teacher's commands as users meet them, at tiny size: a run that is whole, stopped and gone on with, and used."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from optical_jax import encode, load
from optical_jax.commands.evaluate import main as evaluate
from optical_jax.commands.export import main as export
from optical_jax.commands.mine import main as mine
from optical_jax.commands.settings import TeacherCommand, TrainCommand, parse_command
from optical_jax.commands.teacher import main as teacher
from optical_jax.config import Config, RankingDataConfig, StartConfig, TeacherConfig, TeacherStageConfig, to_json
from optical_jax.config.validation import validate_teacher
from optical_jax.errors import ConfigError
from optical_jax.params import fingerprint
from optical_jax.runs.folder import RunFolder
from optical_jax.training.embeddings import principal_directions
from optical_jax.training.student.start import load_teacher
from optical_jax.training.teacher.start import make_start
from tests import ROOT

TINY = ROOT / "configs" / "tiny" / "teacher"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A BEIR folder: 32 sentences, each looked for by its first words; English queries, half of them judged for dev."""
    path = tmp_path_factory.mktemp("data") / "tiny"
    (path / "qrels").mkdir(parents=True)
    texts = [line for line in (ROOT / "configs" / "tiny" / "documents.txt").read_text("utf-8").splitlines() if line]
    corpus = "".join(json.dumps({"_id": f"d{n}", "text": text}) + "\n" for n, text in enumerate(texts))
    (path / "corpus.jsonl").write_text(corpus, "utf-8")
    queries = [{"_id": f"q{n}", "text": f"{text.split()[-1]} {text.split()[1]} {n}"} for n, text in enumerate(texts)]
    (path / "queries.en.jsonl").write_text("".join(json.dumps(query) + "\n" for query in queries), "utf-8")
    for split, some in (("train", texts[:20]), ("dev", texts[20:])):
        first = 0 if split == "train" else 20
        rows = [f"q{first + n}\td{first + n}\t1" for n in range(len(some))]
        (path / "qrels" / f"{split}.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *rows]) + "\n", "utf-8")
    return path


@pytest.fixture(scope="module")
def flags(folder) -> list[str]:
    mined = folder / "mined.jsonl"
    judged = ["--train", str(folder / "qrels" / "train.tsv"), "--collection", str(folder)]
    assert mine([*judged, "--pool", "files", "--depth", "1", "9", "--negatives", "3", "--out", str(mined)]) == 0
    return [
        "--encoder.path", str(TINY), "--encoder.projection", "16", "--encoder.document-length", "24",
        "--data.train", str(folder / "qrels" / "train.tsv"), str(mined), "--data.collection", str(folder),
        "--data.passages", "2", "--data.global-batch", "8", "--data.row-length", "32", "--loss.kl", "0.5",
        "--optimizer.peak-lr", "1e-3", "--optimizer.warmup-steps", "2", "--training.steps", "6",
        "--training.log-every", "2", "--checkpoint.every", "4", "--training.dev-every", "0",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def run(flags, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "whole"
    assert teacher([*flags, "--run", str(path)]) == 0
    return path


def records(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_run_folder_is_whole(run, flags, capsys):
    names = {path.name for path in run.iterdir()}
    assert {"config.json", "env.json", "metrics.jsonl", "rankings.json", "checkpoints", "model", "curves.png"} <= names
    lines = records(run)
    assert [r["step"] for r in lines if "loss" in r] == [2, 4, 6]
    assert [r["step"] for r in lines if "dev" in r] == [0, 6]
    assert {"contrastive", "kl", "first_rank", "grad_norm"} <= set(lines[1])
    assert set(lines[-1]) == {"step", "params_sha256"}
    kinds = json.loads((run / "env.json").read_text())["inputs"]
    assert {"rankings", "encoder.path"} == set(kinds)
    assert json.loads((run / "rankings.json").read_text())["queries"] == 18
    assert teacher([*flags, "--run", str(run)]) == 0
    assert "is finished: 6 steps" in capsys.readouterr().out


def test_a_run_that_stops_and_goes_on_ends_bit_for_bit_the_same(run, flags, tmp_path, capsys):
    """The same run, but all that came after its first checkpoint is lost."""
    path = tmp_path / "stopped"
    shutil.copytree(run, path)
    lines = (path / "metrics.jsonl").read_text().splitlines()[:-1]
    (path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    assert (path / "checkpoints" / "4").is_dir()
    shutil.rmtree(path / "checkpoints" / "6")
    assert teacher([*flags, "--run", str(path)]) == 0
    assert "at step 4 of 6" in capsys.readouterr().out
    assert records(path)[-1] == records(run)[-1]
    assert [r["loss"] for r in records(path) if "loss" in r] == [r["loss"] for r in records(run) if "loss" in r]


def test_the_run_is_evaluated_exported_and_teaches(run, folder, tmp_path, capsys):
    """The exported folder is the trained tower, on both sides, and a student's run takes it."""
    assert evaluate(["--run", str(run), "--collection", str(folder), "--lang", "en"]) == 0
    figures = json.loads((run / "eval" / "tiny-dev" / "metrics.json").read_text())
    assert (figures["system"], set(figures["references"])) == ("model", {"untrained", "bm25"})
    assert evaluate(["--compare", str(run), str(run), "--collection", str(folder), "--lang", "en"]) == 0
    out = tmp_path / "export"
    assert export(["--run", str(run), "--out", str(out), "--license", "apache-2.0"]) == 0
    card = (out / "README.md").read_text()
    assert "tiny-dev" not in card
    for said in ("retriever (ColBERT)", "a vector of 16 a token", "### tiny, dev, maxsim", "mined.jsonl"):
        assert said in card
    assert str(folder) not in card
    texts = ["the dog sees a house", "bread"]
    for side in ("query", "document"):
        trained, exported = load(run, side=side), load(out, side=side)
        np.testing.assert_array_equal(encode(trained, texts).vectors, encode(exported, texts).vectors)
        assert exported.cfg.head.document_length == 24
    start = load(run, checkpoint="untrained")
    assert fingerprint(start.params) != fingerprint(load(run).params)
    taught = load_teacher(Config(teacher=TeacherConfig(path=str(out))))
    assert taught.cfg.vector_width == 16
    capsys.readouterr()
    assert (
        evaluate(["--model", str(out), "--collection", str(folder), "--lang", "en", "--out", str(tmp_path / "o")]) == 0
    )
    again = json.loads((tmp_path / "o").read_text())["languages"]["en"]
    assert again == pytest.approx(figures["languages"]["en"], abs=1e-6)


def test_dry_run_tells_the_cost_and_writes_nothing(flags, tmp_path, capsys):
    assert teacher([*flags, "--run", str(tmp_path / "dry"), "--dry-run"]) == 0
    said = capsys.readouterr().out
    for word in (" parameters, ", "MiB a device", "8 queries in", "16 passages in", "6 steps of 8 queries"):
        assert word in said
    assert not (tmp_path / "dry").exists()


# ---- the start ---------------------------------------------------------------------------------------------------


def test_the_principal_projection_keeps_scores_best():
    """At full width it is a rotation, which no score can see; at less it spans the leading right singular vectors."""
    queries, passages = ["the dog sees bread"], ["the woman buys a house", "the teacher sells bread"]
    raw = load(TINY)
    rotation = principal_directions(raw, queries, passages, 48)
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(48), atol=1e-5)
    sides = [encode(replace(raw, side=side), texts) for side, texts in (("query", queries), ("document", passages))]
    own = [np.asarray(side.vectors)[np.asarray(side.mask)] for side in sides]
    weighed = np.concatenate([vectors / np.sqrt(len(vectors)) for vectors in own])
    _, _, directions = np.linalg.svd(weighed.astype(np.float64))
    few = principal_directions(raw, queries, passages, 5)
    np.testing.assert_allclose(few @ few.T, directions[:5].T @ directions[:5], atol=1e-4)


def test_markers_and_lengths_of_the_start():
    cfg = TeacherStageConfig(
        encoder=StartConfig(
            path=str(TINY), projection=0, markers=True, query_length=9, document_length=24, augment_queries=True
        )
    )
    made = make_start(cfg, ["the dog"], ["bread"])
    head, vocabulary = made.cfg.head, made.tokenizer.get_vocab()
    assert (head.query_marker_id, head.document_marker_id) == (vocabulary["[Q]"], vocabulary["[D]"])
    assert len(made.params["encoder"]["embeddings"]["word"]["embedding"]) == made.cfg.encoder.vocab_size
    assert encode(made, ["bread"]).mask.sum() == 9
    old = load(TINY).params["encoder"]["embeddings"]["word"]["embedding"]
    np.testing.assert_array_equal(made.params["encoder"]["embeddings"]["word"]["embedding"][: len(old)], old)


# ---- what is wrong -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags_of_it", "code", "said"),
    [
        (["--data.passages", "0"], 2, "data.passages=0 is not valid; use at least 1"),
        (["--loss.contrastive", "0", "--loss.kl", "0"], 2, "are all 0; set one of them above 0"),
        (["--data.passages", "1"], 2, "data.passages=1 is not valid; kl and margin_mse compare 2"),
        (["--loss.temperature", "0"], 2, "loss.temperature=0.0 is not valid; use a number above 0"),
        (["--encoder.path", ""], 2, "encoder.path='' is not valid; name an encoder"),
        (["--encoder.path", "/no/such/folder"], 2, "/no/such/folder"),
        (["--encoder.projection", "99"], 2, "encoder.projection=99 is wider than the encoder's vectors"),
        (["--encoder.frozen-layers", "3"], 2, "encoder.frozen_layers=3 is more than the encoder's 2 layers"),
        (["--encoder.document-length", "500"], 2, "encoder.document_length=500 is more than the encoder reads"),
        (["--checkpoint.best-metric", "R@7"], 2, "checkpoint.best_metric='R@7' is not valid; use one of R@1"),
        (["--data.train", "/no/such.tsv"], 3, "/no/such.tsv does not exist"),
        (["--data.global-batch", "12"], 2, "data.global_batch=12 does not divide into 8 shards"),
    ],
)
def test_wrong_settings(flags_of_it, code, said, flags, tmp_path, capsys):
    assert teacher([*flags, "--run", str(tmp_path / "x"), *flags_of_it]) == code
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert said in told
    assert not (tmp_path / "x" / "config.json").exists()


def test_scores_that_are_not_there_are_asked_for_in_vain(flags, folder, tmp_path, capsys):
    judged = ["--data.train", str(folder / "qrels" / "train.tsv")]
    assert teacher([*flags, *judged, "--run", str(tmp_path / "x")]) == 2
    assert "loss.kl=0.5 learns from scores, and no file of data.train has any" in capsys.readouterr().err


def test_runs_of_two_kinds_are_told_apart(run, tmp_path, capsys):
    with pytest.raises(ConfigError, match="holds a training of a teacher"):
        RunFolder(run).holds_run_of(Config(run=str(run)))
    (tmp_path / "config.json").write_text(json.dumps(to_json(Config())))
    with pytest.raises(ConfigError, match="holds a training of a student"):
        RunFolder(tmp_path).holds_run_of(TeacherStageConfig())
    with pytest.raises(ConfigError, match="start it with python -m optical_jax teacher"):
        parse_command(TrainCommand, ["--config", str(ROOT / "configs" / "teacher_afriqa.py")])
    with pytest.raises(ConfigError, match=r"start it with train\.py"):
        parse_command(TeacherCommand, ["--config", str(ROOT / "configs" / "tiny.py")])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--depth", "5", "2"], "depth=5 2 is not valid"),
        (["--negatives", "0"], "negatives=0 is not valid"),
        (["--out", "mined.txt"], "out=mined.txt must end in .tsv"),
    ],
)
def test_wrong_flags_of_mining(wrong, said, folder, capsys):
    judged = ["--train", str(folder / "qrels" / "train.tsv"), "--out", "mined.tsv"]
    assert mine([*judged, *wrong]) == 2
    assert said in capsys.readouterr().err


def test_a_model_mines_over_the_whole_collection(folder, tmp_path, capsys):
    out = tmp_path / "mined.tsv"
    judged = ["--train", str(folder / "qrels" / "train.tsv"), "--collection", str(folder), "--out", str(out)]
    assert mine([*judged, "--by", str(TINY), "--depth", "1", "31", "--negatives", "31"]) == 0
    triples = [line.split("\t") for line in out.read_text().splitlines()]
    # 20 queries, each with all 31 sentences but its own: that one is among the first 31 ranks or is the last.
    assert {len([t for t in triples if t[0] == f"q{n}"]) for n in range(20)} <= {30, 31}
    assert all(negative != relevant for _, relevant, negative in triples)
    assert "negatives for 20 queries, none for 0" in capsys.readouterr().out


def test_the_config_for_afriqa_is_sound():
    validate_teacher(parse_command(TeacherCommand, ["--config", str(ROOT / "configs" / "teacher_afriqa.py")]).settings)
    assert RankingDataConfig().hold_out == 0.1


def test_help_answers_without_jax():
    code = "import sys; from optical_jax.__main__ import main\ntry: main(['mine', '--help'])\nexcept SystemExit: pass\n"
    code += "assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ, cwd=ROOT, stdout=subprocess.DEVNULL)

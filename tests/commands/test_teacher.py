"""The teacher's commands as users meet them, at tiny size: a run that is whole, stopped and gone on with, and used."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from optical_jax import encode, load
from optical_jax.commands.evaluate import main as evaluate
from optical_jax.commands.export import main as export
from optical_jax.commands.mine import main as mine
from optical_jax.commands.settings import TeacherCommand, parse_command
from optical_jax.commands.teacher import main as teacher
from optical_jax.config import Config, RankingDataConfig, StartConfig, TeacherConfig, TeacherStageConfig
from optical_jax.config.validation import validate_teacher
from optical_jax.errors import ConfigError
from optical_jax.params import fingerprint
from optical_jax.training.embeddings import principal_directions
from optical_jax.training.student.start import load_teacher
from optical_jax.training.teacher.start import make_start
from tests import ROOT
from tests.helpers.processes import records
from tests.helpers.trainings import TINY


@pytest.fixture(scope="module")
def folder(teacher_training) -> Path:
    return teacher_training.folder


@pytest.fixture(scope="module")
def flags(teacher_training) -> list[str]:
    return teacher_training.flags


@pytest.fixture
def run(teacher_training, tmp_path) -> Path:
    """To be evaluated and exported."""
    return shutil.copytree(teacher_training.run, tmp_path / "run")


def test_what_a_run_keeps(teacher_training):
    logged = records(teacher_training.run)
    assert {"contrastive", "kl", "first_rank", "grad_norm"} <= set(logged[1])
    kinds = json.loads((teacher_training.run / "env.json").read_text())["inputs"]
    assert {"rankings", "encoder.path"} == set(kinds)
    assert json.loads((teacher_training.run / "rankings.json").read_text())["queries"] == 18


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
    for said in ("retriever (ColBERT)", "a vector of 16 dimensions per token", "### tiny, dev, maxsim", "mined.jsonl"):
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
        (["--data.train", "/no/such.tsv"], 3, "data.train=/no/such.tsv: no such file"),
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


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_of_held_out_queries_that_leaves_none_is_refused(share):
    """All of them held out would leave nothing to train on."""
    cfg = parse_command(TeacherCommand, ["--config", str(ROOT / "configs" / "teacher_afriqa.py")]).settings
    with pytest.raises(ConfigError, match=r"data\.hold_out=.* is not valid; use a share from 0 to below 1"):
        validate_teacher(replace(cfg, data=replace(cfg.data, hold_out=share)))

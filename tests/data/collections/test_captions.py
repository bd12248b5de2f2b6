"""Captions of pictures as a collection of texts, and what eval.py takes a source for."""

import re
from pathlib import Path

import numpy as np
import pytest

from optical_jax.commands.evaluate import main
from optical_jax.data.collections.captions import captions_as_collection
from optical_jax.data.images.sources import is_image_set, read_image_set, read_images
from optical_jax.runs.load import load
from tests.commands.test_evaluate import make_parallel
from tests.evaluation.test_images import read, token_rows
from tests.helpers.image_runs import (
    CAPTIONS,
    ENGLISH,
    NAMES,
    make_set,
    make_student_run,
    make_teacher_run,
    write_captions,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return make_student_run(tmp_path_factory.mktemp("runs") / "b", seed=20)


@pytest.fixture(scope="module")
def teacher_run(tmp_path_factory) -> Path:
    return make_teacher_run(tmp_path_factory.mktemp("runs") / "pair", seed=40)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    return make_set(tmp_path_factory.mktemp("sets") / "drawn")


@pytest.mark.parametrize("how", ["no pictures", "by flag"])
def test_captions_look_for_english_ones(run, drawn, tmp_path, how, capsys):
    folder = drawn if how == "by flag" else write_captions(tmp_path / "drawn")
    flags = ["--against", "captions"] if how == "by flag" else []
    assert main(["--run", str(run), "--collection", str(folder), *flags]) == 0
    figures = read(run / "eval" / "drawn-captions-dev" / "metrics.json")
    assert set(figures["languages"]) == {"sw", "de"}
    assert set(figures["references"]) == {"untrained", "fused", "dictionary", "bm25"}
    asked, answers = (
        token_rows(load(run), [text for _, text, _ in CAPTIONS["sw"]]),
        token_rows(load(run, side="document"), ENGLISH[:6]),
    )
    scores = np.array([[(a @ b.T).max(axis=1).sum() for b in answers] for a in asked])
    first = [NAMES[n] == name for n, (name, _, _) in zip(scores.argmax(axis=1), CAPTIONS["sw"], strict=True)]
    assert figures["languages"]["sw"]["R@1"] == pytest.approx(np.mean(first))
    assert ("text only" in capsys.readouterr().out) == (how == "no pictures")


def test_a_teacher_run_reads_texts_on_both_sides(teacher_run, drawn):
    assert main(["--run", str(teacher_run), "--collection", str(drawn), "--against", "captions", "--lang", "de"]) == 0
    figures = read(teacher_run / "eval" / "drawn-captions-dev" / "metrics.json")
    assert set(figures["references"]) == {"untrained", "bm25"}
    asked, answers = (
        token_rows(load(teacher_run, side=side, part="text"), texts)
        for side, texts in (("query", [text for _, text, _ in CAPTIONS["de"]]), ("document", ENGLISH[:6]))
    )
    scores = np.array([[(a @ b.T).max(axis=1).sum() for b in answers] for a in asked])
    assert figures["languages"]["de"]["R@1"] == pytest.approx(np.mean(scores.argmax(axis=1) == np.arange(6)))


def test_several_english_captions_are_all_right(tmp_path):
    more = {**CAPTIONS, "en": [*CAPTIONS["en"], ("p0", "Again the sun.", "again")]}
    found = read_image_set(str(write_captions(tmp_path / "more", more)), text_only=True)
    collection = captions_as_collection(found, ["sw"])
    assert collection.qrels["p0"] == {"p0#0": 1, "again": 1}
    assert collection.qrels["second"] == {"p1": 1}
    assert list(collection.queries) == ["sw"]
    assert collection.name == "more-captions"


@pytest.mark.parametrize(
    ("captions", "languages", "message"),
    [
        ({"sw": CAPTIONS["sw"]}, [], "no English captions to search; its languages: sw"),
        ({"en": CAPTIONS["en"]}, [], "captions in English only"),
        (CAPTIONS, ["so"], "no captions in so; its languages: de, en, sw"),
        (CAPTIONS, ["en"], "the English captions are what is searched"),
        ({"en": CAPTIONS["en"][:1], "sw": CAPTIONS["sw"][1:]}, [], "no image has captions in English and in sw"),
        (
            {"en": CAPTIONS["en"], "sw": [("p0", "x", "one")], "de": [("p1", "y", "one")]},
            [],
            "caption id 'one' belongs to several images",
        ),
    ],
)
def test_captions_that_are_no_collection(tmp_path, captions, languages, message):
    found = read_image_set(str(write_captions(tmp_path / "set", captions)), text_only=True)
    with pytest.raises(Exception, match=re.escape(message)):
        captions_as_collection(found, languages)


# ---- what a source is ----------------------------------------------------------------------------------------------


def test_what_a_source_is(drawn, tmp_path):
    assert is_image_set(str(drawn))
    assert is_image_set("multi30k:somewhere")
    assert is_image_set(str(write_captions(tmp_path / "text")))
    assert not is_image_set(str(make_parallel(tmp_path / "parallel")))
    assert not is_image_set("miracl/sw:somewhere")
    assert not is_image_set(str(tmp_path / "nowhere"))
    assert list(read_images(str(drawn))) == NAMES
    assert set(read_images(str(drawn / "images.dev"))) == {f"{name}.png" for name in NAMES}

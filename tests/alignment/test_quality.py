"""Plans between words against gold links and the statistical aligner: by hand, and the command from files to table."""

import json
from pathlib import Path

import numpy as np
import pytest

from optical_jax.alignment.gold_links import GoldLinks
from optical_jax.alignment.plans import align_texts, plan_tokens, sum_tokens
from optical_jax.alignment.quality import AlignedPair, AlignmentQuality, alignment_quality
from optical_jax.alignment.statistical_aligner import fit_aligner
from optical_jax.config import LossConfig, OtConfig
from optical_jax.data.text.words import spaced_words
from optical_jax.errors import ConfigError
from optical_jax.ot.plans import PLANS
from tests.alignment.test_plans import ENGLISH, FOREIGN, align, make_run, make_tower

TOWERS = make_tower(0), make_tower(1, side="document")


def matrix(*rows: str) -> np.ndarray:
    return np.array([[cell != "." for cell in row] for row in rows])


def test_tokens_are_summed_into_the_words_that_are_given():
    """[CLS] d ’ ete . [SEP]: as one word and its sign, and as three; what is cut off or has no vector is left out."""
    tower = make_tower(0)
    text = "d\N{RIGHT SINGLE QUOTATION MARK}ete ."
    sums = sum_tokens(tower, text, spaced_words(text), np.ones(6, bool))
    assert [np.flatnonzero(row).tolist() for row in sums] == [[1, 2, 3], [4]]
    sums = sum_tokens(tower, text, [(0, 1), (2, 5)], np.array([1, 1, 1, 0, 1, 1], bool))
    assert [np.flatnonzero(row).tolist() for row in sums] == [[1], []]
    # 16 tokens are [CLS], seven whole words of two pieces, and [SEP].
    text = "mbwa " * 9
    sums = sum_tokens(tower, text, spaced_words(text), np.ones(16, bool))
    assert sums.sum(axis=1).tolist() == [2.0] * 7 + [0.0] * 2
    marked = make_tower(0, query_marker_id=5)
    assert np.flatnonzero(sum_tokens(marked, "mbwa", [(0, 4)], np.ones(5, bool))[0]).tolist() == [2, 3]


@pytest.mark.parametrize("plan", sorted(PLANS))
def test_plans_between_words_are_those_that_align_shows(plan):
    cfg = OtConfig(plan=plan, epsilon=0.1)
    pairs = [(FOREIGN, ENGLISH), ("mbwa", "big dogs")]
    quality = alignment_quality(*TOWERS, pairs, cfg)
    for pair, shown in zip(quality.pairs, align_texts(*TOWERS, pairs, LossConfig("transport", ot=cfg)), strict=True):
        assert (pair.foreign, pair.english) == (shown.foreign, shown.english)
        np.testing.assert_allclose(pair.plan, shown.plan, rtol=1e-6)
        assert pair.gold is pair.aligner is None
    assert quality.figures() == {"pairs": 2, "gold_pairs": 0}
    tokens = plan_tokens(*TOWERS, pairs, cfg)
    moved = tokens.plans.sum(axis=(1, 2))
    if plan == "unbalanced":
        assert (moved < 1.0).all()
    else:
        np.testing.assert_allclose(moved, cfg.partial_mass if plan == "partial" else 1.0, rtol=1e-4)


def test_figures_by_hand():
    """Two pairs, one with gold. Of foreign words the aligner links three, two along the plan's largest cell."""
    plan = np.array([[0.4, 0.1], [0.3, 0.2]])
    gold = GoldLinks(sure=matrix("x.", ".x"), possible=matrix("xx", ".x"))
    one = AlignedPair(("a", "b"), ("c", "d"), plan, matrix("x.", ".."), matrix("x.", ".x"), gold)
    other = AlignedPair(("a",), ("c",), np.array([[0.5]]), matrix("x"), matrix("x"), None)
    quality = AlignmentQuality((one, other), "intersection", OtConfig())
    figures = quality.figures()
    assert (figures["pairs"], figures["gold_pairs"]) == (2, 1)
    assert figures["plan"] == pytest.approx({"AER": 1 - 2 / 3, "precision": 1.0, "recall": 0.5, "F1": 2 / 3})
    assert figures["aligner"]["AER"] == figures["diagonal"]["AER"] == 0.0
    # Links (0, 0) and (1, 0); then (0, 0) and (0, 1)'s columns: (0, 0) and (1, 1), all sure.
    assert figures["rules"]["forward"]["AER"] == pytest.approx(1 - 2 / 4)
    assert figures["rules"]["backward"]["AER"] == 0.0
    assert figures["agreement"] == pytest.approx({"argmax": 2 / 3, "F1": 2 * 2 / (2 + 3)})
    sentence = quality.as_json()["sentences"][0]
    assert (sentence["plan"], sentence["aligner"], sentence["gold"], sentence["possible"]) == (
        "0-0", "0-0 1-1", "0-0 1-1", "1-0",
    )  # fmt: skip


def test_a_tower_that_is_its_own_teacher_aligns_a_text_with_itself():
    """Each token costs nothing to move onto itself and something onto others, so the links are the diagonal."""
    tower = make_tower(0)
    text = "mbwa mkub big dogs"
    links = np.eye(4, dtype=bool)
    gold = [GoldLinks(links, links)]
    found = alignment_quality(tower, tower, [(text, text)], OtConfig(epsilon=0.01, iterations=300), gold=gold)
    assert found.figures()["plan"] == {"AER": 0.0, "precision": 1.0, "recall": 1.0, "F1": 1.0}


def test_what_cannot_be():
    with pytest.raises(ConfigError, match="rule='best' is not valid; use one of forward, "):
        alignment_quality(*TOWERS, [(FOREIGN, ENGLISH)], OtConfig(), rule="best")
    with pytest.raises(ConfigError, match="one vector per text"):
        alignment_quality(make_tower(0, pooling="mean"), TOWERS[1], [(FOREIGN, ENGLISH)], OtConfig())
    assert alignment_quality(*TOWERS, [], OtConfig()).figures() == {"pairs": 0, "gold_pairs": 0}
    signs = alignment_quality(
        *TOWERS, [("!", "dog"), ("mbwa", "dog")], OtConfig(), aligner=fit_aligner([(["mbwa"], ["dog"])])
    )
    assert [pair.links.shape for pair in signs.pairs] == [(0, 1), (1, 1)]


# ---- the command -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "a", LossConfig("transport"))


@pytest.fixture
def files(tmp_path) -> tuple[Path, Path]:
    bitext, gold = tmp_path / "sw.dev.tsv", tmp_path / "sw.dev.gold"
    bitext.write_text("a dog\tmbwa\nbig dog\tmbwa mku\nbig dogs\tmku mbwa\n", "utf-8")
    gold.write_text("0p0 1-0\n0-1 1-0\n0-0 1-1\n", "utf-8")
    return bitext, gold


def test_the_table_and_quality_json(run, files, capsys):
    bitext, gold = files
    assert align("--run", run, "--bitext", bitext, "--gold", gold) == 0
    printed = capsys.readouterr().out
    rows = [line.split() for line in printed.splitlines()]
    assert " ".join(rows[0]) == "lang links of pairs AER precision recall F1 same word same links"
    assert [row[: 3 - (n > 0)] for n, row in enumerate(rows[1:4])] == [
        ["sw", "plan", "3"], ["aligner", "3"], ["diagonal", "3"],
    ]  # fmt: skip
    found = json.loads((run / "align" / "quality.json").read_text("utf-8"))["languages"]["sw"]
    # The diagonal is a possible link of the first pair, none of the second and both of the third: of 5 links 2 are sure
    # and 3 possible, and 5 are sure.
    assert found["diagonal"]["AER"] == pytest.approx(1 - (2 + 3) / (5 + 5))
    assert (found["pairs"], found["gold_pairs"], found["rule"]) == (3, 3, "forward")
    assert [sentence["gold"] for sentence in found["sentences"]] == ["1-0", "0-1 1-0", "0-0 1-1"]
    assert found["sentences"][0]["possible"] == "0-0"
    assert f"written: {run / 'align' / 'quality.json'}" in printed


def test_bitext_without_gold_pairs_epsilon_and_another_language(run, files, tmp_path, capsys):
    out = tmp_path / "q.json"
    flags = ["--bitext", f"so={files[0]}", "--pairs", 2, "--epsilon", 0.2, "--out", out, "--rule", "union"]
    assert align("--run", run, *flags) == 0
    printed = capsys.readouterr().out
    assert "so: the statistical aligner is fitted on these 2 pairs only: the run was not trained on so" in printed
    found = json.loads(out.read_text("utf-8"))["languages"]["so"]
    assert (found["pairs"], found["gold_pairs"], found["ot"]["epsilon"]) == (2, 0, 0.2)
    assert [sentence["english"] for sentence in found["sentences"]] == ["a dog", "big dogs"]
    assert "plan" not in found
    assert 0.0 <= found["agreement"]["argmax"] <= 1.0
    assert found["sentences"][0]["gold"] is None


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["a", "b", "--bitext", "BITEXT"], 2, "use two texts or a bitext"),
        (["--gold", "GOLD", "a", "b"], 2, "add --bitext"),
        (["--bitext", "BITEXT", "--pairs", "0"], 2, "pairs=0 is not valid"),
        (["--bitext", "BITEXT", "--epsilon", "0"], 2, "epsilon=0.0 is not valid"),
        (["--bitext", "BITEXT", "--out", "a.png"], 2, "out=a.png must be a file that ends in .json"),
        (["--bitext", "BITEXT", "BITEXT"], 2, "has sw twice"),
        (["--bitext", "BITEXT", "so=BITEXT", "--gold", "GOLD"], 2, "use sw=FILE"),
        (["--bitext", "BITEXT", "--gold", "sw=GOLD.no"], 3, "no such file"),
        (["--bitext", "BITEXT", "--gold", "GOLD", "--foreign-first"], 3, "sw.dev.gold:1: foreign word 1"),
        (["--bitext", "sw=BITEXT.no"], 3, "no such file"),
        (["--bitext", "GOLD"], 2, "no language"),
        (["--bitext", "sw=GOLD"], 3, "sw.dev.gold:1: no tab"),
    ],
)
def test_wrong_commands(run, files, flags, code, message, capsys):
    bitext, gold = map(str, files)
    words = [flag.replace("BITEXT", bitext).replace("GOLD", gold) for flag in flags]
    assert align("--run", run, *words) == code
    assert message in capsys.readouterr().err

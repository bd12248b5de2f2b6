"""Plans between words: pieces summed by hand, POT's plan, and `align` from texts to terminal and picture."""

import dataclasses
import io
import json
import math
import re
import unicodedata
from pathlib import Path

import jax
import numpy as np
import ot
import pytest
from rich.cells import cell_len
from rich.console import Console

from optical_jax import __main__ as package_main
from optical_jax.alignment.plans import AlignedPlan, IdfTables, align_texts, count_idf, join_signs, read_words
from optical_jax.commands.align import print_plan, split_columns
from optical_jax.config import (
    CheckpointConfig,
    Config,
    DataConfig,
    EncoderConfig,
    HeadConfig,
    LossConfig,
    OtConfig,
    TowerConfig,
    to_json,
)
from optical_jax.data.tokenization import BERT_SPECIALS, _word_piece, _wrap
from optical_jax.errors import ConfigError, DataError
from optical_jax.files import slug
from optical_jax.models.formats.export import save_tower
from optical_jax.models.late_interaction import tower_specs
from optical_jax.params import init_params
from optical_jax.retrieval.scoring import maxsim
from optical_jax.runs.checkpoint import Checkpoints
from optical_jax.runs.load import load
from optical_jax.towers.tower import Tower, encode

PIECES = (
    "mb",
    "##wa",
    "mku",
    "##b",
    "a",
    "big",
    "dog",
    "##s",
    ".",
    "\N{RIGHT SINGLE QUOTATION MARK}",
    "d",
    "ete",
    "उत्तर",
    "वॉ",
    "##न",
    "&",
    "!",
)
FOREIGN, ENGLISH = "mbwa mkubwa", "a big dog"


def make_tower(seed: int, side="query", **head) -> Tower:
    """Random weights on a vocabulary known piece by piece; ids start at 5."""
    tokenizer = _wrap(_word_piece({token: i for i, token in enumerate((*BERT_SPECIALS, *PIECES))}, lowercase=True))
    encoder = EncoderConfig(vocab_size=40, width=16, layers=1, heads=2, mlp_width=32, max_positions=48)
    cfg = TowerConfig(encoder, HeadConfig(**{"projection": 8, "query_length": 16, "document_length": 16} | head))
    return Tower(init_params(tower_specs(cfg), jax.random.key(seed)), cfg, tokenizer, side)


@pytest.fixture(scope="module")
def towers() -> tuple[Tower, Tower]:
    return make_tower(0), make_tower(1, side="document")


# ---- words -------------------------------------------------------------------------------------------------------


def test_pieces_are_summed_into_words(towers):
    """[CLS] mb ##wa mku ##b ##wa [SEP] against [CLS] a big dog [SEP]."""
    (pieces,) = align_texts(*towers, [(FOREIGN, ENGLISH)], LossConfig("transport"), by_pieces=True)
    (words,) = align_texts(*towers, [(FOREIGN, ENGLISH)], LossConfig("transport"))
    assert pieces.foreign == ("[CLS]", "mb", "##wa", "mku", "##b", "##wa", "[SEP]")
    assert pieces.english == ("[CLS]", "a", "big", "dog", "[SEP]")
    assert (words.foreign, words.english) == (("mbwa", "mkubwa"), ("a", "big", "dog"))
    p = pieces.plan
    by_hand = [
        [p[1, n] + p[2, n] for n in (1, 2, 3)],
        [p[3, n] + p[4, n] + p[5, n] for n in (1, 2, 3)],
    ]
    np.testing.assert_allclose(words.plan, by_hand, rtol=1e-6)
    # Of the five sevenths of all mass that the foreign words have, what goes to [CLS] and [SEP] is left out.
    assert words.left_out == pytest.approx(1 - np.sum(by_hand) / (5 / 7), abs=1e-5)
    assert pieces.left_out == pytest.approx(0.0, abs=1e-5)
    assert (pieces.cost, pieces.score) == (words.cost, words.score)
    np.testing.assert_allclose(words.shares().sum(axis=1), 1.0, rtol=1e-6)


def test_shares_by_hand():
    aligned = AlignedPlan(("a", "b"), ("c", "d"), np.array([[0.1, 0.3], [0.0, 0.0]]), 0.0, 0.0, 0.0, False)
    np.testing.assert_allclose(aligned.shares(), [[0.25, 0.75], [0.0, 0.0]])


@pytest.mark.parametrize(
    ("text", "words", "tokens"),
    [
        # Of [CLS] d ’ ete . [SEP] and so on: which tokens make up each word.
        ("d\u2019ete.", ["d\u2019ete."], [[1, 2, 3, 4]]),
        ("dog & dog", ["dog", "&", "dog"], [[1], [2], [3]]),
        ("!dogs a", ["!dogs", "a"], [[1, 2, 3], [4]]),
        ("a.dog", ["a.dog"], [[1, 2, 3]]),
        ("Dog  unknown", ["Dog", "unknown"], [[1], [2]]),
        ("उत्तर वॉन", ["उत्तर", "वॉन"], [[1], [2, 3]]),
    ],
)
def test_words_are_as_the_text_has_them(text, words, tokens):
    found = read_words(make_tower(0), text, by_pieces=False)
    assert list(found.names) == words
    assert [np.flatnonzero(row).tolist() for row in found.sums] == tokens


def test_words_without_spaces_between_stay_apart():
    """As Chinese ones do, which tokenizers part: only signs tie words together."""
    assert join_signs("我你。他", {0: (0, 1), 1: (1, 2), 2: (2, 3), 3: (3, 4)}) == [[0], [1, 2, 3]]
    assert join_signs("我 你", {0: (0, 1), 1: (2, 3)}) == [[0], [1]]


def test_marker_masks_and_augmentation_move_no_word():
    """[CLS] [Q] mb ##wa [SEP], then [MASK]s up to 8, whose vectors take part in the plan."""
    head = {"query_marker_id": 5, "query_length": 8, "augment_queries": True}
    student, teacher = make_tower(0, **head), make_tower(1, **head)
    found = read_words(student, "mbwa", by_pieces=False)
    assert [np.flatnonzero(row).tolist() for row in found.sums] == [[2, 3]]
    (pieces,) = align_texts(student, teacher, [("mbwa", "big dog")], LossConfig("transport"), by_pieces=True)
    assert pieces.foreign == ("[CLS]", "mb", "mb", "##wa", "[SEP]", *["[MASK]"] * 3)
    (words,) = align_texts(student, teacher, [("mbwa", "big dog")], LossConfig("transport"))
    p = pieces.plan
    np.testing.assert_allclose(words.plan, [[p[2, 2] + p[3, 2], p[2, 3] + p[3, 3]]], rtol=1e-6)


def test_tokens_without_a_vector_are_not_shown():
    towers = make_tower(0, special_tokens=False), make_tower(1, special_tokens=False)
    (pieces,) = align_texts(*towers, [(FOREIGN, ENGLISH)], LossConfig("transport"), by_pieces=True)
    assert pieces.english == ("a", "big", "dog")
    (words,) = align_texts(*towers, [(FOREIGN, ENGLISH)], LossConfig("transport"))
    assert words.left_out == pytest.approx(0.0, abs=1e-5)


def test_texts_that_are_cut_say_so(towers):
    one, other = align_texts(*towers, [("mbwa " * 9, ENGLISH), (FOREIGN, ENGLISH)], LossConfig("transport"))
    assert (one.cut, other.cut) == (True, False)
    # 16 tokens are [CLS], seven whole words of two pieces, and [SEP].
    assert len(one.foreign) == 7


def test_impossible_towers_and_texts(towers):
    pooled = make_tower(0, pooling="mean")
    with pytest.raises(ConfigError, match="one vector per text"):
        align_texts(pooled, towers[1], [(FOREIGN, ENGLISH)], LossConfig("transport"))
    with pytest.raises(ConfigError, match="width 4 and teacher vectors of width 8"):
        align_texts(make_tower(0, projection=4), towers[1], [(FOREIGN, ENGLISH)], LossConfig("transport"))
    with pytest.raises(DataError, match="empty"):
        align_texts(*towers, [(" ", ENGLISH)], LossConfig("transport"))
    with pytest.raises(DataError, match="shows nothing"):
        align_texts(*towers, [("\u200b", ENGLISH)], LossConfig("transport"))
    with pytest.raises(DataError, match="has no words"):
        align_texts(*towers, [("\ue000", ENGLISH)], LossConfig("transport"))
    assert align_texts(*towers, [], LossConfig("transport")) == []


# ---- plans -------------------------------------------------------------------------------------------------------

PAIRS = [(FOREIGN, ENGLISH), ("उत्तर", "dog."), ("mbwa mbwa mbwa a", "big dogs")]


def test_plans_are_pots_on_the_same_cost(towers):
    """Each pair alone, without padding, at POT's own convergence; the score is MaxSim with the document's vectors."""
    student, teacher = towers
    cfg = LossConfig("transport", ot=OtConfig(epsilon=0.1, iterations=500))
    found = align_texts(student, teacher, PAIRS, cfg, by_pieces=True)
    for aligned, (foreign, english) in zip(found, PAIRS, strict=True):
        s, t = encode(student, [foreign]), encode(dataclasses.replace(teacher, side="query"), [english])
        cost = 1.0 - np.float64(s.vectors[0]) @ np.float64(t.vectors[0]).T
        S, T = cost.shape
        plan = ot.sinkhorn(np.full(S, 1 / S), np.full(T, 1 / T), cost, 0.1, "sinkhorn_log", 5000, 1e-12)
        np.testing.assert_allclose(aligned.plan, plan, atol=1e-4)
        np.testing.assert_allclose(aligned.plan.sum(axis=1), 1 / S, rtol=1e-5)
        assert aligned.cost == pytest.approx((plan * cost).sum(), abs=1e-4)
        assert aligned.score == pytest.approx(float(maxsim(s, encode(teacher, [english]))[0, 0]), abs=1e-5)


def test_masses_by_inverse_document_frequency(tmp_path, towers):
    """Of 3 pairs "mbwa" stands in 2, so its pieces weigh log(4/3), "mku" log(4/2), what no text has log(4/1)."""
    (tmp_path / "sw.train.tsv").write_text("a dog\tmbwa\nbig dog\tmbwa mku\ndogs\ta\n", "utf-8")
    data = DataConfig(bitext=(str(tmp_path / "sw.train.tsv"),), dev_pairs=0, max_length_ratio=9.0)
    tables = count_idf(*towers, data, (16, 16))
    mb, mku, b = (5 + PIECES.index(piece) for piece in ("mb", "mku", "##b"))
    for piece, holding in ((mb, 2), (mku, 1), (b, 0), (BERT_SPECIALS.index("[CLS]"), 3)):
        assert tables.student[piece] == pytest.approx(math.log(4 / (holding + 1)) + 0.01, rel=1e-5)
    assert tables.teacher[5 + PIECES.index("dog")] == pytest.approx(math.log(4 / 4) + 0.01, rel=1e-5)

    cfg = LossConfig("transport", ot=OtConfig(masses="idf"))
    (aligned,) = align_texts(*towers, [("mbwa mku", "a dog")], cfg, by_pieces=True, idf=tables)
    weights = np.array([0.01, math.log(4 / 3) + 0.01, math.log(4 / 3) + 0.01, math.log(2) + 0.01, 0.01])
    np.testing.assert_allclose(aligned.plan.sum(axis=1), weights / weights.sum(), rtol=1e-4)
    (uniform,) = align_texts(*towers, [("mbwa mku", "a dog")], cfg, by_pieces=True)
    np.testing.assert_allclose(uniform.plan.sum(axis=1), 1 / 5, rtol=1e-4)
    assert isinstance(tables, IdfTables)


# ---- the command -------------------------------------------------------------------------------------------------


def make_run(folder: Path, loss: LossConfig, **head) -> Path:
    """A run as training leaves it, random throughout."""
    (folder.parent / "sw.train.tsv").write_text("a dog\tmbwa\nbig dog\tmbwa mku\ndogs\ta\n", "utf-8")
    for name, seed in (("teacher", 1), ("student", 2)):
        tower = make_tower(seed, **head)
        save_tower(tower.params, tower.cfg, tower.tokenizer, folder / name)
    config = Config(run=str(folder), loss=loss, data=DataConfig(bitext=(str(folder.parent / "sw.train.tsv"),)))
    (folder / "config.json").write_text(json.dumps(to_json(config)), "utf-8")
    with Checkpoints(folder / "checkpoints", CheckpointConfig()) as checkpoints:
        params = make_tower(3, **head).params
        checkpoints.save(7, params, {"count": np.zeros(1)}, data={"next": 0}, config={"seed": 0}, best_metric=None)
        checkpoints.wait()
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "a", LossConfig("transport"))


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    for name in ("COLUMNS", "FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)


def align(*words: object) -> int:
    return package_main.main(["align", *map(str, words)])


def test_the_plan_is_printed_and_drawn(run, capsys):
    assert align("--run", run, FOREIGN, ENGLISH) == 0
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert lines[0].split() == ["a", "big", "dog"]
    (found,) = align_texts(load(run), load(run, side="document"), [(FOREIGN, ENGLISH)], LossConfig("transport"))
    for line, word, shares in zip(lines[1:3], found.foreign, found.shares(), strict=True):
        assert line.split() == [word, *(f"{100 * share:.0f}" if share >= 0.005 else "." for share in shares)]
    assert f"MaxSim {found.score:.3f}, transport cost {found.cost:.3f} (epsilon 0.05)" in printed
    assert "not with this plan" not in printed
    picture = run / "align" / "mbwa-mkubwa--a-big-dog.png"
    assert lines[-1] == f"picture: {picture}"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "\x1b" not in printed


def test_which_student_and_where_to(run, tmp_path, capsys):
    found = {}
    for which in ("last", "7", "untrained"):
        out = tmp_path / f"{which}.png"
        assert align("--run", run, "--checkpoint", which, "--out", out, FOREIGN, ENGLISH) == 0
        assert out.is_file()
        found[which] = capsys.readouterr().out.rsplit("picture:", 1)[0]
    assert found["last"] == found["7"] != found["untrained"]


def test_pieces_devanagari_and_eighty_columns(run, capsys, caplog):
    assert align("--run", run, "--pieces", "उत्तर वॉन", "a big dog " * 3) == 0
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert max(map(cell_len, lines[:-1])) <= 80
    assert "[CLS]" in printed
    # Eleven columns of seven and the rows' names take two blocks; each block names the rows again.
    assert sum(line.split()[:1] == ["##न"] for line in lines) == 2
    (picture,) = (p for p in (run / "align").iterdir() if p.name.startswith("उत्तर"))
    assert picture.name == "उत्तर-वॉन--a-big-dog-a-big-dog-a-big-dog.png"
    assert len(caplog.records) <= 1


def test_another_loss_is_told(tmp_path, capsys):
    run = make_run(tmp_path / "b", LossConfig(name="greedy"))
    assert align("--run", run, FOREIGN, ENGLISH) == 0
    assert "this run was trained with loss greedy, not with this plan\n" in capsys.readouterr().out


def test_idf_masses_are_counted_or_told(tmp_path, capsys):
    run = make_run(tmp_path / "b", LossConfig("transport", ot=OtConfig(masses="idf")))
    assert align("--run", run, FOREIGN, ENGLISH) == 0
    assert "uniform" not in capsys.readouterr().out
    (tmp_path / "sw.train.tsv").unlink()
    assert align("--run", run, FOREIGN, ENGLISH) == 0
    assert re.search(r"masses are uniform here, not idf as in training: .*sw.train.tsv", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--run", "RUN", "--checkpoint", "first", "a", "b"], 2, "checkpoint=first is not valid"),
        (["--run", "RUN", "--checkpoint", "8", "a", "b"], 2, "8"),
        (["--run", "RUN", " ", "b"], 2, "the foreign text is empty"),
        (["--run", "RUN", "--out", "a.jpg", "a", "b"], 2, "out=a.jpg must be a file that ends in .png"),
        (["--run", "RUN/nothing", "a", "b"], 2, "is not a run"),
        (["--run", "RUN", "\u200b", "b"], 2, "the foreign text is empty"),
        (["--run", "RUN", "\ue000", "b"], 3, "knows no word of '\\ue000'"),
        (["--run", "RUN", "--max-unknown", "1", "\ue000", "b"], 3, "has no words for this tokenizer"),
        (["--run", "RUN", "--max-unknown", "2", "a", "b"], 2, "max_unknown=2.0 is not valid"),
        (["--run", "RUN", "--gold-first", "1", "a", "b"], 2, "gold_first=1 is for --gold"),
    ],
)
def test_wrong_commands(run, flags, code, message, capsys):
    assert align(*(flag.replace("RUN", str(run)) for flag in flags)) == code
    assert message in capsys.readouterr().err


def test_pooled_towers_are_refused(tmp_path, capsys):
    run = make_run(tmp_path / "b", LossConfig(name="pooled_cosine"), pooling="mean")
    assert align("--run", run, FOREIGN, ENGLISH) == 2
    assert "pooled towers give one vector per text" in capsys.readouterr().err


# ---- terminal and names ------------------------------------------------------------------------------------------

WIDE = AlignedPlan(
    ("neno", "x" * 60),
    tuple(f"word{n}" for n in range(20)),
    np.eye(2, 20),
    left_out=0.0,
    cost=0.0,
    score=0.0,
    cut=False,
)


def printed(aligned: AlignedPlan, colours="truecolor", **environ: str) -> str:
    console = Console(file=io.StringIO(), force_terminal=True, width=80, color_system=colours, _environ=environ)
    print_plan(aligned, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_cells_are_coloured_unless_the_user_wants_none():
    """SGR 48;2 sets a background in 24-bit colour; a whole share is the darkest."""
    assert "48;2;11;47;94m" in printed(WIDE)
    plain = printed(WIDE, NO_COLOR="1")
    assert not re.search(r"\x1b\[[0-9;]*[34]8;", plain)
    assert "100" in plain
    assert not re.search(r"\x1b\[[0-9;]*4[0-9]m", printed(WIDE, "standard"))


def test_wide_plans_are_wrapped_and_no_line_is_wider_than_the_terminal():
    lines = re.sub(r"\x1b\[[0-9;]*m", "", printed(WIDE)).splitlines()
    assert max(map(cell_len, lines)) <= 80
    words = [word for line in lines for word in line.split() if word.startswith("word")]
    assert words == list(WIDE.english)
    assert sum(line.split()[:1] == ["neno"] for line in lines) == lines.count("") + 1 > 1


def test_columns_by_block():
    assert split_columns([4, 4, 4], 8) == [[0, 1], [2]]
    assert split_columns([9, 1], 8) == [[0], [1]]
    assert split_columns([], 8) == []


def test_file_names_keep_letters_of_every_script_and_stay_short():
    assert slug("mbwa  mkubwa!") == "mbwa-mkubwa"
    assert slug("../a/b") == "a-b"
    assert slug("उत्तर कोरियन") == "उत्तर-कोरियन"
    assert slug(unicodedata.normalize("NFD", "été")) == "été"
    long, other = slug("ភាសា" * 50), slug("ភាសា" * 51)
    assert long != other
    assert len(f"{long}--{other}.png.new".encode()) <= 255
    assert re.fullmatch("[0-9a-f]{8}", slug("?!"))

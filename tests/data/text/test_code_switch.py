"""Lexicons from plans and from files, and the texts they switch."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from optical_jax.alignment.lexicon import best_translations, between_words, lexicon_of_plans, read_words
from optical_jax.config import (
    Config,
    DataConfig,
    EncoderConfig,
    HeadConfig,
    OtConfig,
    StudentConfig,
    TeacherConfig,
    TowerConfig,
)
from optical_jax.config.validation import validate
from optical_jax.data.text.bitext import Bitext
from optical_jax.data.text.code_switch import (
    Entry,
    bare_words,
    read_lexicon,
    read_lexicons,
    share_of_words,
    switch_words,
    switched,
    write_lexicon,
)
from optical_jax.data.text.report import BitextReport
from optical_jax.data.tokenization import train_vocabulary
from optical_jax.errors import ConfigError, DataError
from optical_jax.models.late_interaction import tower_specs
from optical_jax.params import init_params
from optical_jax.towers.tower import Tower
from optical_jax.training.student.start import texts_to_read

LEXICON = {"maji": Entry("water", 0.75, 4), "samaki": Entry("fish", 0.5, 6)}


# ---- words -------------------------------------------------------------------------------------------------------


def test_words_stand_between_spaces_without_the_signs_at_their_edges():
    text = "«Maji», ng'ombe\u200b(2) -- d\u2019été!"
    assert [text[a:b] for a, b in bare_words(text)] == ["Maji", "ng'ombe", "2", "d\u2019été"]


def test_switching_keeps_signs_and_spaces_and_what_is_unknown():
    rng = np.random.default_rng(0)
    assert switch_words("Maji,  na (SAMAKI)!", LEXICON, 1.0, rng) == "water,  na (fish)!"
    assert switch_words("Maji,  na (SAMAKI)!", LEXICON, 0.0, rng) == "Maji,  na (SAMAKI)!"
    assert switch_words("mtoto", LEXICON, 1.0, rng) == "mtoto"


@pytest.mark.parametrize(
    ("in_the_file", "in_the_text"),
    [
        ("می\u200cروم", "میروم"),
        ("میروم", "می\u200cروم"),
        ("wa\u00adtoto", "watoto"),
        ("ng'ombe", "Ng\u02bcombe"),
        ("ng\u2019ombe", "ng'ombe"),
        ("كتب", "\u200fكتـب\u200f"),
    ],
)
def test_a_lexicon_has_a_word_with_and_without_joiners(tmp_path, in_the_file, in_the_text):
    path = tmp_path / "lexicon.xx.tsv"
    path.write_text(f"{in_the_file}\tfound\n", "utf-8")
    lexicon = read_lexicon(path)
    assert switch_words(f"({in_the_text})", lexicon, 1.0, np.random.default_rng(0)).strip("()\u200f") == "found"
    assert share_of_words([in_the_text], lexicon) == 1.0


def test_a_word_of_joiners_alone_is_not_a_word(tmp_path):
    assert list(bare_words("\u200f \u200c\u00ad (\ufeff)")) == []
    path = tmp_path / "lexicon.xx.tsv"
    path.write_text("\u200d\tfound\n", "utf-8")
    with pytest.raises(DataError, match=r"lexicon.xx.tsv:1 is not a word"):
        read_lexicon(path)


def made_bitext(texts: list[str]) -> Bitext:
    return Bitext("sw", ["the water"] * len(texts), texts, BitextReport("sw", []), (), [""] * len(texts))


def test_versions_differ_and_repeat_and_switch_their_share():
    bitext = made_bitext(["maji maji maji na samaki"] * 500)
    first, again, other = (switched(bitext, LEXICON, 0.3, 7, version).foreign for version in (0, 0, 1))
    assert first == again
    assert first != other
    words = " ".join(first).split()
    share = sum(word in ("water", "fish") for word in words) / (4 * 500)
    assert share == pytest.approx(0.3, abs=0.04)  # four standard deviations of 2000 draws
    assert switched(bitext, LEXICON, 0.3, 8, 0).foreign != first
    assert share_of_words(bitext.foreign, LEXICON) == pytest.approx(4 / 5)


def test_the_vocabulary_reads_the_share_of_english():
    """Foreign texts, and a fifth as many English ones, spread over the bitext."""
    bitext = replace(made_bitext([f"f{n}" for n in range(10)]), english=[f"e{n}" for n in range(10)])
    assert texts_to_read(bitext, 0.2) == [*bitext.foreign, "e0", "e5"]
    assert texts_to_read(bitext, 0.0) == bitext.foreign


# ---- files -------------------------------------------------------------------------------------------------------


def test_a_lexicon_comes_back_from_its_file(tmp_path):
    path = tmp_path / "lexicon.sw.tsv"
    write_lexicon(path, LEXICON)
    assert path.read_text("utf-8") == "maji\twater\t0.750\t4\nsamaki\tfish\t0.500\t6\n"
    assert read_lexicon(path) == LEXICON


def test_a_lexicon_by_hand(tmp_path):
    """Words and translations are enough; of two lines for a word the first counts."""
    path = tmp_path / "own.tsv"
    path.write_text("Maji\twater\n\nbei ya\tprice of\nmaji\tsea\n", "utf-8")
    assert read_lexicons([f"sw={path}"], ["sw"]) == {"sw": {"maji": Entry("water"), "bei ya": Entry("price of")}}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("maji water\n", r"own.tsv:1 is not a word and its English with a tab"),
        ("maji\twater\nsamaki\t\n", r"own.tsv:2 is not a word and its English"),
        ("maji\twater\tmuch\n", r"own.tsv:1: 'much' is not share and count"),
        ("\n", r"own.tsv: the lexicon is empty"),
    ],
)
def test_a_broken_lexicon_is_told_by_file_and_line(tmp_path, content, told):
    path = tmp_path / "own.tsv"
    path.write_text(content, "utf-8")
    with pytest.raises(DataError, match=told):
        read_lexicon(path)


def test_every_language_has_one_lexicon(tmp_path):
    path = tmp_path / "own.tsv"
    path.write_text("maji\twater\n", "utf-8")
    for entries, languages, told in (
        ([f"sw={path}"], ["so"], "no bitext of sw; available: so"),
        ([f"sw={path}"], ["sw", "so"], "none for so"),
        ([f"sw={path}", f"sw={path}"], ["sw"], "one file"),
    ):
        with pytest.raises(ConfigError, match=told):
            read_lexicons(entries, languages)


# ---- plans -------------------------------------------------------------------------------------------------------


def test_best_translations_by_hand():
    """Word 0 occurs three times, with masses 1, 0.5 and 0.9 on its translation; word 1 twice, in halves."""
    rows, columns = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1]), np.array([0, 0, 1, 0, 1, 0, 1, 0, 1])
    masses = np.array([1.0, 0.5, 0.5, 0.9, 0.1, 0.5, 0.5, 0.4, 0.6])
    numbers = {"maji": 0, "na": 1}, {"water": 0, "the": 1}
    found = best_translations(numbers, rows, columns, masses, 3, 0.3)
    assert found.keys() == {"maji"}
    assert found["maji"] == ("water", pytest.approx(2.4 / 3), 3)
    assert best_translations(numbers, rows, columns, masses, 1, 0.55)["na"] == ("the", pytest.approx(1.1 / 2), 2)
    assert not best_translations(numbers, rows, columns, masses, 1, 0.9)


WORDS = ["maji", "samaki", "kitabu", "mtoto", "mkate", "soko"]


@pytest.fixture(scope="module")
def tower() -> Tower:
    """Without layers that mix: a token's vector is that of its own embedding, whatever stands beside it."""
    tokenizer = train_vocabulary([" ".join(WORDS)] * 20, vocab_size=120)
    tokenizer.add_tokens(["[Q]"], special_tokens=True)
    marker = tokenizer.convert_tokens_to_ids("[Q]")
    encoder = EncoderConfig(vocab_size=len(tokenizer), width=32, layers=1, heads=2, mlp_width=8, max_positions=40)
    cfg = TowerConfig(encoder, HeadConfig(query_marker_id=marker, document_length=40))
    params = jax.device_get(init_params(tower_specs(cfg), jax.random.key(0)))
    params["encoder"]["layers"] = jax.tree.map(np.zeros_like, params["encoder"]["layers"])
    for name in ("attention", "mlp"):
        params["encoder"]["layers"][name]["norm"]["scale"] = np.ones((1, 32), np.float32)
    word = params["encoder"]["embeddings"]["word"]
    word["embedding"] = 50.0 * word["embedding"]
    return Tower(params, cfg, tokenizer)


@pytest.mark.parametrize("side", ["query", "document"])
def test_tokens_belong_to_their_words(tower, side):
    """The marker of a query stands behind [CLS]; [CLS], [SEP], the marker and signs are of no word."""
    (found,) = read_words(tower.replace(side=side), ["maji, xy!"], 40)
    pieces = tower.tokenizer.convert_ids_to_tokens(found.tokens.ids.tolist())
    assert found.words == ["maji", "xy"]
    assert len(found.word_of) == len(pieces)
    assert pieces[:2] == ["[CLS]", "[Q]"] if side == "query" else pieces[1] == "maji"
    for piece, word in zip(pieces, found.word_of.tolist(), strict=True):
        assert word == {"[CLS]": -1, "[Q]": -1, "[SEP]": -1, "maji": 0}.get(piece, word)
    assert found.word_of.tolist()[1 + (side == "query")] == 0
    assert found.word_of[-1] == -1


def test_mass_between_words_by_hand(tower):
    first, second = read_words(tower.replace(side="document"), ["maji samaki", "kitabu"], 40)
    S, T = len(first.word_of), len(second.word_of)
    plan = np.arange(S * (T + 2), dtype=np.float64).reshape(S, T + 2)
    expected = [
        [sum(plan[s, t] for s in range(S) for t in range(T) if first.word_of[s] == w and second.word_of[t] == 0)]
        for w in (0, 1)
    ]
    np.testing.assert_allclose(between_words(plan, first, second), expected)


@pytest.mark.parametrize("side", ["query", "document"])
def test_a_tower_against_itself_finds_each_word_itself(tower, side):
    """One word a text is unknown by place: the other side has the words in another order."""
    rng = np.random.default_rng(3)
    orders = [rng.permutation(6)[:4] for _ in range(70)]
    texts = [" ".join(WORDS[n] for n in order) for order in orders]
    shuffled = [" ".join(WORDS[n] for n in rng.permutation(order)) for order in orders]
    tower = tower.replace(side=side)
    found = lexicon_of_plans(tower, tower, texts, shuffled, OtConfig(epsilon=0.01), (40, 40))
    assert {word: entry.english for word, entry in found.items()} == {word: word for word in WORDS}
    counts = {word: sum(word in text.split() for text in texts) for word in WORDS}
    assert {word: entry.count for word, entry in found.items()} == counts
    assert not lexicon_of_plans(tower, tower, texts, shuffled, OtConfig(epsilon=0.01), (40, 40), min_count=71)


# ---- settings ----------------------------------------------------------------------------------------------------


def settings(student: StudentConfig | None = None, **data) -> Config:
    student = student or StudentConfig(vocabulary="train", new_embeddings="lexicon")
    return Config(run="r", teacher=TeacherConfig(path="t"), student=student, data=DataConfig(bitext=("sw=x",), **data))


@pytest.mark.parametrize(
    ("cfg", "told"),
    [
        (settings(code_switch=1.5), "data.code_switch=1.5 is not valid"),
        (settings(lexicon=("sw=y",)), "data.lexicon is for data.code_switch, which is 0"),
        (
            settings(StudentConfig(vocabulary="train"), code_switch=0.2),
            "are meaningless with student.new_embeddings='random'",
        ),
        (settings(StudentConfig(head="drawn"), code_switch=0.2), "are meaningless with student.head='drawn'"),
        (settings(StudentConfig(freeze_layers=-1)), "student.freeze_layers=-1 is not valid"),
    ],
)
def test_settings_that_cannot_be(cfg, told):
    with pytest.raises(ConfigError, match=told):
        validate(cfg)


def test_settings_that_can_be():
    validate(settings(code_switch=0.2))
    validate(settings(StudentConfig(vocabulary="train"), code_switch=0.2, lexicon=("sw=y",)))

"""Gold files, rules for links and their figures: by hand, and against the rules' own words on small matrices."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optical_jax.alignment.gold_links import GoldLinks, read_gold
from optical_jax.alignment.links import (
    RULES,
    SYMMETRISED,
    LinkCounts,
    best_per_row,
    count_links,
    diagonal_links,
    to_pharaoh,
    total,
)
from optical_jax.config import DataConfig
from optical_jax.data.text.formats import read_lines
from optical_jax.data.text.words import spaced_words, split_words
from optical_jax.errors import DataError
from optical_jax.evaluation.word_alignment import read_pairs, sources_of
from tests import ROOT

OWN = ROOT / "configs" / "alignment"


def matrix(*rows: str) -> np.ndarray:
    return np.array([[cell != "." for cell in row] for row in rows])


# ---- gold files --------------------------------------------------------------------------------------------------


def gold_of(tmp_path, text, lengths, **flags) -> list[GoldLinks | None]:
    path = tmp_path / "a.gold"
    path.write_text(text, "utf-8")
    return read_gold(path, lengths, **flags)


def test_pharaoh_links_are_english_first_from_0(tmp_path):
    """Two foreign words and three English ones; an empty line is a pair without links."""
    one, two = gold_of(tmp_path, "0-0 2-1 1p0 2?0\n\n", [(2, 3), (1, 1)])
    np.testing.assert_array_equal(one.sure, matrix("x..", "..x"))
    np.testing.assert_array_equal(one.possible, matrix("xxx", "..x"))
    assert not two.possible.any()
    (turned,) = gold_of(tmp_path, "0-0 1-2 0p1 0?2\n", [(2, 3)], foreign_first=True)
    np.testing.assert_array_equal(turned.sure, one.sure)
    np.testing.assert_array_equal(turned.possible, one.possible)


def test_naacl_links_are_counted_from_1(tmp_path):
    """The third pair is not named, so it has no gold; word 0 is the empty word; a link without a letter is sure."""
    text = "0001 1 1 S\n0001 3 2\n0001 2 1 P\n0001 3 1 P 0.5\n\n0002 0 1 S\n"
    one, two, three = gold_of(tmp_path, text, [(2, 3), (1, 1), (4, 4)])
    np.testing.assert_array_equal(one.sure, matrix("x..", "..x"))
    np.testing.assert_array_equal(one.possible, matrix("xxx", "..x"))
    assert not two.possible.any()
    assert three is None


def test_a_possible_link_that_is_sure_too_stays_sure(tmp_path):
    (gold,) = gold_of(tmp_path, "1 1 1 S\n1 1 1 P\n", [(1, 1)])
    assert gold.sure[0, 0]
    (gold,) = gold_of(tmp_path, "0-0 0p0\n", [(1, 1)])
    assert gold.sure[0, 0]


@pytest.mark.parametrize(
    ("text", "lengths", "message"),
    [
        # One word behind the last English or foreign one, and no 0 anywhere.
        ("1-1 2-2 3-2\n1-1\n", [(2, 3), (1, 1)], r"a.gold:1: link 2-2 .*--gold-first 1"),
        ("1-1\n1p2 2?2\n", [(4, 4), (2, 3)], r"a.gold:2: link 1-2 .*--gold-first 1"),
        # Word 0 is the empty word in NAACL files, which is linked to no empty word.
        ("1 1 1 S\n2 0 0 S\n", [(2, 3), (1, 1)], r"a.gold:2: a link from word 0 to word 0.*--gold-first 0"),
        ("2 0 0 P\n", [(2, 3), (1, 1)], r"a.gold:1: a link from word 0 to word 0.*--gold-first 0"),
    ],
)
def test_gold_that_counts_from_another_number_names_the_flag(tmp_path, text, lengths, message):
    with pytest.raises(DataError, match=message):
        gold_of(tmp_path, text, lengths)


def test_gold_without_a_word_0_is_warned_of_and_read_as_from_0(tmp_path):
    warnings = []
    (gold,) = gold_of(tmp_path, "1-1 2p1\n", [(2, 3)], say=warnings.append)
    np.testing.assert_array_equal(gold.sure, matrix("...", ".x."))
    np.testing.assert_array_equal(gold.possible, matrix("...", ".xx"))
    assert "--gold-first 1" in warnings[0]
    for text, flags in (("0-1\n", {}), ("1-1\n", {"first_word": 0}), ("1 1 1 S\n", {}), ("1 2 1\n", {"first_word": 1})):
        gold_of(tmp_path, text, [(2, 3)], say=warnings.append, **flags)
    assert len(warnings) == 1


def test_gold_is_counted_from_what_the_flag_names(tmp_path):
    """The same links, English first, counted from 1 in Pharaoh and from 0 in NAACL."""
    (pharaoh,) = gold_of(tmp_path, "1-1 3-2 2p1\n", [(2, 3)], first_word=1)
    (naacl,) = gold_of(tmp_path, "1 0 0 S\n1 2 1\n1 1 0 P\n", [(2, 3)], first_word=0)
    for gold in (pharaoh, naacl):
        np.testing.assert_array_equal(gold.sure, matrix("x..", "..x"))
        np.testing.assert_array_equal(gold.possible, matrix("xx.", "..x"))
    (turned,) = gold_of(tmp_path, "2-3\n", [(2, 3)], first_word=1, foreign_first=True)
    np.testing.assert_array_equal(turned.sure, matrix("...", "..x"))
    with pytest.raises(DataError, match=r"a.gold:1: a link to word 0 .*--gold-first 0"):
        gold_of(tmp_path, "1-0\n", [(2, 3)], first_word=1)
    with pytest.raises(DataError, match=r"foreign word 3 \(from 1\) of 2"):
        gold_of(tmp_path, "1-3\n", [(2, 3)], first_word=1)


def test_tokens_of_gold_keep_spaces_that_are_not_ascii(tmp_path):
    """Three tokens each, with links on the diagonal, though two have spaces within."""
    bitext, gold = tmp_path / "pt.tsv", tmp_path / "pt.gold"
    bitext.write_text("run 1,500 metres\tcorrer 1\u00a0500 metros\u202f!\nyes sir\t\u3000 sim\u0085senhor\n", "utf-8")
    gold.write_text("0-0 1-1 2-2\n0-0 1-1\n", "utf-8")
    ((source, path),) = sources_of([f"pt={bitext}"], [str(gold)]).values()
    texts, links = read_pairs(source, path, 10, foreign_first=False)
    assert [[foreign[a:b] for a, b in spaced_words(foreign)] for foreign, _ in texts] == [
        ["correr", "1\u00a0500", "metros\u202f!"],
        ["\u3000", "sim\u0085senhor"],
    ]
    for found in links:
        np.testing.assert_array_equal(found.sure, diagonal_links(*found.sure.shape))
        np.testing.assert_array_equal(found.sure, np.eye(len(found.sure), dtype=bool))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0-0\n", "1 lines for a bitext of 2"),
        ("0-0\n0:0\n", r"a.gold:2: '0:0' is not a link"),
        ("0-0\n0-1\n", r"a.gold:2: foreign word 1 \(from 0\) of 1"),
        ("3-0\n0-0\n", r"a.gold:1: English word 3 \(from 0\) of 3"),
        ("1 1 1 S\n3 1 1 S\n", r"a.gold:2: sentence 3 of a bitext of 2"),
        ("0 1 1 S\n", "sentence 0 of a bitext of 2"),
        ("1 1 1 S\n1 1 S\n", r"a.gold:2: '1 1 S' is not a link"),
        ("a b\n", "is not a link"),
        ("0-" + "1" * 5000 + "\n0-0\n", "is not a link"),
        ("1 1 " + "1" * 5000 + "\n", "is not a link"),
        ("\n\n", "no link in 2 lines"),
        ("", "empty file"),
    ],
)
def test_broken_gold_is_refused_by_file_and_line(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        gold_of(tmp_path, text, [(2, 3), (1, 1)])


def test_a_missing_gold_file(tmp_path):
    with pytest.raises(DataError, match="no such file of gold links"):
        read_gold(tmp_path / "a.gold", [])


@pytest.mark.parametrize("language", ["sw", "fr", "de"])
def test_the_gold_that_comes_with_the_repository(language):
    """Every word is linked, and words are the same by spaces and by signs, so that counting sees them alike."""
    source, gold = sources_of([str(OWN / f"{language}.dev.tsv")], [str(OWN / f"{language}.dev.gold")])[language]
    texts = [(line.foreign, line.english) for line in read_lines(source, DataConfig())]
    assert len(texts) >= 20
    for pair in texts:
        assert [spaced_words(text) for text in pair] == [split_words(text) for text in pair]
    links = read_gold(gold, [(len(f.split()), len(e.split())) for f, e in texts])
    for pair, found in zip(texts, links, strict=True):
        assert found.sure.any(), pair
        assert found.possible.any(axis=1).all(), pair
        assert found.possible.any(axis=0).all(), pair


# ---- rules -------------------------------------------------------------------------------------------------------

# Forward: foreign 0 -> English 0, 1 -> 1, 2 -> 1. Backward: English 0 -> foreign 0, 1 -> 1, 2 -> 1.
PLAN = np.array([[0.30, 0.02, 0.01], [0.04, 0.25, 0.08], [0.05, 0.20, 0.05]])


@pytest.mark.parametrize(
    ("rule", "links"),
    [
        ("forward", ("x..", ".x.", ".x.")),
        ("backward", ("x..", ".xx", "...")),
        ("intersection", ("x..", ".x.", "...")),
        ("union", ("x..", ".xx", ".x.")),
        ("grow-diag", ("x..", ".xx", ".x.")),
        ("grow-diag-final-and", ("x..", ".xx", ".x.")),
        # Both shares: row 0 .91/.77; row 1 .68/.53, its last .22/.57; row 2 .67/.43, its first .17, its last .17.
        ("share", ("x..", ".x.", ".x.")),
    ],
)
def test_rules_by_hand(rule, links):
    np.testing.assert_array_equal(RULES[rule](PLAN), matrix(*links))


def test_growing_needs_a_neighbour_and_a_word_without_a_link():
    """Forward links only, far from the one of both: at a corner, next to nothing, and between words that have links."""
    backward = matrix("x....", ".....", ".....", ".....", "....x")
    forward = matrix("x....", ".x...", ".....", "...x.", "x...x")
    # (1, 1) touches (0, 0) by a corner, and (3, 3) touches (4, 4); (4, 0) joins two words that have links.
    grown = matrix("x....", ".x...", ".....", "...x.", "....x")
    np.testing.assert_array_equal(SYMMETRISED["grow-diag"](forward, backward), grown)
    np.testing.assert_array_equal(SYMMETRISED["grow-diag-final-and"](forward, backward), grown)


def test_final_and_links_what_has_no_link_on_either_side():
    forward = matrix("x....", "...x.", "..x..")
    backward = matrix("x....", "....x", ".....")
    # Nothing touches (0, 0). Backward comes first: (1, 4); then (1, 3) has a linked word, and (2, 2) has none.
    np.testing.assert_array_equal(SYMMETRISED["grow-diag"](forward, backward), matrix("x....", ".....", "....."))
    expected = matrix("x....", "....x", "..x..")
    np.testing.assert_array_equal(SYMMETRISED["grow-diag-final-and"](forward, backward), expected)


def test_words_without_mass_have_no_link_and_of_equal_ones_the_first_has():
    mass = np.array([[0.0, 0.0], [0.5, 0.5]])
    np.testing.assert_array_equal(best_per_row(mass), matrix("..", "x."))
    for rule in RULES.values():
        assert not rule(np.zeros((2, 3))).any()
        assert rule(np.zeros((0, 3))).shape == (0, 3)
        assert rule(np.zeros((2, 0))).shape == (2, 0)


@st.composite
def plans(draw) -> np.ndarray:
    S, T = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return rng.integers(0, 4, (S, T)) / 10


@given(plans())
def test_rules_lie_between_intersection_and_union(plan):
    found = {name: rule(plan) for name, rule in RULES.items()}
    order = ["intersection", "grow-diag", "grow-diag-final-and", "union"]
    for less, more in itertools.pairwise(order):
        assert (found[less] <= found[more]).all()
    np.testing.assert_array_equal(found["intersection"], found["forward"] & found["backward"])
    assert (found["forward"].sum(axis=1) == plan.any(axis=1)).all()
    assert (found["intersection"].sum(axis=0) <= 1).all()
    np.testing.assert_array_equal(RULES["backward"](plan), RULES["forward"](plan.T).T)
    # What final-and leaves out of either direction has a linked word.
    left = found["union"] & ~found["grow-diag-final-and"]
    linked = found["grow-diag-final-and"]
    assert (linked.any(axis=1)[:, None] | linked.any(axis=0))[left].all()


def test_diagonals():
    np.testing.assert_array_equal(diagonal_links(3, 3), np.eye(3, dtype=bool))
    np.testing.assert_array_equal(diagonal_links(2, 6), matrix(".x....", "....x."))
    assert diagonal_links(0, 2).shape == (0, 2)


# ---- figures -----------------------------------------------------------------------------------------------------


def test_figures_by_hand():
    """Three links, one sure, one possible, one wrong; of three sure ones two are missed."""
    gold = GoldLinks(matrix("x..", ".x.", "..x"), matrix("xx.", ".x.", "..x"))
    counts = count_links(matrix("xx.", "...", "x.."), gold)
    assert counts == LinkCounts(links=3, sure=3, in_sure=1, in_possible=2)
    figures = counts.figures()
    assert figures["AER"] == pytest.approx(1 - 3 / 6)
    assert (figures["precision"], figures["recall"]) == pytest.approx((2 / 3, 1 / 3))
    assert figures["F1"] == pytest.approx(4 / 9)
    # Counts are added, not figures: 3 + 1 links of which 2 + 1 are possible.
    assert total([counts, LinkCounts(1, 1, 1, 1)]).figures()["precision"] == pytest.approx(3 / 4)


def test_figures_of_gold_itself_and_of_nothing():
    gold = GoldLinks(matrix("x.", ".."), matrix("xx", ".."))
    for links in (gold.sure, gold.possible):
        assert count_links(links, gold).figures()["AER"] == 0.0
    assert count_links(matrix("..", ".."), gold).figures() == {"AER": 1.0, "precision": 0.0, "recall": 0.0, "F1": 0.0}
    assert set(total([]).figures().values()) == {0.0}


def test_links_are_written_as_they_are_read(tmp_path):
    links = matrix(".x.", "x.x")
    assert to_pharaoh(links) == "0-1 1-0 2-1"
    (gold,) = gold_of(tmp_path, to_pharaoh(links) + "\n", [links.shape])
    np.testing.assert_array_equal(gold.sure, links)

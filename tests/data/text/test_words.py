"""Words of texts as they are written, by hand in several scripts."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optical_jax.data.characters import APOSTROPHES, JOINERS, is_blank
from optical_jax.data.text.folding import word_key, words
from optical_jax.data.text.words import spaced_words, split_words

ZWNJ, ZWJ, SOFT_HYPHEN, WORD_JOINER, CGJ, BOM = "\u200c\u200d\u00ad\u2060\u034f\ufeff"
TATWEEL, MARK, SELECTOR = "\u0640\u200f\ufe0f"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Ng'ombe, mbuzi (2)!", ["Ng'ombe", "mbuzi", "2"]),
        ("l\N{RIGHT SINGLE QUOTATION MARK}eau 'hier'", ["l\N{RIGHT SINGLE QUOTATION MARK}eau", "hier"]),
        ("well-known, 3.5", ["well", "known", "3", "5"]),
        ("उत्तर कोरियन।", ["उत्तर", "कोरियन"]),
        ("我吃 rice。", ["我", "吃", "rice"]),
        ("क्\u200dष, a\u200bb", ["क्\u200dष", "a", "b"]),
        ("?!", []),
        # What is not drawn is within a word, never at its ends, and never a word by itself.
        (f"week{SOFT_HYPHEN}end, co{WORD_JOINER}op", [f"week{SOFT_HYPHEN}end", f"co{WORD_JOINER}op"]),
        (f"{BOM}{MARK}می{ZWNJ}خورم{ZWNJ} {ZWJ} در", [f"می{ZWNJ}خورم", "در"]),
        (f"\U0001f469{ZWJ}\U0001f4bb 3{SELECTOR}!", ["3"]),
        ("葛\U000e0100城", ["葛", "城"]),
        (f"don{ZWJ}'t", [f"don{ZWJ}'t"]),
        # Okina and saltillo as an apostrophe, between letters only.
        ("Hawai\u02bbi, \u02bbike", ["Hawai\u02bbi", "ike"]),
    ],
)
def test_words_without_their_signs(text, words):
    assert [text[a:b] for a, b in split_words(text)] == words


def test_tokenised_texts_keep_their_words():
    text = " don 't  stop ."
    assert [text[a:b] for a, b in spaced_words(text)] == ["don", "'t", "stop", "."]


@pytest.mark.parametrize(
    "space", ["\u00a0", "\u202f", "\u2028", "\u3000", "\u0085", "\u2009", "\u200b", "\x0b", "\x1c"]
)
def test_only_the_ascii_space_and_the_tab_part_tokens(space):
    text = f"um{space}1{space}500 metros\tmais"
    assert [text[a:b] for a, b in spaced_words(text)] == [f"um{space}1{space}500", "metros", "mais"]


# ---- keys --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"نمی{ZWNJ}روم کتب{ZWNJ}شد", ["نمیروم", "کتبشد"]),
        (f"ක්{ZWJ}රීඩා", ["ක්රීඩා"]),
        (f"Schiff{SOFT_HYPHEN}fahrt co{WORD_JOINER}op zero{BOM}width", ["schifffahrt", "coop", "zerowidth"]),
        # A grapheme joiner that keeps letter and accent apart does not keep the word from its composed form.
        (f"cafe{CGJ}\u0301", ["café"]),
        (f"كت{TATWEEL}{TATWEEL}ب {TATWEEL} {MARK}قلم{MARK}", ["كتب", "قلم"]),
        (f"葛\U000e0100城 a{SELECTOR}b", ["葛城", "ab"]),
        # The zero-width space separates words, as do all other spaces and controls.
        ("ភាសា\u200bខ្មែរ", ["ភាសា", "ខ្មែរ"]),
        ("12\u00a0000\u2028a\u202fb\x1fc", ["12", "000", "a", "b", "c"]),
        (f"{ZWNJ}{SOFT_HYPHEN} {TATWEEL}", []),
    ],
)
def test_search_words_have_no_joiners(text, expected):
    assert words(text) == expected


@pytest.mark.parametrize("apostrophe", sorted(APOSTROPHES))
def test_an_apostrophe_parts_search_words_in_whatever_form_it_is_written(apostrophe):
    assert words(f"Ng{apostrophe}ombe l{apostrophe}avion") == ["ng", "ombe", "l", "avion"]
    assert word_key(f"Ng{apostrophe}ombe") == "ng'ombe"
    text = f"ng{apostrophe}ombe {apostrophe}mbuzi{apostrophe}"
    assert [text[a:b] for a, b in split_words(text)] == [f"ng{apostrophe}ombe", "mbuzi"]


@settings(max_examples=100)
@given(st.lists(st.sampled_from(["ab", "é", "क्ष", "می", "1", *sorted(JOINERS)[:30]]), max_size=6))
def test_joiners_anywhere_in_a_word_change_no_key(parts):
    word = "".join(part for part in parts if part not in JOINERS)
    written = "".join(parts)
    assert words(written) == words(word)
    assert word_key(written) == word_key(word)
    assert len(split_words(f"x{written}x")) == 1


def test_a_text_that_shows_nothing_is_blank():
    assert is_blank("")
    assert is_blank(f" {ZWNJ}\u200b\x01{BOM}{SELECTOR}\u3164\u2028")
    assert not is_blank(f"{ZWNJ}.")
    assert not is_blank("\u0301")


@settings(max_examples=50)
@given(st.text(max_size=30))
def test_words_are_in_order_and_apart_and_no_letter_is_lost(text):
    spans = split_words(text)
    assert all(a < b for a, b in spans)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
    inside = {i for a, b in spans for i in range(a, b)}
    assert all(i in inside for i, c in enumerate(text) if c.isalnum() and c not in JOINERS | APOSTROPHES)

"""Words of texts as they are written, by hand in several scripts."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optical_jax.data.text.words import spaced_words, split_words


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
    ],
)
def test_words_without_their_signs(text, words):
    assert [text[a:b] for a, b in split_words(text)] == words


def test_tokenised_texts_keep_their_words():
    text = " don 't  stop ."
    assert [text[a:b] for a, b in spaced_words(text)] == ["don", "'t", "stop", "."]


@settings(max_examples=50)
@given(st.text(max_size=30))
def test_words_are_in_order_and_apart_and_no_letter_is_lost(text):
    spans = split_words(text)
    assert all(a < b for a, b in spans)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
    inside = {i for a, b in spans for i in range(a, b)}
    assert all(i in inside for i, character in enumerate(text) if character.isalnum())

"""Word spans of a text: split at ASCII spaces, or with punctuation separated.

docs/method.md has one table of what a word is for each purpose.
"""

from __future__ import annotations

import re
import unicodedata

from optical_jax.data.characters import APOSTROPHES, JOINERS
from optical_jax.data.text.bitext import WIDE

Span = tuple[int, int]
"""Start and end (exclusive) of a word, in characters."""

_SPACED = re.compile(r"[^ \t]+")
_WORD = re.compile("L(?:[J']*L)*|W|S")
"""Over character kinds. An apostrophe between letters is part of the word: ng'ombe, don't, l'eau. So is a joiner."""


class _Kinds(dict[int, str]):
    """Translation table of characters to kinds.

    L (letter, mark, digit), W (CJK, a word each), S (sign), J (joiner), ', space.
    """

    def __missing__(self, code: int) -> str:
        character = chr(code)
        category = unicodedata.category(character)
        if character in JOINERS:
            kind = "J"
        elif WIDE.fullmatch(character):
            kind = "W"
        elif character in APOSTROPHES:
            kind = "'"
        elif category[0] in "LMN":
            kind = "L"
        else:
            kind = " " if character.isspace() or category[0] == "C" else "S"
        self[code] = kind
        return kind


_KINDS = _Kinds()


def spaced_words(text: str) -> list[Span]:
    """Spans of the words of a tokenised text, separated by ASCII spaces and tabs alone.

    As in fast_align, eflomal and Moses: other white space, such as the no-break space of 12 000, is within a word.
    """
    return [match.span() for match in _SPACED.finditer(text)]


def split_words(text: str) -> list[Span]:
    """Spans of the words of raw text, without punctuation; every Chinese, Japanese or Korean character is a word.

    >>> [text[a:b] for text in ["Ng'ombe, mbuzi (2)!"] for a, b in split_words(text)]
    ["Ng'ombe", 'mbuzi', '2']
    """
    kinds = text.translate(_KINDS)
    return [match.span() for match in _WORD.finditer(kinds) if match[0] != "S"]

"""Word spans of a text: split at spaces, or with punctuation separated."""

from __future__ import annotations

import re
import unicodedata

from optical_jax.data.text.bitext import WIDE

Span = tuple[int, int]
"""Start and end (exclusive) of a word, in characters."""

_WORD = re.compile("L+(?:'+L+)*|W|S")
"""Over character kinds. An apostrophe between letters is part of the word: ng'ombe, don't, l'eau."""


class _Kinds(dict[int, str]):
    """Translation table of characters to kinds: L (letter, mark, digit), W (CJK, a word each), S (sign), ', space."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        category = unicodedata.category(character)
        if WIDE.fullmatch(character):
            kind = "W"
        # Zero-width joiners are part of words in Indic and Arabic scripts.
        elif category[0] in "LMN" or character in "\u200c\u200d":
            kind = "L"
        elif character in "'\N{RIGHT SINGLE QUOTATION MARK}":
            kind = "'"
        else:
            kind = " " if character.isspace() or category[0] == "C" else "S"
        self[code] = kind
        return kind


_KINDS = _Kinds()


def spaced_words(text: str) -> list[Span]:
    """Spans of space-separated words, for tokenised texts."""
    return [match.span() for match in re.finditer(r"\S+", text)]


def split_words(text: str) -> list[Span]:
    """Spans of the words of raw text, without punctuation; every Chinese, Japanese or Korean character is a word.

    >>> [text[a:b] for text in ["Ng'ombe, mbuzi (2)!"] for a, b in split_words(text)]
    ["Ng'ombe", 'mbuzi', '2']
    """
    kinds = text.translate(_KINDS)
    return [match.span() for match in _WORD.finditer(kinds) if match[0] != "S"]

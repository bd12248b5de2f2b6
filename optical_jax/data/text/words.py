"""Where the words of a text stand: as its spaces have them, or parted from the signs written on them."""

from __future__ import annotations

import re
import unicodedata

from optical_jax.data.text.bitext import WIDE

Span = tuple[int, int]
"""First character of a word, and the one behind its last."""

_WORD = re.compile("L+(?:'+L+)*|W|S")
"""Over kinds of characters. An apostrophe between letters is part of the word: ng'ombe, don't, l'eau."""


class _Kinds(dict[int, str]):
    """A translation table of characters to L (letter, mark, digit), W (a word by itself), S (sign), ' and space."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        category = unicodedata.category(character)
        if WIDE.fullmatch(character):
            kind = "W"
        # Joiners of Indic and Arabic scripts stand within words.
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
    """Words of a text that is tokenised already: what stands between spaces."""
    return [match.span() for match in re.finditer(r"\S+", text)]


def split_words(text: str) -> list[Span]:
    """Words of a text as it is written, without its signs; Chinese, Japanese and Korean characters are words each.

    >>> [text[a:b] for text in ["Ng'ombe, mbuzi (2)!"] for a, b in split_words(text)]
    ["Ng'ombe", 'mbuzi', '2']
    """
    kinds = text.translate(_KINDS)
    return [match.span() for match in _WORD.finditer(kinds) if match[0] != "S"]

"""Characters that are not drawn or are written in several forms: joiners, apostrophes; and texts that show nothing."""

from __future__ import annotations

import unicodedata

JOINERS = frozenset(
    map(
        chr,
        (
            0x00AD,  # soft hyphen
            0x034F,  # combining grapheme joiner
            0x061C,  # Arabic letter mark
            *(0x0640, 0x07FA),  # tatweel, lajanyalan: only lengthen a word
            *(0x115F, 0x1160, 0x3164, 0xFFA0),  # Hangul fillers
            *(0x17B4, 0x17B5),  # inherent vowels of Khmer, never drawn
            *range(0x180B, 0x1810),  # variation selectors and vowel separator of Mongolian
            *range(0x200C, 0x2010),  # ZWNJ, ZWJ, left-to-right and right-to-left mark
            *range(0x202A, 0x202F),  # embeddings
            *range(0x2060, 0x2070),  # word joiner, invisible operators, isolates
            *range(0xFE00, 0xFE10),  # variation selectors
            0xFEFF,  # byte order mark, once the zero-width no-break space
            *range(0xE0000, 0xE1000),  # tags, variation selectors
        ),
    )
)
"""Characters that are not drawn, or only lengthen a word: they never part a word, and keys of words lack them.

Unicode's Default_Ignorable_Code_Point and the tatweel. The zero-width space (U+200B) is not among them: it separates
words, as in Khmer, Thai, Lao and Burmese.
"""
APOSTROPHES = frozenset("'`\u00b4\u2018\u2019\u02bb\u02bc\u02bd\u02c8\ua78b\ua78c\uff07")
"""Apostrophe, its typographic forms, and letters that are written as one, such as okina and saltillo."""


def is_blank(text: str) -> bool:
    """True for a text that shows nothing: white space, control characters, zero-width spaces and joiners alone."""
    return all(c in JOINERS or c.isspace() or unicodedata.category(c) in ("Cc", "Cf") for c in text)

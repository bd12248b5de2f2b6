"""Search words (BM25, dictionaries) and lexicon keys: Unicode and case folding that ignores joiners, in any script.

docs/method.md has one table of what a word is for each purpose.
"""

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

_PLAIN: dict[int, str | None] = dict.fromkeys(map(ord, JOINERS)) | dict.fromkeys(map(ord, APOSTROPHES), "'")


class _SearchCharacters(dict[int, str | None]):
    """Translation table that keeps letters, marks and digits, drops joiners and has a space for all others.

    Python's \\w excludes marks, which would split words of Devanagari and Khmer.
    """

    def __missing__(self, code: int) -> str | None:
        character = chr(code)
        in_word = unicodedata.category(character)[0] in "LMN" and character not in APOSTROPHES
        kept = self[code] = None if character in JOINERS else character if in_word else " "
        return kept


_SEARCH_CHARACTERS = _SearchCharacters()


def words(text: str) -> list[str]:
    """Runs of letters, marks and digits, NFKC and case folded, without joiners; no stemming, no stop words.

    An apostrophe parts words in whatever form it is written, so that l'avion is found by avion.

    >>> words("Ndege ya pili, 1903: l'avion «Éole»")
    ['ndege', 'ya', 'pili', '1903', 'l', 'avion', 'éole']
    """
    # Joiners are dropped before as well: some keep a letter and its accent from being composed.
    folded = unicodedata.normalize("NFKC", text.translate(_PLAIN)).casefold()
    return folded.translate(_SEARCH_CHARACTERS).split()


def word_key(word: str) -> str:
    """Lexicon key of a word: case-folded, NFC, without joiners, every apostrophe as U+0027."""
    return unicodedata.normalize("NFC", word.translate(_PLAIN).casefold())


def is_blank(text: str) -> bool:
    """True for a text that shows nothing: white space, control characters, zero-width spaces and joiners alone."""
    return all(c in JOINERS or c.isspace() or unicodedata.category(c) in ("Cc", "Cf") for c in text)

"""Search words (BM25, dictionaries) and lexicon keys: Unicode and case folding that ignores joiners, in any script.

docs/method.md has one table of what a word is for each purpose.
"""

from __future__ import annotations

import unicodedata

from optical_jax.data.characters import APOSTROPHES, JOINERS

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

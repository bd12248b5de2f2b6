"""Word tokenisation and case folding for BM25 and dictionaries, in any script."""

from __future__ import annotations

import functools
import unicodedata


def words(text: str) -> list[str]:
    """Runs of letters, marks and digits, NFKC and case folded; no stemming, no stop words.

    >>> words("Ndege ya pili, 1903: l'avion «Éole»")
    ['ndege', 'ya', 'pili', '1903', 'l', 'avion', 'éole']
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(c if _in_word(c) else " " for c in folded).split()


@functools.cache
def _in_word(character: str) -> bool:
    """Letters, digits and marks; Python's \\w excludes marks, which would split words of Devanagari and Khmer."""
    return unicodedata.category(character)[0] in "LMN"

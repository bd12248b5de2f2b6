"""Code-switching augmentation: foreign words replaced by English translations; lexicon files."""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from optical_jax.data.characters import APOSTROPHES, JOINERS
from optical_jax.data.files.lines import raw_lines
from optical_jax.data.text.bitext import Bitext
from optical_jax.data.text.entries import parse_entry
from optical_jax.data.text.folding import word_key
from optical_jax.errors import ConfigError, DataError

SWITCHED_VERSIONS = 4
"""Code-switched versions of every pair, all tokenised before the first step."""
_SPACED = re.compile(r"[^\s\u200b]+")
"""Words between spaces, including zero-width spaces."""


class Entry(NamedTuple):
    english: str
    share: float = 1.0
    """Share of the word's transported mass on this English word, 0 to 1."""
    count: int = 0
    """Occurrences of the word."""


Lexicon = Mapping[str, Entry]
"""Word by `word_key` -> translation."""


def bare_words(text: str) -> Iterator[tuple[int, int]]:
    """Spans (start, end) of space-separated words, without leading and trailing punctuation and joiners."""
    for match in _SPACED.finditer(text):
        start, end = match.span()
        while start < end and _is_outside(text[start]):
            start += 1
        while end > start and _is_outside(text[end - 1]):
            end -= 1
        if start < end:
            yield start, end


def _is_outside(character: str) -> bool:
    """True for what is not part of a word at its ends."""
    return character in JOINERS or character in APOSTROPHES or unicodedata.category(character)[0] in "PS"


def switch_words(text: str, lexicon: Lexicon, share: float, rng: np.random.Generator) -> str:
    """Replace each word of the lexicon by its translation with probability `share`; punctuation and spaces stay."""
    parts, done = [], 0
    for start, end in bare_words(text):
        entry = lexicon.get(word_key(text[start:end]))
        if entry is not None and rng.random() < share:
            parts += [text[done:start], entry.english]
            done = end
    return "".join([*parts, text[done:]])


def switched(bitext: Bitext, lexicon: Lexicon, share: float, seed: int, version: int) -> Bitext:
    """Code-switch the foreign side of all pairs; deterministic in seed and version."""
    purpose, language = (zlib.crc32(name.encode()) for name in ("code_switch", bitext.language))
    rng = np.random.default_rng([seed, purpose, language, version])
    return replace(bitext, foreign=[switch_words(text, lexicon, share, rng) for text in bitext.foreign])


def share_of_words(texts: Sequence[str], lexicon: Lexicon) -> float:
    """Coverage: share of running words that are in the lexicon, 0 to 1."""
    words = [word_key(text[start:end]) for text in texts for start, end in bare_words(text)]
    return sum(word in lexicon for word in words) / max(len(words), 1)


# ---- files -------------------------------------------------------------------------------------------------------


def lexicon_file(folder: Path, language: str) -> Path:
    return folder / f"lexicon.{language}.tsv"


def write_lexicon(path: Path, lexicon: Lexicon) -> None:
    """Write a TSV, one line per word, sorted: word, English, share, count."""
    lines = (f"{word}\t{e.english}\t{e.share:.3f}\t{e.count}\n" for word, e in sorted(lexicon.items()))
    path.write_text("".join(lines), encoding="utf-8")


def read_lexicon(path: Path) -> dict[str, Entry]:
    """Read a lexicon TSV as of `write_lexicon`; share and count are optional. The first line of a word counts.

    Raises:
      DataError: a line is malformed, or the file is empty; file, line, reason.
    """
    found: dict[str, Entry] = {}
    for number, line, fault in raw_lines(path):
        if fault:
            raise DataError(f"{path}:{number}: {fault}; save the file as UTF-8")
        if not line.strip():
            continue
        word, *rest = (cell.strip() for cell in line.split("\t"))
        word = word_key(unicodedata.normalize("NFC", word))
        if not word or not rest or not rest[0]:
            raise DataError(f"{path}:{number} is not a word and its English with a tab; write WORD<TAB>ENGLISH")
        try:
            share, count = float(rest[1]) if len(rest) > 1 else 1.0, int(rest[2]) if len(rest) > 2 else 0
        except ValueError:
            raise DataError(
                f"{path}:{number}: {' '.join(rest[1:3])!r} is not share and count; write 0.5 and 12, or leave them out"
            ) from None
        found.setdefault(word, Entry(rest[0], share, count))
    if not found:
        raise DataError(f"{path}: the lexicon is empty; write WORD<TAB>ENGLISH lines, or leave data.lexicon out")
    return found


def read_lexicons(entries: Sequence[str], languages: Sequence[str]) -> dict[str, dict[str, Entry]]:
    """Read the lexicons of data.lexicon, one for each of these languages.

    Raises:
      ConfigError: a language has no lexicon or several, or a lexicon's language has no bitext.
      DataError: a file is missing or malformed.
    """
    found: dict[str, dict[str, Entry]] = {}
    for entry in entries:
        source = parse_entry(entry, "data.lexicon")
        if source.language not in languages:
            raise ConfigError(
                f"data.lexicon={entry}: no bitext of {source.language}; available: {', '.join(languages)}"
            )
        if source.language in found or len(source.paths) != 1:
            raise ConfigError(f"data.lexicon={entry}: use one file per language, as in sw=FILE")
        found[source.language] = read_lexicon(source.paths[0])
    if missing := [language for language in languages if language not in found]:
        raise ConfigError(f"data.lexicon: none for {missing[0]}; add one for every language of the bitext")
    return found

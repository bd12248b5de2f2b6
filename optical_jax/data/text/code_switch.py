"""Foreign text with some of its words in English: lexicons as files, and what they do to a text."""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from optical_jax.data.files.records import raw_lines
from optical_jax.data.text.bitext import Bitext
from optical_jax.data.text.entries import parse_entry
from optical_jax.errors import ConfigError, DataError

SWITCHED_VERSIONS = 4
"""Of every pair, each with other words switched; all are tokenised before the first step."""
_SPACED = re.compile(r"[^\s\u200b]+")
"""What stands between spaces, zero-width ones too."""


class Entry(NamedTuple):
    english: str
    share: float = 1.0
    """Of what the word's plans move to English words, the part that goes to this one, 0 to 1."""
    count: int = 0
    """How often the word occurred with a plan."""


Lexicon = Mapping[str, Entry]
"""By `word_key`."""


def word_key(word: str) -> str:
    """What makes two words the same."""
    return unicodedata.normalize("NFC", word.casefold())


def bare_words(text: str) -> Iterator[tuple[int, int]]:
    """First character of every word between spaces, and the one behind its last; signs at its edges are none of it."""
    for match in _SPACED.finditer(text):
        start, end = match.span()
        while start < end and _is_sign(text[start]):
            start += 1
        while end > start and _is_sign(text[end - 1]):
            end -= 1
        if start < end:
            yield start, end


def _is_sign(character: str) -> bool:
    return unicodedata.category(character)[0] in "PS"


def switch_words(text: str, lexicon: Lexicon, share: float, rng: np.random.Generator) -> str:
    """The text with each word that the lexicon has replaced with that probability; signs and spaces stay."""
    parts, done = [], 0
    for start, end in bare_words(text):
        entry = lexicon.get(word_key(text[start:end]))
        if entry is not None and rng.random() < share:
            parts += [text[done:start], entry.english]
            done = end
    return "".join([*parts, text[done:]])


def switched(bitext: Bitext, lexicon: Lexicon, share: float, seed: int, version: int) -> Bitext:
    """The pairs with their foreign side switched; the same for the same seed and version."""
    purpose, language = (zlib.crc32(name.encode()) for name in ("code_switch", bitext.language))
    rng = np.random.default_rng([seed, purpose, language, version])
    return replace(bitext, foreign=[switch_words(text, lexicon, share, rng) for text in bitext.foreign])


def share_of_words(texts: Sequence[str], lexicon: Lexicon) -> float:
    """Running words that the lexicon has, 0 to 1."""
    words = [word_key(text[start:end]) for text in texts for start, end in bare_words(text)]
    return sum(word in lexicon for word in words) / max(len(words), 1)


# ---- files -------------------------------------------------------------------------------------------------------


def lexicon_file(folder: Path, language: str) -> Path:
    return folder / f"lexicon.{language}.tsv"


def write_lexicon(path: Path, lexicon: Lexicon) -> None:
    """A line a word, in the order of the alphabet: word, English, share, count, with tabs between."""
    lines = (f"{word}\t{e.english}\t{e.share:.3f}\t{e.count}\n" for word, e in sorted(lexicon.items()))
    path.write_text("".join(lines), encoding="utf-8")


def read_lexicon(path: Path) -> dict[str, Entry]:
    """A file of `write_lexicon`'s form; share and count may be missing. Of several lines for a word the first counts.

    Raises:
      DataError: a line is not of that form, or there is none; file, line, what.
    """
    found: dict[str, Entry] = {}
    for number, line, fault in raw_lines(path):
        if fault:
            raise DataError(f"{path}:{number}: {fault}; save the file as UTF-8")
        if not line.strip():
            continue
        word, *rest = (cell.strip() for cell in line.split("\t"))
        if not word or not rest or not rest[0]:
            raise DataError(f"{path}:{number}: no word and its English with a tab between; write WORD<TAB>ENGLISH")
        try:
            share, count = float(rest[1]) if len(rest) > 1 else 1.0, int(rest[2]) if len(rest) > 2 else 0
        except ValueError:
            raise DataError(
                f"{path}:{number}: {' '.join(rest[1:3])!r} is no share and count; write them as 0.5 and 12, or leave "
                "them out"
            ) from None
        found.setdefault(word_key(unicodedata.normalize("NFC", word)), Entry(rest[0], share, count))
    if not found:
        raise DataError(f"{path}: no word in it; write WORD<TAB>ENGLISH a line, or leave data.lexicon out")
    return found


def read_lexicons(entries: Sequence[str], languages: Sequence[str]) -> dict[str, dict[str, Entry]]:
    """The lexicons of data.lexicon, one for each of these languages.

    Raises:
      ConfigError: a language has none or two, or there is none of its bitext.
      DataError: a file is missing or broken.
    """
    found: dict[str, dict[str, Entry]] = {}
    for entry in entries:
        source = parse_entry(entry, "data.lexicon")
        if source.language not in languages:
            raise ConfigError(f"data.lexicon={entry}: no bitext of {source.language}; there are {', '.join(languages)}")
        if source.language in found or len(source.paths) != 1:
            raise ConfigError(f"data.lexicon={entry}: give each language one file, as in sw=FILE")
        found[source.language] = read_lexicon(source.paths[0])
    if missing := [language for language in languages if language not in found]:
        raise ConfigError(f"data.lexicon: none for {missing[0]}; give every language of the bitext one")
    return found

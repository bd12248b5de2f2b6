"""Gold word alignments (sure and possible links) from Pharaoh and NAACL files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from optical_jax.data.files.lines import raw_lines
from optical_jax.errors import DataError

PHARAOH = re.compile(r"([0-9]{1,9})([-p?])([0-9]{1,9})")
"""0-0 is a sure link, 0p0 and 0?0 are possible ones; words are numbered from 0, in some files from 1."""
NAACL = re.compile(r"([0-9]{1,9})\s+([0-9]{1,9})\s+([0-9]{1,9})(?:\s+([SP]))?(?:\s+[0-9.eE+-]+)?")
"""sentence, word, word, S or P (default S), an ignored confidence; numbered from 1, word 0 is the empty word."""


@dataclass(frozen=True)
class GoldLinks:
    """Gold links of one pair."""

    sure: Bool[np.ndarray, "S T"]
    """Foreign word by English word."""
    possible: Bool[np.ndarray, "S T"]
    """Includes the sure links."""


class _Link(NamedTuple):
    line: int
    sentence: int
    """From 0."""
    left: int
    """As in the file."""
    right: int
    sure: bool


def read_gold(
    path: Path,
    lengths: Sequence[tuple[int, int]],
    *,
    foreign_first: bool = False,
    first_word: int | None = None,
    say: Callable[[str], None] = print,
) -> list[GoldLinks | None]:
    """Read the gold links of a bitext, in the order of its lines.

    The format is detected by the first line. Pharaoh: one line per pair, words numbered from 0, `0-0 1-2 1p3 2?3`; an
    empty line is a pair without links. NAACL (shared tasks of 2003 and 2005): one line per link, `12 1 3 S`, sentences
    and words numbered from 1; links to word 0, the empty word, are ignored.

    Args:
      lengths: words of each pair, (foreign, English).
      foreign_first: the first number of a link is the foreign word; else the English one, as in the bitext's columns.
      first_word: number of a text's first word, 0 or 1; None for the format's own. 0 in a NAACL file: no empty word.
      say: receives a warning if the file may count words from 1 although it is read as from 0.

    Returns:
      The links of each pair; None for a pair that a NAACL file does not contain.

    Raises:
      DataError: the file is missing or empty, of neither format, has a sentence or word number out of range, or counts
        words from another number.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file of gold links")
    lines = []
    for number, text, fault in raw_lines(path):
        if fault:
            raise DataError(f"{path}:{number}: {fault}")
        lines.append(text)
    first = next((line.split() for line in lines if line.strip()), [])
    if not first:
        raise DataError(f"{path}: no link in {len(lines)} lines")
    pharaoh = PHARAOH.fullmatch(first[0]) is not None
    if pharaoh and len(lines) != len(lengths):
        raise DataError(f"{path}: {len(lines)} lines for a bitext of {len(lengths)}; Pharaoh has a line per pair")
    form: Callable[[Path, list[str]], Iterator[_Link]] = _read_pharaoh if pharaoh else _read_naacl
    every = [link for link in form(path, lines) if _check_sentence(link, path, len(lengths))]
    sizes = [(foreign, english) if foreign_first else (english, foreign) for foreign, english in lengths]
    counts = [sizes[link.sentence] for link in every]
    start = _check_first_word(path, every, counts, pharaoh, first_word, say)

    found: list[GoldLinks | None] = [None] * len(lengths)
    if pharaoh:
        found = [_no_links(length) for length in lengths]
    for link in every:
        words = link.left - start, link.right - start
        row, col = words if foreign_first else reversed(words)
        for word, count, side in zip((row, col), lengths[link.sentence], ("foreign", "English"), strict=True):
            if word >= count:
                raise DataError(
                    f"{path}:{link.line}: {side} word {word + start} (from {start}) of {count} is out of range; "
                    "separate the bitext's words by spaces, and check the order of the link's numbers "
                    "(--foreign-first) and what they count from (--gold-first)"
                )
        gold = found[link.sentence] = found[link.sentence] or _no_links(lengths[link.sentence])
        if min(row, col) >= 0:
            gold.possible[row, col] = True
            gold.sure[row, col] |= link.sure
    return found


def _check_sentence(link: _Link, path: Path, sentences: int) -> bool:
    if not 0 <= link.sentence < sentences:
        raise DataError(
            f"{path}:{link.line}: sentence {link.sentence + 1} of a bitext of {sentences} pairs, numbered from 1"
        )
    return True


def _check_first_word(
    path: Path,
    links: Sequence[_Link],
    counts: Sequence[tuple[int, int]],
    pharaoh: bool,
    first_word: int | None,
    say: Callable[[str], None],
) -> int:
    """Number of a text's first word: as given, or the format's if the links do not contradict it.

    Raises:
      DataError: a Pharaoh file that evidently counts from 1, or a NAACL file from 0; or a word 0 where the first is 1.
    """
    if first_word == 1 and pharaoh:
        zero = next((link for link in links if 0 in (link.left, link.right)), None)
        if zero:
            raise DataError(f"{path}:{zero.line}: a link to word 0 in a file that counts from 1; use --gold-first 0")
    if first_word is not None:
        return first_word
    if not pharaoh:
        both = next((link for link in links if link.left == link.right == 0), None)
        if both:
            raise DataError(
                f"{path}:{both.line}: a link from word 0 to word 0, which is the empty word in a NAACL file; "
                "if the file counts words from 0, use --gold-first 0"
            )
        return 1
    if links and not any(0 in (link.left, link.right) for link in links):
        # One behind the end of a side: as many as the text has words.
        beyond = [max(link.left - left, link.right - right) for link, (left, right) in zip(links, counts, strict=True)]
        if max(beyond) == 0:
            link = links[beyond.index(0)]
            raise DataError(
                f"{path}:{link.line}: link {link.left}-{link.right} names the word behind the last one, and no link in "
                "the file names word 0, so it seems to count from 1; use --gold-first 1"
            )
        say(
            f"{path}: no link names word 0; if the file counts words from 1, use --gold-first 1 "
            "(--gold-first 0 leaves this line out)"
        )
    return 0


def _no_links(length: tuple[int, int]) -> GoldLinks:
    return GoldLinks(np.zeros(length, bool), np.zeros(length, bool))


def _read_pharaoh(path: Path, lines: list[str]) -> Iterator[_Link]:
    for number, line in enumerate(lines, 1):
        for link in line.split():
            match = PHARAOH.fullmatch(link)
            if not match:
                raise DataError(f"{path}:{number}: {link!r} is not a link; write 0-0, or 0p0 for a possible one")
            yield _Link(number, number - 1, int(match[1]), int(match[3]), match[2] == "-")


def _read_naacl(path: Path, lines: list[str]) -> Iterator[_Link]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        match = NAACL.fullmatch(line.strip())
        if not match:
            raise DataError(
                f"{path}:{number}: {line.strip()!r} is not a link; write 0-0 1-2, one line per pair (Pharaoh), or "
                "SENTENCE WORD WORD S|P, one line per link (NAACL)"
            )
        yield _Link(number, int(match[1]) - 1, int(match[2]), int(match[3]), match[4] != "P")

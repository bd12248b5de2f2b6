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

PHARAOH = re.compile(r"(\d+)([-p?])(\d+)")
"""0-0 is a sure link, 0p0 and 0?0 are possible ones; words are numbered from 0."""
NAACL = re.compile(r"(\d+)\s+(\d+)\s+(\d+)(?:\s+([SP]))?(?:\s+[\d.eE+-]+)?")
"""sentence, word, word, S or P (default S), an ignored confidence; numbered from 1."""


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
    left: int
    right: int
    sure: bool


def read_gold(path: Path, lengths: Sequence[tuple[int, int]], *, foreign_first: bool = False) -> list[GoldLinks | None]:
    """Read the gold links of a bitext, in the order of its lines.

    The format is detected by the first line. Pharaoh: one line per pair, words numbered from 0, `0-0 1-2 1p3 2?3`; an
    empty line is a pair without links. NAACL (shared tasks of 2003 and 2005): one line per link, `12 1 3 S`, sentences
    and words numbered from 1; links to word 0, the empty word, are ignored.

    Args:
      lengths: words of each pair, (foreign, English).
      foreign_first: the first number of a link is the foreign word; else the English one, as in the bitext's columns.

    Returns:
      The links of each pair; None for a pair that a NAACL file does not contain.

    Raises:
      DataError: the file is missing or empty, of neither format, or has a sentence or word number out of range.
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

    found: list[GoldLinks | None] = [None] * len(lengths)
    if pharaoh:
        found = [_no_links(length) for length in lengths]
    for line, sentence, *words, sure in form(path, lines):
        where = f"{path}:{line}"
        if not 0 <= sentence < len(lengths):
            raise DataError(f"{where}: sentence {sentence + 1} of a bitext of {len(lengths)} pairs")
        row, col = words if foreign_first else reversed(words)
        for word, count, side in zip((row, col), lengths[sentence], ("foreign", "English"), strict=True):
            if word >= count:
                raise DataError(
                    f"{where}: {side} word {word} (from 0) of {count} is out of range; separate the bitext's words by "
                    "spaces, and check the order of the link's numbers"
                )
        gold = found[sentence] = found[sentence] or _no_links(lengths[sentence])
        if min(row, col) >= 0:
            gold.possible[row, col] = True
            gold.sure[row, col] |= sure
    return found


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
        yield _Link(number, int(match[1]) - 1, int(match[2]) - 1, int(match[3]) - 1, match[4] != "P")

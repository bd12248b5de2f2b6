"""Gold word alignments: sure and possible links of sentence pairs, from Pharaoh and NAACL files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from optical_jax.data.files.records import raw_lines
from optical_jax.errors import DataError

PHARAOH = re.compile(r"(\d+)([-p?])(\d+)")
"""0-0 is a sure link, 0p0 and 0?0 are possible ones; words counted from 0."""
NAACL = re.compile(r"(\d+)\s+(\d+)\s+(\d+)(?:\s+([SP]))?(?:\s+[\d.eE+-]+)?")
"""sentence, word, word, S or P (S where there is none), a confidence that is not read; all counted from 1."""


@dataclass(frozen=True)
class GoldLinks:
    """What an annotator linked in one pair."""

    sure: Bool[np.ndarray, "S T"]
    """Foreign word by English word."""
    possible: Bool[np.ndarray, "S T"]
    """Holds the sure links too."""


class _Link(NamedTuple):
    line: int
    sentence: int
    left: int
    right: int
    sure: bool


def read_gold(path: Path, lengths: Sequence[tuple[int, int]], *, foreign_first: bool = False) -> list[GoldLinks | None]:
    """The gold links of a bitext, in the order of its lines.

    Two forms are told apart by their first line. Pharaoh: a line a pair, words counted from 0, `0-0 1-2 1p3 2?3`; an
    empty line is a pair without a link. NAACL (the shared tasks of 2003 and 2005): a line a link, `12 1 3 S`, sentences
    and words counted from 1; word 0 is the empty word, to which links are not kept.

    Args:
      lengths: words of each pair, (foreign, English).
      foreign_first: the first number of a link is the foreign word; else the English one, as in the bitext's columns.

    Returns:
      The links of each pair; None for one that a NAACL file does not name, and which has no gold.

    Raises:
      DataError: the file is missing or empty, of neither form, or names a sentence or a word that is not there.
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
        raise DataError(f"{path}: {len(lines)} lines for a bitext of {len(lengths)}; Pharaoh files have a line a pair")
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
                    f"{where}: {side} word {word} (counted from 0) of {count}; are the bitext's words parted by "
                    "spaces, and the link's numbers in the order told?"
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
                raise DataError(f"{path}:{number}: {link!r} is no link; write 0-0, or 0p0 for a possible one")
            yield _Link(number, number - 1, int(match[1]), int(match[3]), match[2] == "-")


def _read_naacl(path: Path, lines: list[str]) -> Iterator[_Link]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        match = NAACL.fullmatch(line.strip())
        if not match:
            raise DataError(
                f"{path}:{number}: {line.strip()!r} is no link; write 0-0 1-2 a pair and line (Pharaoh), or "
                "SENTENCE WORD WORD S|P a link (NAACL)"
            )
        yield _Link(number, int(match[1]) - 1, int(match[2]) - 1, int(match[3]) - 1, match[4] != "P")

"""What every reader of bitext shares: a file to read, a line of it, and the check of its two sides."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optical_jax.data.files.lines import raw_lines
from optical_jax.errors import DataError
from optical_jax.files import text_fault

BLANK, HEADER = "blank", "header"
"""Reasons for lines that are neither pairs nor faults."""


@dataclass(frozen=True)
class PairFile:
    """A file of sentence pairs."""

    path: Path
    language: str
    """Of the side that is not English."""
    part: str = ""
    """Sheet of a workbook, member of an archive, or split of a data set; empty for the only or the first one."""
    shown: str = ""
    """Name in messages, if it is not the path: of a file that was unpacked."""

    @property
    def name(self) -> str:
        return self.shown or str(self.path)

    @property
    def ending(self) -> str:
        """Ending of the name in lower case, without .gz: tsv."""
        return self.name.lower().removesuffix(".gz").rpartition(".")[2]

    def lines(self, encoding: str) -> Iterator[tuple[int, str, str]]:
        """As `raw_lines`; where the encoding is at fault, the fault names the flag."""
        try:
            for number, text, fault in raw_lines(self.path, encoding):
                if fault.startswith("not UTF-8"):
                    fault += "; name its encoding, for example --data.encoding windows-1252"
                yield number, text, fault
        except DataError as error:
            message = str(error).replace(str(self.path), self.name)
            if "UTF-16 without a byte order mark" in message:
                message += ", or add --data.encoding utf-16-le"
            raise DataError(message) from error


@dataclass(frozen=True)
class Line:
    """One line of a source: a sentence pair, or the reason why it is malformed or left out."""

    where: str
    """FILE:LINE"""
    english: str = ""
    foreign: str = ""
    score: float | None = None
    fault: str = ""
    document: str = ""
    """Name of the document that the pair is from (data.document_column)."""
    left_out: str = ""
    """Reason for which the line gives no pair without being malformed: blank, header, untranslated, ..."""


def pair_line(where: str, values: Mapping[str, Any]) -> Line:
    """A line with all cells present, which may still be empty or of the wrong type.

    Args:
      where: FILE:LINE.
      values: "english", "foreign" and, if asked for, "score" and "document".
    """
    for side in ("english", "foreign"):
        if not isinstance(values[side], str):
            return Line(where, fault=f"the {side} side is not a text ({values[side]!r:.40})")
        if not values[side].strip():
            return Line(where, fault=f"the {side} side is empty")
        if fault := text_fault(values[side]):
            return Line(where, fault=f"the {side} side: {fault}")
    score = values.get("score")
    if score is not None:
        try:
            score = float(score)
        except (TypeError, ValueError, OverflowError):
            score = math.nan
        if math.isnan(score):
            return Line(where, fault=f"bad score {values['score']!r:.80}")
    document = values.get("document")
    return Line(where, values["english"], values["foreign"], score, document="" if document is None else str(document))

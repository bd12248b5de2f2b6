"""Bitext file formats (TSV, JSONL, Moses): parsing of lines into sentence pairs or faults."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optical_jax.config import DataConfig
from optical_jax.data.files.lines import raw_lines
from optical_jax.data.files.records import LANGUAGE
from optical_jax.errors import ConfigError, DataError
from optical_jax.files import parse_json, sha256_file

FILE_NAME = re.compile(rf"(?P<lang>{LANGUAGE})\.(?P<split>[^.]+)\.(?:tsv|jsonl)(?:\.gz)?")
"""<lang>.<split>.tsv[.gz] or .jsonl[.gz]."""
DEV_FORMS = ("tsv", "tsv.gz", "jsonl", "jsonl.gz")


@dataclass(frozen=True)
class Source:
    """One entry of data.bitext: a language and its file, or its two files (Moses: English, foreign)."""

    language: str
    paths: tuple[Path, ...]

    @property
    def parallel(self) -> bool:
        """Whether the sides are translations of each other, so that their lengths are related."""
        return True

    @property
    def name(self) -> str:
        return ",".join(str(path) for path in self.paths)

    @property
    def files(self) -> tuple[Path, ...]:
        """All files of the source."""
        return self.paths

    @property
    def left_out(self) -> dict[str, int]:
        """Reason -> number of candidates that give no pair and are not counted as lines."""
        return {}

    def lines(self, cfg: DataConfig) -> Iterator[Line]:
        """As `read_lines`."""
        return read_lines(self, cfg)

    def dev_siblings(self) -> list[Source]:
        """Dev sources: <lang>.dev.* beside <lang>.train.*."""
        path = self.paths[0]
        match = FILE_NAME.fullmatch(path.name)
        if len(self.paths) > 1 or not match or match["split"] != "train":
            return []
        siblings = [path.with_name(f"{match['lang']}.dev.{form}") for form in DEV_FORMS]
        return [Source(self.language, (sibling,)) for sibling in siblings if sibling.is_file()]


@dataclass(frozen=True)
class InputFile:
    path: str
    sha256: str


@dataclass(frozen=True)
class Line:
    """One line of a source: a sentence pair, or the reason why it is malformed."""

    where: str
    """FILE:LINE"""
    english: str = ""
    foreign: str = ""
    score: float | None = None
    fault: str = ""
    document: str = ""
    """What the pair is from; empty if the file does not say."""


def fingerprint(path: Path) -> InputFile:
    return InputFile(str(path), sha256_file(path))


def read_lines(source: Source, cfg: DataConfig) -> Iterator[Line]:
    """Every line of a source, in order; the format is detected by the file name.

    Raises:
      DataError: a file is empty or its gzip is corrupt; the files of a Moses pair differ in length.
    """
    if len(source.paths) == 2:
        return _read_moses(source, cfg)
    name = source.paths[0].name.removesuffix(".gz")
    return _read_jsonl(source, cfg) if name.endswith(".jsonl") else _read_tsv(source, cfg)


def _read_tsv(source: Source, cfg: DataConfig) -> Iterator[Line]:
    path = source.paths[0]
    columns = {
        "english": _column(cfg.english_column, "english_column"),
        "foreign": _column(cfg.foreign_column, "foreign_column"),
    }
    if cfg.score_column:
        columns["score"] = _column(cfg.score_column, "score_column")
    for number, text, fault in raw_lines(path):
        where = f"{path}:{number}"
        cells = text.split("\t")
        if fault:
            yield Line(where, fault=fault)
        elif len(cells) == 1:
            yield Line(where, fault="no tab")
        elif len(cells) <= max(columns.values()):
            yield Line(where, fault=f"{len(cells)} columns, no column {max(columns.values())} (counted from 0)")
        else:
            yield _line(where, {key: cells[column] for key, column in columns.items()})


def _read_jsonl(source: Source, cfg: DataConfig) -> Iterator[Line]:
    path = source.paths[0]
    default = DataConfig()
    if (cfg.english_column, cfg.foreign_column) == (default.english_column, default.foreign_column):
        keys = {"english": "en", "foreign": source.language}
    else:
        keys = {"english": cfg.english_column, "foreign": cfg.foreign_column}
    if cfg.score_column:
        keys["score"] = cfg.score_column
    for number, text, fault in raw_lines(path):
        where = f"{path}:{number}"
        if fault:
            yield Line(where, fault=fault)
            continue
        try:
            record = parse_json(text)
        except ValueError as e:
            yield Line(where, fault=str(e))
            continue
        if not isinstance(record, dict):
            yield Line(where, fault="not a JSON object")
        elif missing := [key for key in keys.values() if key not in record]:
            yield Line(where, fault=f"no key {missing[0]!r}")
        else:
            yield _line(where, {name: record[key] for name, key in keys.items()})


def _read_moses(source: Source, cfg: DataConfig) -> Iterator[Line]:
    if cfg.score_column:
        raise ConfigError(
            f"data.score_column={cfg.score_column}: a Moses pair ({source.name}) has no scores; leave it empty"
        )
    english, foreign = source.paths
    left, right = raw_lines(english), raw_lines(foreign)
    count = 0
    while True:
        a, b = next(left, None), next(right, None)
        if a is None or b is None:
            break
        count += 1
        fault_file = english if a[2] or not a[1].strip() else foreign
        yield _line(f"{fault_file}:{count}", {"english": a[1], "foreign": b[1]}, a[2] or b[2])
    if a or b:
        counts = (count + bool(a) + sum(1 for _ in left), count + bool(b) + sum(1 for _ in right))
        raise DataError(
            f"{english} has {counts[0]} lines and {foreign} has {counts[1]}; a Moses pair needs equal counts"
        )


def _line(where: str, values: dict[str, Any], fault: str = "") -> Line:
    """A line with all cells present, which may still be empty or of the wrong type."""
    if fault:
        return Line(where, fault=fault)
    for side in ("english", "foreign"):
        if not isinstance(values[side], str):
            return Line(where, fault=f"the {side} side is not a text")
        if not values[side].strip():
            return Line(where, fault=f"the {side} side is empty")
    score = values.get("score")
    if score is not None:
        try:
            score = float(score)
        except (TypeError, ValueError):
            score = math.nan
        if math.isnan(score):
            return Line(where, fault=f"bad score {values['score']!r}")
    return Line(where, values["english"], values["foreign"], score)


def _column(value: str, field: str) -> int:
    if not value.isdecimal():
        raise ConfigError(f"data.{field}={value} is not a TSV column; use a number, counted from 0")
    return int(value)

"""Sentence pairs from JSON: an object or a list of two texts a line (JSONL), or an array of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from optical_jax.config import DataConfig
from optical_jax.data.text.columns import sides_by_name
from optical_jax.data.text.languages import ENGLISH
from optical_jax.data.text.pairs import BLANK, Line, PairFile, pair_line
from optical_jax.errors import DataError
from optical_jax.files import parse_json

SPACE = re.compile(r"\s*")
TRANSLATION = "translation"
"""Key of the Hugging Face hub's translation sets: {"translation": {"en": ..., "sw": ...}}."""


def read_json(file: PairFile, cfg: DataConfig, notes: list[str]) -> Iterator[Line]:
    """Every line of a JSONL file, or every element of a JSON array; whichever it is, the contents say.

    Raises:
      DataError: the file is neither; as `raw_lines`.
    """
    keys: dict[str, str] = {}
    for number, value, fault in _array(file, cfg) if _is_array(file, cfg) else _values(file, cfg):
        where = f"{file.name}:{number}"
        if fault:
            yield Line(where, fault=fault)
        elif value is None:
            yield Line(where, left_out=BLANK)
        elif isinstance(value, list):
            if cfg.score_column or cfg.document_column:
                yield Line(where, fault="a list of two texts has no score and no document; leave their columns out")
            elif len(value) != 2:
                yield Line(where, fault="not a JSON object or a list of two texts")
            else:
                yield pair_line(where, dict(zip(("english", "foreign"), value, strict=True)))
        elif isinstance(value, dict):
            record = flat_record(value)
            if not keys:
                keys = _keys(record, file, cfg, notes)
            yield record_line(where, record, keys)
        else:
            yield Line(where, fault="not a JSON object or a list of two texts")


def flat_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record with the texts of its "translation", if it has those by language, beside its other keys."""
    inner = record.get(TRANSLATION)
    return {**record, **inner} if isinstance(inner, dict) else dict(record)


def record_line(where: str, record: Mapping[str, Any], keys: Mapping[str, str]) -> Line:
    """The pair of a record, whose sides are under these keys."""
    if missing := [key for key in keys.values() if key not in record]:
        there = ", ".join(str(key)[:30] for key in islice(record, 12)) or "none"
        return Line(
            where,
            fault=f"no key {missing[0]!r}; keys here: {there} (set data.english_column and data.foreign_column)",
        )
    return pair_line(where, {name: record[key] for name, key in keys.items()})


def _keys(record: Mapping[str, Any], file: PairFile, cfg: DataConfig, notes: list[str]) -> dict[str, str]:
    """Keys of the sides: those of the settings, else en and the language, else those that the first record's say."""
    default, named = DataConfig(), {}
    for side in ("english", "foreign"):
        value = getattr(cfg, f"{side}_column")
        if value != getattr(default, f"{side}_column"):
            named[side] = value
    keys = {"english": ENGLISH, "foreign": file.language} | named
    if not record.keys() >= {key for side, key in keys.items() if side not in named}:
        names = {n: key for n, key in enumerate(record) if key not in named.values()}
        sides = {side: names[n] for side, n in sides_by_name(names, file.language).items()} | named
        if len(sides) == 2:
            keys = sides
            notes.append(f"{file.name}: keys taken: " + ", ".join(f"{side} {key}" for side, key in keys.items()))
    others = {"score": cfg.score_column, "document": cfg.document_column}
    return keys | {name: key for name, key in others.items() if key}


# ---- values --------------------------------------------------------------------------------------------------------

Value = tuple[int, Any, str]
"""Line number, value (None for a blank line), and what is wrong with it."""


def _values(file: PairFile, cfg: DataConfig) -> Iterator[Value]:
    for number, text, fault in file.lines(cfg.encoding):
        value = None
        if not fault and text.strip():
            try:
                value = parse_json(text)
                fault = "null, not a JSON object" if value is None else ""
            except ValueError as error:
                fault = str(error)
        yield number, value, fault


def _is_array(file: PairFile, cfg: DataConfig) -> bool:
    """Whether the file is one array: it begins with a bracket, and its first line is not a list of two texts.

    Raises:
      DataError: it is one object over several lines.
    """
    lines = ((number, text.strip()) for number, text, _ in file.lines(cfg.encoding) if text.strip())
    number, first = next(lines, (0, ""))
    if first == "{" and file.ending == "json":
        raise DataError(
            f"{file.name}:{number}: one JSON object over several lines; write an object a line, or an array of them"
        )
    if not first.startswith("["):
        return False
    try:
        value = parse_json(first)
    except ValueError:
        # It goes on in the next line, or it is a line with a fault.
        return first == "[" or file.ending == "json" or first.startswith(("[{", "[["))
    return isinstance(value, list) and all(isinstance(one, dict | list) for one in value)


def _array(file: PairFile, cfg: DataConfig) -> Iterator[Value]:
    """Elements of a JSON array, each with the number of the line that it begins in.

    Raises:
      DataError: the array is broken off or malformed; a fault within a text is one of its element alone.
    """
    lines = []
    for number, text, fault in file.lines(cfg.encoding):
        if fault:
            raise DataError(f"{file.name}:{number}: {fault}")
        lines.append(text)
    text, decoder, number, counted = "\n".join(lines), json.JSONDecoder(), 1, 0
    del lines
    at = _after_space(text, 0) + 1
    while True:
        at = _after_space(text, at)
        number, counted = number + text.count("\n", counted, at), at
        if text.startswith("]", at):
            break
        start, what = at, ""
        try:
            _, at = decoder.raw_decode(text, start)
        except json.JSONDecodeError as error:
            number, what = number + text.count("\n", start, error.pos), error.msg
        except RecursionError:
            what = "brackets are nested too deep"
        except ValueError:
            what = "a number has too many digits"
        if what:
            raise DataError(f"{file.name}:{number}: not a JSON array ({what})")
        try:
            value = parse_json(text[start:at])
            fault = "null, not a JSON object" if value is None else ""
        except ValueError as error:
            value, fault = None, str(error)
        yield number, value, fault
        at = _after_space(text, at)
        number, counted = number + text.count("\n", counted, at), at
        if text.startswith(",", at):
            at += 1
        elif not text.startswith("]", at):
            raise DataError(f"{file.name}:{number}: not a JSON array (a comma or ] must follow an element)")
    if _after_space(text, at + 1) < len(text):
        raise DataError(f"{file.name}:{number}: not a JSON array (it goes on after its end)")


def _after_space(text: str, at: int) -> int:
    """Position of the first character from `at` that is not white space."""
    found = SPACE.match(text, at)
    return found.end() if found else at

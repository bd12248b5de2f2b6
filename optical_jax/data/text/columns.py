"""Rows of a table to sentence pairs: whether the first one is a header, and which column is which side."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from optical_jax.config import DataConfig
from optical_jax.data.text import folding
from optical_jax.data.text.languages import ENGLISH, WORDS, find_language, language_key
from optical_jax.data.text.pairs import BLANK, HEADER, Line, PairFile, pair_line
from optical_jax.errors import ConfigError

Columns = dict[str, int]
""""english", "foreign" and, if asked for, "score" and "document" -> column, counted from 0."""
FIELDS = ("english", "foreign", "score", "document")
SOURCE = {"source", "src", "sentence", "text", "original", "side", "string", "sent", "segment"}
"""Words in the name of the first side, which is the English one if nothing else says so."""
TARGET = {"target", "tgt", "trg", "translation", "translated", "foreign"}
"""Words in the name of the other side."""
ASIDE = {
    "id", "ids", "index", "idx", "no", "nr", "number", "key", "line", "score", "scores", "laser", "similarity",
    "label", "url", "link", "doc", "document", "domain", "split", "date", "lang", "language", "length", "unnamed",
    "provenance", "corpus", "dataset", "license", "licence", "category", "topic",
}  # fmt: skip
"""Words in the name of a column that is not a side."""
SCRIPTS = {"latn", "cyrl", "arab", "deva", "ethi", "hans", "hant", "us", "gb"}


class Row(NamedTuple):
    """A row of a table; `fault` or `left_out` says why it holds no pair."""

    number: int
    """Of its first line, from 1."""
    cells: Sequence[Any]
    """Texts; numbers and dates in a workbook."""
    fault: str = ""
    left_out: str = ""


def table_lines(
    rows: Iterable[Row], file: PairFile, cfg: DataConfig, form: Sequence[str], notes: list[str]
) -> Iterator[Line]:
    """The pairs of a table's rows, whose first one may be a header.

    Args:
      rows: of the file, blank ones too.
      form: what else was recognised in the file, for its note.
      notes: the note is added to it, if there is anything to say.

    Raises:
      ConfigError: as `table_columns`.
    """
    columns: Columns = {}
    for number, cells, fault, left_out in rows:
        where = f"{file.name}:{number}"
        if fault or left_out:
            yield Line(where, fault=fault, left_out=left_out)
            continue
        if all(isinstance(cell, str) and not cell.strip() for cell in cells):
            yield Line(where, left_out=BLANK)
            continue
        found = columns
        if not found:
            names = [cell if isinstance(cell, str) else "" for cell in cells]
            found, header = table_columns(names, file, cfg)
            # One cell may be a title above the table, after which a header follows.
            if header or sum(cell != "" for cell in cells) > 1:
                columns = found
                taken = (f"{field} {names[n].strip()} ({n})" for field, n in columns.items() if n < len(names))
                said = [*form, *(["header", "columns " + ", ".join(taken)] if header else [])]
                notes += [f"{file.name}: {', '.join(said)}"] if said else []
            if header:
                yield Line(where, left_out=HEADER)
                continue
        last = max(found.values())
        if len(cells) <= last:
            yield Line(where, fault=f"{len(cells)} columns, no column {last} (counted from 0)")
        else:
            yield pair_line(where, {field: cells[column] for field, column in found.items()})


def table_columns(first: Sequence[str], file: PairFile, cfg: DataConfig) -> tuple[Columns, bool]:
    """Columns of a table, and whether its first line is a header.

    It is one if columns are asked for by name, or if it names both languages (en and sw, English and Swahili), or if
    every cell is a word for a column and two of them are words for sides (source and target, id too). In a header, the
    default columns are those that it names English and the file's language.

    Args:
      first: cells of the first line that is not blank.

    Raises:
      ConfigError: a column is asked for by a name that is not there, or the sides are not clear from the header.
    """
    default = DataConfig()
    by_number = [
        int(value)
        for value, usual in ((cfg.english_column, default.english_column), (cfg.foreign_column, default.foreign_column))
        if value.isdecimal() and value != usual
    ]
    # In rows such as eng<TAB>Water<TAB>swh<TAB>Maji the columns that are asked for hold texts.
    is_named = all(_role(first[n], file.language) for n in by_number if n < len(first))
    if _asked_by_name(cfg) or (is_named and is_header(first, file.language, cfg)):
        return named_columns(first, file, cfg), True
    return {field: int(value) for field, value in _asked(cfg).items()}, False


def named_columns(names: Sequence[str], file: PairFile, cfg: DataConfig, numbers: bool = True) -> Columns:
    """Columns of a table whose columns have these names.

    Args:
      numbers: a column may be asked for by its number.

    Raises:
      ConfigError: a column is asked for by a name that is not there, or the sides are not clear from the names.
    """
    asked, default, found = _asked(cfg), _asked(DataConfig()), {}
    for field, value in asked.items():
        if value == default.get(field) and value not in names:
            continue
        if numbers and value.isdecimal():
            found[field] = int(value)
        else:
            same = [n for n, name in enumerate(names) if name == value] or [
                n for n, name in enumerate(names) if name.strip().casefold() == value.strip().casefold()
            ]
            if not same:
                use = "use one of them" + (", or a number, counted from 0" if numbers else "")
                raise ConfigError(f"data.{field}_column={value}: {file.name} has {_listed(names)}; {use}")
            found[field] = same[0]
    left = {n: name for n, name in enumerate(names) if n not in found.values()}
    sides = sides_by_name(left, file.language)
    for field in ("english", "foreign"):
        if field not in found:
            side = sides.get(field)
            if side is None:
                what = "English" if field == "english" else file.language
                raise ConfigError(
                    f"{file.name}: which column is the {what} side is not clear from its names ({_listed(names)}); "
                    f"add --data.{field}-column NAME"
                )
            found[field] = side
    return found


def is_header(cells: Sequence[str], language: str, cfg: DataConfig) -> bool:
    """Whether a first line has names of columns, not a pair; the rule is in `table_columns`."""
    if names := _asked_by_name(cfg):
        return names <= {cell.strip().casefold() for cell in cells}
    roles = [_role(cell, language) for cell in cells]
    names = [cell.strip().casefold() for cell in cells if cell.strip()]
    if len(set(names)) < len(names):
        return False
    if {"english", "foreign"} <= set(roles):
        return True
    sides = {"english", "source"} & set(roles), {"foreign", "target", "other"} & set(roles)
    return all(roles) and (all(sides) or roles.count("source") > 1 or {"english", "source"} <= set(roles))


def sides_by_name(names: Mapping[int, str], language: str) -> Columns:
    """The sides that follow from the names of columns; one that could be several columns is left out."""
    by_role: dict[str, list[int]] = {}
    for column, name in names.items():
        by_role.setdefault(_role(name, language), []).append(column)
    exact = find_language(language, list(names.values()))
    foreign = [n for n in by_role.get("foreign", []) if names[n] == exact] or by_role.get("foreign", [])
    english = by_role.get("english", [])
    english = [n for n in english if names[n] == ENGLISH] or english
    found = {field: of[0] for field, of in (("english", english), ("foreign", foreign)) if len(of) == 1}
    # Words such as source and target say less than a language does.
    rest = by_role.get("source", []) + by_role.get("target", [])
    if not english and rest:
        found["english"] = rest.pop(0)
    if not foreign and rest:
        found["foreign"] = (by_role.get("target", []) or rest)[0]
        if found["foreign"] == found.get("english"):
            del found["foreign"]
    return found


def _role(name: str, language: str) -> str:
    """What a column's name says: english, foreign, other (language), source, target, aside (no side), or nothing."""
    words = [part for word in folding.words(name) for part in re.split(r"\d+", word) if part]
    own = {word for word in words if language_key(word) == language_key(language)}
    if any(word not in SOURCE | TARGET | ASIDE | SCRIPTS | own and word not in WORDS for word in words):
        return ""
    if not words or (set(words) & ASIDE and not (len(words) == 1 and own)):
        return "aside"
    if own:
        return "foreign"
    languages = {WORDS[word] for word in words if word in WORDS}
    if languages:
        return "english" if ENGLISH in languages else "other"
    return "source" if set(words) & SOURCE else "target" if set(words) & TARGET else ""


def _asked(cfg: DataConfig) -> dict[str, str]:
    values = {field: getattr(cfg, f"{field}_column") for field in FIELDS}
    return {field: value for field, value in values.items() if value}


def _asked_by_name(cfg: DataConfig) -> set[str]:
    return {value.strip().casefold() for value in _asked(cfg).values() if not value.isdecimal()}


def _listed(names: Sequence[str]) -> str:
    """Names of columns as a message shows them."""
    shown = [name.strip() if len(name) <= 30 else f"{name[:30]}..." for name in names[:12]]
    return "the columns " + ", ".join(shown) + (", ..." if len(names) > 12 else "")

"""Readers of retriever training data: qrels, triples and scored passages in the formats of common libraries.

TSV (plain or .gz), recognized by its first line:

- ``query-id<TAB>corpus-id<TAB>score`` as a header, then judgements (BEIR);
- four columns, query, anything, passage, grade (TREC, MS MARCO's qrels);
- three columns, query, relevant, other passage (MS MARCO's triples): ids where there is a collection, else texts.

JSONL, recognized line by line:

- ``[query, relevant, other, ...]`` or ``[query, [passage, score], ...]``, ids (ColBERT);
- ``query_id, document_ids, scores`` (PyLate);
- ``query, positive_passages, negative_passages``, each ``docid, title, text`` (Tevatron);
- ``query, pos, neg`` and perhaps ``pos_scores, neg_scores`` (FlagEmbedding);
- ``query`` or ``anchor``, ``positive``, ``negative``, ``negative_2`` ... (Sentence Transformers);
- ``query, passages, scores``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from optical_jax.data.files.lines import read_lines
from optical_jax.errors import DataError
from optical_jax.files import parse_json

BEIR_HEADER = ("query-id", "corpus-id", "score")


class Named(NamedTuple):
    """A query or passage, by id or as text."""

    id: str = ""
    text: str = ""


class Passage(NamedTuple):
    named: Named
    relevant: bool | None
    """None if the file does not say."""
    score: float = math.nan
    """NaN if the file has none."""


class Listed(NamedTuple):
    """The passages of one query from one line."""

    where: str
    """FILE:LINE"""
    query: Named
    passages: list[Passage]


def read_rankings(path: Path, *, by_id: bool) -> Iterator[Listed]:
    """Read the lines of a file in any of the formats above.

    Args:
      path: a .tsv, .txt or .jsonl file, plain or .gz.
      by_id: whether three columns of a TSV are ids rather than texts.

    Raises:
      DataError: missing, empty, or a line in none of the formats; the message names file and line.
    """
    if not path.is_file():
        raise DataError(f"{path} {'is a folder' if path.is_dir() else 'does not exist'}; name a file of judgements")
    suffix = Path(path.name.removesuffix(".gz")).suffix
    readers = {".jsonl": _read_jsonl, ".tsv": _read_tsv, ".txt": _read_tsv}
    if suffix not in readers:
        raise DataError(f"{path}: the format is read from the name; it must end in .tsv or .jsonl (or .gz)")
    empty = True
    for listed in readers[suffix](path, by_id):
        empty = False
        yield listed
    if empty:
        raise DataError(f"{path} is empty; it must have a query and its passages on each line")


# ---- TSV ---------------------------------------------------------------------------------------------------------


def _read_tsv(path: Path, by_id: bool) -> Iterator[Listed]:
    parse: Callable[[list[str], str, bool], Listed] | None = None
    width = 0
    for number, line in read_lines(path):
        where, columns = f"{path}:{number}", [column.strip() for column in line.split("\t")]
        if parse is None:
            width = len(columns)
            if width == 3 and tuple(columns) == BEIR_HEADER:
                parse = _judgement
                continue
            if width not in (3, 4):
                raise DataError(
                    f"{where}: {width} columns; a line has three (query, relevant passage, other passage; or BEIR's "
                    f"{'<TAB>'.join(BEIR_HEADER)} under that header) or four (TREC: query, 0, passage, grade)"
                )
            parse = _triple if width == 3 else _judgement
        if len(columns) != width:
            raise DataError(f"{where}: {len(columns)} columns, but {width} before; separate columns by one tab each")
        if not all(columns):
            raise DataError(f"{where}: column {columns.index('') + 1} is empty")
        yield parse(columns, where, by_id)


def _judgement(columns: list[str], where: str, by_id: bool) -> Listed:
    query, passage, grade = columns[0], columns[-2], columns[-1]
    try:
        relevant = int(grade) > 0
    except ValueError:
        raise DataError(f"{where}: grade {grade!r} is not an integer") from None
    return Listed(where, Named(id=query), [Passage(Named(id=passage), relevant)])


def _triple(columns: list[str], where: str, by_id: bool) -> Listed:
    query, relevant, other = (Named(id=column) if by_id else Named(text=column) for column in columns)
    return Listed(where, query, [Passage(relevant, True), Passage(other, False)])


# ---- JSONL -------------------------------------------------------------------------------------------------------


def _read_jsonl(path: Path, by_id: bool) -> Iterator[Listed]:
    for number, line in read_lines(path):
        where = f"{path}:{number}"
        try:
            record: Any = parse_json(line)
        except ValueError as error:
            raise DataError(f"{where}: {error}") from None
        if isinstance(record, list):
            yield _colbert(record, where)
        elif isinstance(record, dict):
            yield Listed(where, _query(record, where), _passages(record, where))
        else:
            raise DataError(
                f"{where}: neither an object nor a list; a line must be in one of the formats of docs/teacher.md"
            )


def _colbert(record: list[Any], where: str) -> Listed:
    if len(record) < 2:
        raise DataError(f"{where}: a list of {len(record)}; it must be [query, passage, ...]")
    query, *rest = record
    scored = isinstance(rest[0], list)
    passages = []
    for n, one in enumerate(rest):
        if isinstance(one, list) != scored or (scored and len(one) != 2):
            raise DataError(f"{where}: entry {n + 2} is {one!r}; every passage must be an id, or every one [id, score]")
        if scored:
            passages.append(Passage(Named(id=_id(one[0], where)), None, _score(one[1], where)))
        else:
            passages.append(Passage(Named(id=_id(one, where)), n == 0))
    return Listed(where, Named(id=_id(query, where)), passages)


def _query(record: dict[str, Any], where: str) -> Named:
    for name in ("query", "anchor"):
        if name in record:
            return Named(text=_text(record[name], name, where))
    if "query_id" in record:
        return Named(id=_id(record["query_id"], where))
    raise DataError(f"{where}: no query; the object must have query, anchor or query_id")


def _passages(record: dict[str, Any], where: str) -> list[Passage]:
    if "positive_passages" in record:
        found = []
        for name, relevant in (("positive_passages", True), ("negative_passages", False)):
            for one in _list(record.get(name, []), name, where):
                if not isinstance(one, dict) or not isinstance(one.get("text"), str):
                    raise DataError(f"{where}: {name} holds {one!r}; each must be an object with docid, title and text")
                text = f"{one.get('title') or ''} {one['text']}".strip()
                found.append(Passage(Named(text=_text(text, name, where)), relevant))
        return found
    if "pos" in record:
        found = []
        for name, relevant in (("pos", True), ("neg", False)):
            texts = _list(record.get(name, []), name, where)
            scores = _scores(record.get(f"{name}_scores"), len(texts), f"{name}_scores", where)
            for text, score in zip(texts, scores, strict=True):
                found.append(Passage(Named(text=_text(text, name, where)), relevant, score))
        return found
    if "positive" in record:
        names = [name for name in record if name == "negative" or name.startswith("negative_")]
        return [Passage(Named(text=_text(record[n], n, where)), n == "positive") for n in ("positive", *names)]
    for name, kind in (("document_ids", "id"), ("passages", "text"), ("documents", "text")):
        if name in record:
            listed = _list(record[name], name, where)
            if record.get("scores") is None:
                raise DataError(f"{where}: {name} without scores; nothing says which passage is relevant")
            scores = _scores(record["scores"], len(listed), "scores", where)
            named = (Named(id=_id(x, where)) if kind == "id" else Named(text=_text(x, name, where)) for x in listed)
            return [Passage(one, None, score) for one, score in zip(named, scores, strict=True)]
    raise DataError(
        f"{where}: no passages; the object has {', '.join(record)}, and must have one of positive_passages, pos, "
        "positive, document_ids, passages"
    )


def _list(value: Any, name: str, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise DataError(f"{where}: {name} is not a list")
    return value


def _text(value: Any, name: str, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{where}: {name} holds {value!r}, which is not a text")
    return value.strip()


def _id(value: Any, where: str) -> str:
    """An id as a string; ColBERT writes integers, which are line numbers of its collection.tsv."""
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise DataError(f"{where}: {value!r} is not a valid id; it must be a string or an integer")
    return str(value)


def _scores(values: Any, count: int, name: str, where: str) -> list[float]:
    if values is None:
        return [math.nan] * count
    if len(_list(values, name, where)) != count:
        raise DataError(f"{where}: {len(values)} {name} for {count} passages")
    return [_score(value, where) for value in values]


def _score(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise DataError(f"{where}: score {value!r} is not a number")
    return float(value)

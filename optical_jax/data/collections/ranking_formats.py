"""Readers of retriever training data: qrels, triples and scored passages in the formats of common libraries.

TSV (plain or .gz), recognized by its first line:

- ``query-id<TAB>corpus-id<TAB>score`` as a header, then judgements (BEIR);
- four columns, query, anything, passage, grade (TREC, MS MARCO's qrels);
- three columns, query, relevant, other passage (MS MARCO's triples): ids where there is a collection, else texts. A
  header such as ``query<TAB>positive<TAB>negative`` is skipped.

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
from operator import contains
from pathlib import Path
from typing import Any, NamedTuple

from optical_jax.data.characters import is_blank
from optical_jax.data.files.lines import raw_lines
from optical_jax.data.files.records import BadLines, read_grade, shortened
from optical_jax.errors import DataError
from optical_jax.files import parse_json

BEIR_HEADER = ("query-id", "corpus-id", "score")
TRIPLES_HEADER = (
    {"query", "anchor", "question", "sentence"},
    {"positive", "pos", "relevant", "positive_passage", "pos_text"},
    {"negative", "neg", "irrelevant", "other", "negative_passage", "neg_text"},
)
"""Names of columns in the first line of some files of triples."""


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


def read_rankings(path: Path, bad: BadLines | None = None, *, by_id: bool) -> Iterator[Listed]:
    """Read the lines of a file in any of the formats above.

    Args:
      path: a .tsv, .txt or .jsonl file, plain or .gz.
      bad: counts lines that are in none of the formats; None allows none.
      by_id: whether three columns of a TSV are ids rather than texts.

    Raises:
      DataError: missing or empty; more bad lines than `bad` allows; the message names file and line.
    """
    if not path.is_file():
        raise DataError(f"{path} {'is a folder' if path.is_dir() else 'does not exist'}; name a file of judgements")
    suffix = Path(path.name.removesuffix(".gz")).suffix
    parsers = {".jsonl": lambda by_id: _parse_json, ".tsv": _tsv_parser, ".txt": _tsv_parser}
    if suffix not in parsers:
        raise DataError(f"{path}: the format is read from the name; it must end in .tsv or .jsonl (or .gz)")
    bad = bad or BadLines()
    empty, parse = True, parsers[suffix](by_id)
    for number, line, fault in raw_lines(path):
        if not fault and not line.strip():
            continue
        empty, where = False, f"{path}:{number}"
        try:
            if fault:
                raise ValueError(fault)
            listed = parse(line, where)
        except ValueError as error:
            bad.add("broken_training_lines", f"{where}: {error}")
            continue
        if listed is not None:
            yield listed
    if empty:
        raise DataError(f"{path} is empty; it must have a query and its passages on each line")


# ---- TSV ---------------------------------------------------------------------------------------------------------

Parse = Callable[[str, str], Listed | None]
"""A line and its FILE:LINE to what is listed, None for a header. Raises ValueError: the line is in no format."""


def _tsv_parser(by_id: bool) -> Parse:
    parse: Callable[[list[str], str, bool], Listed] | None = None
    width = 0

    def parse_line(line: str, where: str) -> Listed | None:
        nonlocal parse, width
        columns = [column.strip() for column in line.split("\t")]
        if parse is None:
            names = [column.casefold() for column in columns]
            if tuple(names) == BEIR_HEADER:
                parse, width = _judgement, 3
                return None
            if len(names) == 3 and all(map(contains, TRIPLES_HEADER, names)):
                parse, width = _triple, 3
                return None
            if len(columns) not in (3, 4):
                raise ValueError(
                    f"{len(columns)} columns; a line has three (query, relevant passage, other passage; or BEIR's "
                    f"{'<TAB>'.join(BEIR_HEADER)} under that header) or four (TREC: query, 0, passage, grade)"
                )
            width = len(columns)
            parse = _triple if width == 3 else _judgement
        if len(columns) != width:
            raise ValueError(f"{len(columns)} columns, but {width} before; separate columns by one tab each")
        if not all(columns):
            raise ValueError(f"column {columns.index('') + 1} is empty")
        return parse(columns, where, by_id)

    return parse_line


def _judgement(columns: list[str], where: str, by_id: bool) -> Listed:
    query, passage, grade = columns[0], columns[-2], columns[-1]
    return Listed(where, Named(id=query), [Passage(Named(id=passage), read_grade(grade) > 0)])


def _triple(columns: list[str], where: str, by_id: bool) -> Listed:
    query, relevant, other = (Named(id=column) if by_id else Named(text=column) for column in columns)
    return Listed(where, query, [Passage(relevant, True), Passage(other, False)])


# ---- JSONL -------------------------------------------------------------------------------------------------------


def _parse_json(line: str, where: str) -> Listed:
    record: Any = parse_json(line)
    if isinstance(record, list):
        return _colbert(record, where)
    if isinstance(record, dict):
        return Listed(where, _query(record), _passages(record))
    raise ValueError("neither an object nor a list; a line must be in one of the formats of docs/teacher.md")


def _colbert(record: list[Any], where: str) -> Listed:
    if len(record) < 2:
        raise ValueError(f"a list of {len(record)}; it must be [query, passage, ...]")
    query, *rest = record
    scored = isinstance(rest[0], list)
    passages = []
    for n, one in enumerate(rest):
        if isinstance(one, list) != scored or (scored and len(one) != 2):
            raise ValueError(
                f"entry {n + 2} is {shortened(one)}; every passage must be an id, or every one [id, score]"
            )
        if scored:
            passages.append(Passage(Named(id=_id(one[0])), None, _score(one[1])))
        else:
            passages.append(Passage(Named(id=_id(one)), n == 0))
    return Listed(where, Named(id=_id(query)), passages)


def _query(record: dict[str, Any]) -> Named:
    for name in ("query", "anchor"):
        if name in record:
            return Named(text=_text(record[name], name))
    if "query_id" in record:
        return Named(id=_id(record["query_id"]))
    raise ValueError("no query; the object must have query, anchor or query_id")


def _passages(record: dict[str, Any]) -> list[Passage]:
    if "positive_passages" in record:
        found = []
        for name, relevant in (("positive_passages", True), ("negative_passages", False)):
            for one in _list(record.get(name, []), name):
                valid = isinstance(one, dict) and isinstance(one.get("text"), str)
                if not valid or not isinstance(one.get("title"), str | None):
                    raise ValueError(
                        f"{name} holds {shortened(one)}; each must be an object with docid, title and text"
                    )
                text = f"{one.get('title') or ''} {one['text']}".strip()
                found.append(Passage(Named(text=_text(text, name)), relevant))
        return found
    if "pos" in record:
        found = []
        for name, relevant in (("pos", True), ("neg", False)):
            texts = _list(record.get(name, []), name)
            scores = _scores(record.get(f"{name}_scores"), len(texts), f"{name}_scores")
            for text, score in zip(texts, scores, strict=True):
                found.append(Passage(Named(text=_text(text, name)), relevant, score))
        return found
    if "positive" in record:
        names = [name for name in record if name == "negative" or name.startswith("negative_")]
        return [Passage(Named(text=_text(record[n], n)), n == "positive") for n in ("positive", *names)]
    for name, kind in (("document_ids", "id"), ("passages", "text"), ("documents", "text")):
        if name in record:
            listed = _list(record[name], name)
            if record.get("scores") is None:
                raise ValueError(f"{name} without scores; nothing says which passage is relevant")
            scores = _scores(record["scores"], len(listed), "scores")
            named = (Named(id=_id(x)) if kind == "id" else Named(text=_text(x, name)) for x in listed)
            return [Passage(one, None, score) for one, score in zip(named, scores, strict=True)]
    raise ValueError(
        f"no passages; the object has {', '.join(record)[:200]}, and must have one of positive_passages, pos, "
        "positive, document_ids, passages"
    )


def _list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{name} is not a list")
    return value


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str) or is_blank(value):
        raise ValueError(f"{name} holds {shortened(value)}, which is not a text")
    return value.strip()


def _id(value: Any) -> str:
    """An id as a string; ColBERT writes integers, which are line numbers of its collection.tsv."""
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise ValueError(f"{shortened(value)} is not a valid id; it must be a string or an integer")
    return str(value)


def _scores(values: Any, count: int, name: str) -> list[float]:
    if values is None:
        return [math.nan] * count
    if len(_list(values, name)) != count:
        raise ValueError(f"{len(values)} {name} for {count} passages")
    return [_score(value) for value in values]


def _score(value: Any) -> float:
    # As float32 holds; of NaN no comparison is true.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e38:
        raise ValueError(f"score {shortened(value)} is not a number below 1e38")
    return float(value)

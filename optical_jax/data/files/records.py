"""Streams of documents, queries and qrels, each with its file and line.

Every loop over a stream reads its files again, so that millions of documents need not be held in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from optical_jax.data.files.lines import read_json_lines, read_lines
from optical_jax.errors import DataError

Qrels = dict[str, dict[str, int]]
"""Query id -> document id -> grade; above 0 is relevant."""


class Entry(NamedTuple):
    """A document or a query."""

    name: str
    """The file it is in."""
    line: int
    identity: str
    text: str

    @property
    def where(self) -> str:
        return f"{self.name}:{self.line}"


class Judgement(NamedTuple):
    where: str
    """FILE:LINE"""
    query: str
    document: str
    grade: int


Record = TypeVar("Record")


class Stream(Generic[Record]):
    """Records of one kind; every loop reads the files again."""

    def __init__(self, paths: Sequence[Path], read: Callable[[], Iterator[Record]], name: str = "") -> None:
        self.paths = tuple(paths)
        self.name = name or ", ".join(map(str, paths))
        self._read = read

    def __iter__(self) -> Iterator[Record]:
        return self._read()


class BadLines:
    """Counter of skipped lines; more than `limit` are an error."""

    def __init__(self, limit: int = 0) -> None:
        self.limit = limit
        self.count = 0
        self.first: list[str] = []
        """The first few, to be shown."""

    def add(self, message: str) -> None:
        """Count one.

        Raises:
          DataError: there are more than `limit`.
        """
        self.count += 1
        if self.count > self.limit:
            raise DataError(message + (f" (bad line {self.count}, max_bad_lines={self.limit})" if self.limit else ""))
        if len(self.first) < 5:
            self.first.append(message)


def jsonl_texts(
    *paths: Path, kind: str, identity: str = "_id", text: str = "text", title: str = "title"
) -> Stream[Entry]:
    """Documents or queries from JSONL files: title and text, joined, under these keys; the title may be absent."""

    def read() -> Iterator[Entry]:
        for path in paths:
            for number, record in read_json_lines(path):
                if not isinstance(record, dict) or not all(isinstance(record.get(k), str) for k in (identity, text)):
                    raise DataError(
                        f'{path}:{number}: not a {kind}; a line must be {{"{identity}": "...", "{text}": "..."}}'
                    )
                yield Entry(str(path), number, record[identity], f"{record.get(title) or ''} {record[text]}".strip())

    return Stream(paths, read)


def tsv_texts(
    path: Path,
    kind: str,
    columns: Sequence[str] = ("id", "text"),
    text: Sequence[str] = ("text",),
    *,
    header: str = "",
    quoted: bool = False,
) -> Stream[Entry]:
    """Documents or queries from a TSV file, one a line; the first column is the id.

    Args:
      path: the file.
      kind: "document" or "query", for messages.
      columns: names of the tab-separated columns.
      text: those that are joined by a space.
      header: the first line is skipped if it begins with this cell.
      quoted: cells may be in double quotes, with quotes inside doubled.
    """
    order = [columns.index(name) for name in text]

    def read() -> Iterator[Entry]:
        for number, line in read_lines(path):
            cells = line.split("\t")
            if number == 1 and header and cells[0] == header:
                continue
            if len(cells) != len(columns):
                raise DataError(
                    f"{path}:{number}: {len(cells)} columns, not a {kind}; a line must be {'<TAB>'.join(columns)}"
                )
            parts = [_unquoted(cells[n]) if quoted else cells[n] for n in order]
            yield Entry(str(path), number, cells[0], " ".join(part.strip() for part in parts).strip())

    return Stream((path,), read)


def _unquoted(cell: str) -> str:
    inside = len(cell) > 1 and cell[0] == cell[-1] == '"'
    return cell[1:-1].replace('""', '"') if inside else cell


TREC = ("query", "", "document", "grade")
"""Columns of a TREC qrels file; most collections do not use the second."""


def judgement_lines(path: Path, columns: Sequence[str] = TREC, **only: str) -> Stream[Judgement]:
    """Relevance judgements (qrels) from a file with columns separated by white space.

    `only` keeps the lines in which these columns have these values.

    Raises (when read):
      DataError: another number of columns, or a grade that is not an integer.
    """

    def read() -> Iterator[Judgement]:
        for number, line in read_lines(path):
            where, cells = f"{path}:{number}", line.split()
            if len(cells) != len(columns):
                names = " ".join(name or "Q0" for name in columns)
                raise DataError(f"{where}: {len(cells)} columns, not a judgement; a line must be {names}")
            named = dict(zip(columns, cells, strict=True))
            if any(named[column] != value for column, value in only.items()):
                continue
            grade = whole_number(named["grade"])
            if grade is None:
                raise DataError(f"{where}: grade {named['grade']!r} is not an integer")
            yield Judgement(where, named["query"], named["document"], grade)

    return Stream((path,), read)


def whole_number(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None


# ---- checks ------------------------------------------------------------------------------------------------------


def unique_texts(entries: Stream[Entry], kind: str, bad: BadLines) -> Iterator[tuple[str, str]]:
    """Iterate over ids and texts, refusing duplicate ids. Holds the ids in memory, not the texts.

    Raises:
      DataError: no entry; an id is empty, has white space or is a duplicate; more empty texts than `bad` allows.
    """
    seen: set[str] = set()
    for entry in entries:
        where, identity = entry.where, entry.identity
        if not identity or any(c.isspace() for c in identity):
            raise DataError(f"{where}: _id {identity!r} is empty or has white space, which a TREC run file cannot hold")
        if identity in seen:
            # Read again, for the sake of one message, rather than hold the lines of millions.
            first = next(earlier for earlier in entries if earlier.identity == identity)
            of = "" if first.name == entry.name else f" of {first.name}"
            raise DataError(f"{where}: {kind} {identity!r} is already in line {first.line}{of}; give each its own _id")
        seen.add(identity)
        if not entry.text:
            bad.add(f"{where}: {kind} {identity!r} has no text; remove it")
            continue
        yield identity, entry.text
    if not seen:
        raise DataError(f"{entries.name} is empty; it must hold a {kind} a line")


def gather_qrels(judgements: Stream[Judgement], documents: Collection[str], bad: BadLines) -> Qrels:
    """Relevance judgements as qrels: query id -> document id -> grade.

    Raises:
      DataError: more documents that are not in the corpus than `bad` allows, or a pair judged twice.
    """
    qrels: Qrels = {}
    for where, query, document, grade in judgements:
        if document not in documents:
            bad.add(f"{where}: document {document!r} is not in the corpus")
        elif document in qrels.setdefault(query, {}):
            raise DataError(f"{where}: query {query!r} and document {document!r} are judged twice")
        else:
            qrels[query][document] = grade
    return {query: grades for query, grades in qrels.items() if grades}


LANGUAGE = r"[A-Za-z]{2,3}(?:[-_][A-Za-z]{4})?(?:[-_](?:[A-Za-z]{2}|[0-9]{3}))?"
"""ISO 639 codes, optionally with script and region: sw, swh_Latn, pt-BR."""

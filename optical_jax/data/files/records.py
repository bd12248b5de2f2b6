"""Streams of documents, queries and qrels, each with its file and line.

Every loop over a stream reads its files again, so that millions of documents need not be held in memory.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from optical_jax.data.characters import is_blank
from optical_jax.data.files.lines import raw_lines
from optical_jax.errors import DataError
from optical_jax.files import parse_json, text_fault

Qrels = dict[str, dict[str, int]]
"""Query id -> document id -> grade; above 0 is relevant."""


class Entry(NamedTuple):
    """A document or a query, or a line that should have been one."""

    name: str
    """The file it is in."""
    line: int
    identity: str
    text: str
    fault: str = ""
    """Why the line is not valid; the id and the text are empty then."""

    @property
    def where(self) -> str:
        return f"{self.name}:{self.line}"


class Judgement(NamedTuple):
    where: str
    """FILE:LINE"""
    query: str
    document: str
    grade: int
    fault: str = ""
    """As of `Entry`."""


Record = TypeVar("Record")


class Stream(Generic[Record]):
    """Records of one kind; every loop reads the files again."""

    def __init__(self, paths: Sequence[Path], read: Callable[[], Iterator[Record]], name: str = "") -> None:
        self.paths = tuple(paths)
        self.name = name or ", ".join(map(str, paths))
        self._read = read

    def __iter__(self) -> Iterator[Record]:
        return self._read()


MEND = "mend the line"


def leave_out_by(flag: str) -> str:
    """The remedy of `BadLines` where a flag sets its limit."""
    return f"{MEND}, or leave out up to N such lines with {flag} N"


class BadLines:
    """Counter of lines that are left out, by reason; more than `limit` bad ones are an error.

    A line that repeats another one changes nothing, so that repeats are counted without a limit.
    """

    def __init__(self, limit: int = 0, remedy: str = MEND) -> None:
        self.limit, self.remedy = limit, remedy
        self.count = 0
        """Of the bad ones."""
        self.first: list[str] = []
        """The first few of them, to be shown."""
        self.left_out: Counter[str] = Counter()
        """Reason -> number, repeats included."""

    def add(self, reason: str, message: str | Callable[[], str]) -> None:
        """Count a bad line; a message that takes long to make is a function, called if it is shown.

        Raises:
          DataError: there are more than `limit`.
        """
        self.count += 1
        self.left_out[reason] += 1
        over = self.count > self.limit
        if over or len(self.first) < 5:
            shown = message if isinstance(message, str) else message()
            if over:
                of = f" (bad line {self.count}, max_bad_lines={self.limit})" if self.limit else f"; {self.remedy}"
                raise DataError(shown + of)
            self.first.append(shown)

    def repeat(self, reason: str) -> None:
        self.left_out[reason] += 1


def in_words(left_out: Mapping[str, int]) -> str:
    """Counts by reason, as they are printed."""
    return ", ".join(f"{reason.replace('_', ' ')} {count:,}" for reason, count in left_out.items())


# ---- lines -------------------------------------------------------------------------------------------------------


def parsed_lines(
    path: Path, parse: Callable[[int, str], Record | None], broken: Callable[[int, str], Record]
) -> Iterator[Record]:
    """Parse the lines of a file that are not blank; one that is not valid becomes a record that says why.

    Args:
      path: the file.
      parse: line number and line to a record, or None to skip it; raises ValueError if the line is not valid.
      broken: line number and fault to a record.

    Raises:
      DataError: as `raw_lines`.
    """
    for number, line, fault in raw_lines(path):
        if not fault and not line.strip():
            continue
        try:
            if fault:
                raise ValueError(fault)
            record = parse(number, line)
        except ValueError as error:
            record = broken(number, str(error))
        if record is not None:
            yield record


def parsed_entries(path: Path, parse: Callable[[int, str], Entry | None]) -> Stream[Entry]:
    """Documents or queries, one a line of a file; `parse` as of `parsed_lines`."""
    name = str(path)
    return Stream((path,), lambda: parsed_lines(path, parse, lambda number, fault: Entry(name, number, "", "", fault)))


def jsonl_texts(
    *paths: Path, kind: str, identity: str = "_id", text: str = "text", title: str = "title"
) -> Stream[Entry]:
    """Documents or queries from JSONL files: title and text, joined, under these keys; the title may be absent."""

    def stream(path: Path) -> Stream[Entry]:
        def parse(number: int, line: str) -> Entry:
            record = parse_json(line)
            if not isinstance(record, dict) or not all(isinstance(record.get(k), str) for k in (identity, text)):
                raise ValueError(f'not a {kind}; a line must be {{"{identity}": "...", "{text}": "..."}}')
            if not isinstance(record.get(title), str | None):
                raise ValueError(f"{title} is {shortened(record[title])}, not text")
            return Entry(str(path), number, record[identity], f"{record.get(title) or ''} {record[text]}".strip())

        return parsed_entries(path, parse)

    return Stream(paths, lambda: chain.from_iterable(map(stream, paths)))


def tsv_texts(
    path: Path,
    kind: str,
    columns: Sequence[str] = ("id", "text"),
    text: Sequence[str] = ("text",),
    *,
    quoted: bool = False,
) -> Stream[Entry]:
    """Documents or queries from a TSV file, one a line; the first column is the id. A header is skipped (`is_header`).

    Args:
      path: the file.
      kind: "document" or "query", for messages.
      columns: names of the tab-separated columns.
      text: those that are joined by a space.
      quoted: cells may be in double quotes, with quotes inside doubled.
    """
    order = [columns.index(name) for name in text]

    def parse(number: int, line: str) -> Entry | None:
        cells = line.split("\t")
        if is_header(number, cells[0]):
            return None
        if len(cells) != len(columns):
            raise ValueError(f"{len(cells)} columns, not a {kind}; a line must be {'<TAB>'.join(columns)}")
        parts = [_unquoted(cells[n]) if quoted else cells[n] for n in order]
        return Entry(str(path), number, cells[0].strip(), " ".join(part.strip() for part in parts).strip())

    return parsed_entries(path, parse)


HEADS = {"id", "_id", "qid", "pid", "docid", "doc_id", "doc-id", "query_id", "query-id", "passage_id", "corpus-id"}


def is_header(number: int, cell: str) -> bool:
    """Whether a line of a TSV file of texts is a header, by its number and its first cell."""
    return number == 1 and cell.strip().lower() in HEADS


def _unquoted(cell: str) -> str:
    inside = len(cell) > 1 and cell[0] == cell[-1] == '"'
    return cell[1:-1].replace('""', '"') if inside else cell


TREC = ("query", "", "document", "grade")
"""Columns of a TREC qrels file; most collections do not use the second."""


def judgement_lines(path: Path, columns: Sequence[str] = TREC, **only: str) -> Stream[Judgement]:
    """Relevance judgements (qrels) from a file with columns separated by white space.

    `only` keeps the lines in which these columns have these values.
    """

    def parse(number: int, line: str) -> Judgement | None:
        cells = line.split()
        if len(cells) != len(columns):
            names = " ".join(name or "Q0" for name in columns)
            raise ValueError(f"{len(cells)} columns, not a judgement; a line must be {names}")
        named = dict(zip(columns, cells, strict=True))
        if any(named[column] != value for column, value in only.items()):
            return None
        return Judgement(f"{path}:{number}", named["query"], named["document"], read_grade(named["grade"]))

    return Stream((path,), lambda: parsed_judgements(path, parse))


def parsed_judgements(path: Path, parse: Callable[[int, str], Judgement | None]) -> Iterator[Judgement]:
    """Relevance judgements, one a line of a file; `parse` as of `parsed_lines`."""
    return parsed_lines(path, parse, lambda number, fault: Judgement(f"{path}:{number}", "", "", 0, fault))


# ---- checks ------------------------------------------------------------------------------------------------------

LARGEST_GRADE = 10_000
"""Of a judgement; collections have grades up to 6, or 100. trec_eval counts them in an array with an entry a grade."""


def read_grade(text: str) -> int:
    """
    Raises:
      ValueError: not an integer.
    """
    # int() alone would take 1_0 for 10, and refuse or take long over thousands of digits.
    if not re.fullmatch(r"[+-]?[0-9]{1,1000}", text):
        raise ValueError(f"grade {shortened(text)} is not an integer")
    return int(text)


def shortened(value: object, length: int = 60) -> str:
    """The representation of a value, cut for a message."""
    shown = repr(value)
    return shown if len(shown) <= length else f"{shown[:length]}..."


NOT_OF_IDS = re.compile("[\\s\\x00-\\x1f\\x7f-\\x9f\ufeff\ud800-\udfff]")
"""White space, control characters, byte order marks, halves of surrogate pairs."""


def id_fault(identity: str) -> str:
    """Why a string cannot be the id of a document or query, for an error message; empty if it can.

    TREC files part ids by white space, and trec_eval (C code) ends an id at a null character and cannot read one that
    has no UTF-8.
    """
    if not identity:
        return "is empty"
    first = NOT_OF_IDS.search(identity)
    if first is None:
        return ""
    if first[0].isspace():
        return "has white space, which parts the columns of TREC files"
    return f"has {text_fault(first[0]) or f'the control character U+{ord(first[0]):04X}'}"


def faults_in_ids(ids: Collection[str]) -> str:
    """The first `id_fault` of several ids, with its id; empty if all are valid."""
    if "" not in ids and not NOT_OF_IDS.search(",".join(ids)):
        return ""
    return next(f"id {shortened(identity)} {fault}" for identity in ids if (fault := id_fault(identity)))


PLURALS = {"query": "queries"}


def unique_texts(entries: Stream[Entry], kind: str, bad: BadLines) -> Iterator[tuple[str, str]]:
    """Iterate over ids and texts, each id once. Holds the ids and a hash of each text in memory, not the texts.

    An entry that repeats an id and its text is left out, as is, up to the limit of `bad`, a line that is not valid, an
    id that is not (`id_fault`), an entry without text, and one with the id of an earlier one and another text.

    Raises:
      DataError: no entry has text; or more bad lines than `bad` allows.
    """
    seen: dict[str, int] = {}
    several = PLURALS.get(kind, f"{kind}s")
    for entry in entries:
        where, identity = entry.where, entry.identity
        if entry.fault:
            bad.add(f"broken_{several}", f"{where}: {entry.fault}")
        elif fault := id_fault(identity):
            bad.add(f"{several}_without_valid_id", f"{where}: _id {shortened(identity)} {fault}")
        elif is_blank(entry.text):
            bad.add(f"{several}_without_text", f"{where}: {kind} {identity!r} has no text")
        elif identity not in seen:
            seen[identity] = hash(entry.text)
            yield identity, entry.text
        elif seen[identity] == hash(entry.text):
            bad.repeat(f"repeated_{several}")
        else:
            bad.add(f"{several}_with_another_text", lambda entry=entry: _another_text(entry, entries, kind))
    if not seen:
        raise DataError(f"{entries.name} is empty; it must hold a {kind} with text a line")


def _another_text(entry: Entry, entries: Stream[Entry], kind: str) -> str:
    # Read again, for the sake of one message, rather than hold the lines of millions.
    first = next(earlier for earlier in entries if earlier.identity == entry.identity and not is_blank(earlier.text))
    of = "" if first.name == entry.name else f" of {first.name}"
    return f"{entry.where}: {kind} {entry.identity!r} is already in line {first.line}{of}, with another text"


def gather_qrels(judgements: Stream[Judgement], documents: Collection[str], bad: BadLines) -> Qrels:
    """Relevance judgements as qrels: query id -> document id -> grade.

    A judgement that repeats another one is left out, as is, up to the limit of `bad`, a line that is not valid, a query
    id that is not (`id_fault`), a grade above `LARGEST_GRADE`, a document that is not in the corpus, and another grade
    for a document that was judged before.

    Raises:
      DataError: more bad lines than `bad` allows.
    """
    qrels: Qrels = {}
    absent: set[str] = set()
    for judgement in judgements:
        where, query, document, grade, line_fault = judgement
        known = qrels.get(query, {})
        if line_fault:
            bad.add("broken_judgements", f"{where}: {line_fault}")
        elif fault := id_fault(query):
            bad.add("judgements_without_valid_id", f"{where}: query id {shortened(query)} {fault}")
        elif grade > LARGEST_GRADE:
            bad.add("judgements_with_large_grades", f"{where}: the grade is above {LARGEST_GRADE:,}")
        elif document not in documents:
            absent.add(query)
            bad.add("judgements_of_absent_documents", f"{where}: document {shortened(document)} is not in the corpus")
        elif document not in known:
            qrels.setdefault(query, {})[document] = grade
        elif known[document] == grade:
            bad.repeat("repeated_judgements")
        else:
            bad.add("judgements_with_another_grade", lambda it=judgement: _another_grade(it, judgements))
    if lost := len(absent - qrels.keys()):
        bad.left_out["queries_judged_on_absent_documents_alone"] += lost
    return qrels


def _another_grade(judgement: Judgement, judgements: Stream[Judgement]) -> str:
    where, query, document, grade, _ = judgement
    first = next(earlier for earlier in judgements if (earlier.query, earlier.document) == (query, document))
    return (
        f"{where}: query {query!r} and document {document!r} are judged twice: {grade} here, {first.grade} in "
        f"{first.where}"
    )


LANGUAGE = r"[A-Za-z]{2,3}(?:[-_][A-Za-z]{4})?(?:[-_](?:[A-Za-z]{2}|[0-9]{3}))?"
"""ISO 639 codes, optionally with script and region: sw, swh_Latn, pt-BR."""

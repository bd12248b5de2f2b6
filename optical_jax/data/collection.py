"""Collections in BEIR's form: English documents, queries a language, graded judgements a split."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optical_jax.errors import ConfigError, DataError
from optical_jax.files import sha256_file

Qrels = dict[str, dict[str, int]]
"""Query id -> document id -> grade; above 0 is relevant."""

HEADER = "query-id<TAB>corpus-id<TAB>score"


@dataclass(frozen=True)
class Collection:
    """Documents, the judged queries of some languages, and their judgements in one split."""

    name: str
    split: str
    documents: dict[str, str]
    """Document id -> title and text."""
    queries: dict[str, dict[str, str]]
    """Language -> query id -> text; judged queries only."""
    qrels: Qrels
    """Of the queries of all languages in `queries`."""
    english: dict[str, str]
    """Query id -> text of all English queries; empty where the collection has none."""
    sha256: dict[str, str]
    """File name -> hash of every file that was read for this."""

    def is_parallel(self, language: str) -> bool:
        """Whether query and document are one sentence: each query's one relevant document has the query's own id."""
        return not self.english and all(
            [document for document, grade in self.qrels[query].items() if grade > 0] == [query]
            for query in self.queries[language]
        )


def read_collection(folder: str | Path, split: str = "dev", languages: Sequence[str] = ()) -> Collection:
    """Read ``corpus.jsonl``, ``queries.<lang>.jsonl`` (each plain or .gz) and ``qrels/<split>.tsv``.

    Args:
      folder: the collection; its name is the collection's.
      split: which judgements to take.
      languages: which queries; none takes every language that has judged queries. A collection with one file
        ``queries.jsonl`` has one language, which must be named here.

    Raises:
      DataError: something is missing, empty, broken or contradictory; the message says where.
      ConfigError: ``queries.jsonl`` and not exactly one language.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"collection {folder} does not exist; name a folder with corpus.jsonl, queries.* and qrels/")
    documents = dict(_read_texts(_find(folder, "corpus"), "document"))
    qrels_path = _find_split(folder, split)
    qrels = _read_qrels(qrels_path, documents)
    files = _query_files(folder, languages)
    every = {language: dict(_read_texts(path, "query")) for language, path in files.items()}
    judged = {language: {q: text for q, text in texts.items() if q in qrels} for language, texts in every.items()}
    queries = {language: texts for language, texts in judged.items() if languages or texts}
    if not queries:
        raise DataError(f"{qrels_path} judges no query of {folder} in any language ({', '.join(files)})")
    for language, texts in queries.items():
        if not any(grade > 0 for query in texts for grade in qrels[query].values()):
            raise DataError(
                f"{files[language]}: no query of language {language} has a relevant document in {qrels_path}; "
                "take another split or language"
            )
    english_path = _existing(folder, "queries.en")
    kept = {query for texts in queries.values() for query in texts}
    read = [_find(folder, "corpus"), qrels_path, *(files[language] for language in queries)]
    read += [english_path] if english_path and english_path not in read else []
    return Collection(
        name=folder.resolve().name,
        split=split,
        documents=documents,
        queries=queries,
        qrels={query: grades for query, grades in qrels.items() if query in kept},
        english=dict(_read_texts(english_path, "query")) if english_path else {},
        sha256={path.relative_to(folder).as_posix(): sha256_file(path) for path in read},
    )


# ---- which files -------------------------------------------------------------------------------------------------


def _existing(folder: Path, stem: str) -> Path | None:
    return next((p for p in (folder / f"{stem}.jsonl", folder / f"{stem}.jsonl.gz") if p.is_file()), None)


def _find(folder: Path, stem: str) -> Path:
    path = _existing(folder, stem)
    if path is None:
        raise DataError(f"collection {folder} has neither {stem}.jsonl nor {stem}.jsonl.gz")
    return path


def _find_split(folder: Path, split: str) -> Path:
    path = folder / "qrels" / f"{split}.tsv"
    if not path.is_file():
        splits = ", ".join(sorted(p.stem for p in (folder / "qrels").glob("*.tsv")))
        raise DataError(f"collection {folder} has no qrels/{split}.tsv; its splits: {splits or 'none'}")
    return path


def _query_files(folder: Path, languages: Sequence[str]) -> dict[str, Path]:
    """Language -> file, in the order asked for, or in that of the alphabet."""
    there: dict[str, Path] = {}
    for path in sorted([*folder.glob("queries.*.jsonl"), *folder.glob("queries.*.jsonl.gz")]):
        there.setdefault(path.name.split(".")[1], path)
    only = _existing(folder, "queries")
    if not there and only:
        if len(languages) != 1:
            raise ConfigError(f"lang={' '.join(languages)!r}: {only} holds one language; name it, as in --lang sw")
        return {languages[0]: only}
    missing = [language for language in languages if language not in there]
    if missing or not there:
        raise DataError(
            f"collection {folder} has no queries.{missing[0] if missing else '<lang>'}.jsonl[.gz]; "
            f"its languages: {', '.join(there) or 'none'}"
        )
    return {language: there[language] for language in languages or there}


# ---- what is in them ---------------------------------------------------------------------------------------------


def _read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines that are not blank, as strict UTF-8."""
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    text = line.decode("utf-8").rstrip("\r\n")
                except UnicodeDecodeError as error:
                    raise DataError(f"{path}:{number}: not UTF-8 ({error.reason}); convert the file") from None
                if text.strip():
                    yield number, text
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path} is no whole gzip file ({error}); fetch it again") from None


def _read_texts(path: Path, kind: str) -> Iterator[tuple[str, str]]:
    """Ids and texts of a JSONL file of documents or queries."""
    seen: dict[str, int] = {}
    for number, line in _read_lines(path):
        where = f"{path}:{number}"
        try:
            record: Any = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{where}: not JSON ({error})") from None
        if (
            not isinstance(record, dict)
            or not isinstance(record.get("_id"), str)
            or not isinstance(record.get("text"), str)
        ):
            raise DataError(f'{where}: not a {kind}; a line must be {{"_id": "...", "text": "..."}}')
        identity, title = record["_id"], record.get("title") or ""
        if not identity or any(c.isspace() for c in identity):
            raise DataError(f"{where}: _id {identity!r} is empty or has white space, which a TREC run file cannot hold")
        if identity in seen:
            raise DataError(
                f"{where}: {kind} {identity!r} stands in line {seen[identity]} already; give each its own _id"
            )
        seen[identity] = number
        text = f"{title} {record['text']}".strip()
        if not text:
            raise DataError(f"{where}: {kind} {identity!r} has no text; remove it")
        yield identity, text
    if not seen:
        raise DataError(f"{path} is empty; it must hold a {kind} a line")


def _read_qrels(path: Path, documents: dict[str, str]) -> Qrels:
    qrels: Qrels = {}
    for number, line in _read_lines(path):
        fields = line.split("\t")
        if len(fields) != 3:
            raise DataError(f"{path}:{number}: {len(fields)} columns; a line must be {HEADER}")
        query, document, score = (field.strip() for field in fields)
        grade = _integer(score)
        if number == 1:
            if grade is not None:
                raise DataError(f"{path}:1: a judgement where the header must stand; put {HEADER} before it")
            continue
        if grade is None:
            raise DataError(f"{path}:{number}: score {score!r} is no whole number")
        if document not in documents:
            raise DataError(f"{path}:{number}: document {document!r} is not in the corpus")
        if document in qrels.setdefault(query, {}):
            raise DataError(f"{path}:{number}: query {query!r} and document {document!r} are judged twice")
        qrels[query][document] = grade
    if not qrels:
        raise DataError(f"{path} is empty; it must hold a judgement a line after the header {HEADER}")
    return qrels


def _integer(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None

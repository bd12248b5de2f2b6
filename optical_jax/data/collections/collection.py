"""Retrieval collections in BEIR format: documents, queries by language, graded relevance judgements by split."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from optical_jax.data.files.finding import existing
from optical_jax.data.files.lines import read_lines
from optical_jax.data.files.records import (
    BadLines,
    Entry,
    Judgement,
    Qrels,
    Stream,
    gather_qrels,
    jsonl_texts,
    unique_texts,
    whole_number,
)
from optical_jax.data.files.requests import SourceRequest
from optical_jax.errors import ConfigError, DataError
from optical_jax.files import read_json, sha256_file

HEADER = "query-id<TAB>corpus-id<TAB>score"
ABOUT = "collection.json"
"""Written by `beir_writer`: the source of the collection, and the language of its documents."""


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
    """Query id -> text of all English queries; empty if the collection has none."""
    sha256: dict[str, str]
    """File name -> hash of every file that was read for this."""
    document_language: str = "en"

    def is_parallel(self, language: str) -> bool:
        """Whether queries translate documents: each has one relevant document, with the query's own id."""
        return not self.english and all(
            [document for document, grade in self.qrels[query].items() if grade > 0] == [query]
            for query in self.queries[language]
        )


@dataclass(frozen=True)
class CollectionFiles:
    """An unread collection: streams over its files."""

    name: str
    split: str
    documents: Stream[Entry]
    queries: Mapping[str, Stream[Entry]]
    """Language -> its queries, judged or not."""
    judgements: Stream[Judgement]
    english: Stream[Entry] | None = None
    document_language: str = "en"
    roots: tuple[Path, ...] = ()
    """Folders that file names are relative to."""
    triples: Path | None = None
    """File of query, relevant and other document ids (triples), if the split has one."""

    def gather(self, languages: Sequence[str] = ()) -> Collection:
        """Read the whole collection into memory.

        Args:
          languages: those that must have judged queries; empty for those that have.

        Raises:
          DataError: something is empty, broken or contradictory, or no query is judged; the message says where.
        """
        documents = dict(unique_texts(self.documents, "document", BadLines()))
        qrels = gather_qrels(self.judgements, documents, BadLines())
        every = {language: dict(unique_texts(stream, "query", BadLines())) for language, stream in self.queries.items()}
        judged = {language: {q: text for q, text in texts.items() if q in qrels} for language, texts in every.items()}
        queries = {language: texts for language, texts in judged.items() if languages or texts}
        if not queries:
            raise DataError(
                f"{self.judgements.name} has no judgements for {self.name} in any language ({', '.join(every)})"
            )
        for language, texts in queries.items():
            if not any(grade > 0 for query in texts for grade in qrels[query].values()):
                raise DataError(
                    f"{self.queries[language].name}: no query of language {language} has a relevant document in "
                    f"{self.judgements.name}; take another split or language"
                )
        kept = {query for texts in queries.values() for query in texts}
        return Collection(
            name=self.name,
            split=self.split,
            documents=documents,
            queries=queries,
            qrels={query: grades for query, grades in qrels.items() if query in kept},
            english=dict(unique_texts(self.english, "query", BadLines())) if self.english else {},
            sha256=self.hashes(list(queries)),
            document_language=self.document_language,
        )

    def hashes(self, languages: Sequence[str]) -> dict[str, str]:
        """File name -> sha256 of every file that is read for the queries of these languages."""
        streams: list[Stream[Entry] | Stream[Judgement]] = [self.documents, self.judgements]
        streams += [self.queries[language] for language in languages]
        streams += [self.english] if self.english else []
        found: dict[str, str] = {}
        for stream in streams:
            for path in stream.paths:
                above = [root for root in self.roots if path.is_relative_to(root)]
                name = path.relative_to(above[0]).as_posix() if above else str(path)
                if name not in found:
                    found[name] = sha256_file(path)
            if not stream.paths:
                # Records without a file are hashed by content.
                content = hashlib.sha256()
                for record in stream:
                    content.update(repr(record[1:]).encode())
                found[stream.name] = content.hexdigest()
        return found


def collection_of(
    ask: SourceRequest,
    documents: Stream[Entry],
    queries: Mapping[str, Stream[Entry]],
    judgements: Stream[Judgement],
    language: str,
    *,
    english: Stream[Entry] | None = None,
    triples: Path | None = None,
) -> CollectionFiles:
    """The requested collection, named after its layout and, where there are several, the language of its documents."""
    name = f"{ask.name}-{language}" if ask.document_language else ask.name
    roots = tuple(ask.files.folders)
    return CollectionFiles(name, ask.split, documents, queries, judgements, english, language, roots, triples)


def read_collection(folder: str | Path, split: str = "dev", languages: Sequence[str] = ()) -> Collection:
    """Read ``corpus.jsonl``, ``queries.<lang>.jsonl`` (each plain or .gz) and ``qrels/<split>.tsv``.

    Args:
      folder: the collection; its name is the collection's.
      split: which judgements to take.
      languages: which queries; empty for every language that has judged queries. A collection with one file
        ``queries.jsonl`` has one language, which must be named here.

    Raises:
      DataError: something is missing, empty, broken or contradictory; the message says where.
      ConfigError: ``queries.jsonl`` and not exactly one language.
    """
    return beir_files(Path(folder), split, languages).gather(languages)


def beir_files(folder: Path, split: str, languages: Sequence[str]) -> CollectionFiles:
    """The streams of a folder in BEIR format; arguments and errors as `read_collection`."""
    if not folder.is_dir():
        raise DataError(f"collection {folder} does not exist; name a folder with corpus.jsonl, queries.* and qrels/")
    english = existing(folder, "queries.en")
    documents, judgements = find_file(folder, "corpus"), _find_split(folder, split)
    return CollectionFiles(
        name=folder.resolve().name,
        split=split,
        documents=jsonl_texts(documents, kind="document"),
        queries={lang: jsonl_texts(path, kind="query") for lang, path in _query_files(folder, languages).items()},
        judgements=Stream((judgements,), lambda: _read_qrels(judgements)),
        english=jsonl_texts(english, kind="query") if english else None,
        document_language=read_json(about)["document_language"] if (about := folder / ABOUT).is_file() else "en",
        roots=(folder,),
    )


# ---- which files -------------------------------------------------------------------------------------------------


def find_file(folder: Path, stem: str) -> Path:
    path = existing(folder, stem)
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
    """Language -> file, in the requested order, or alphabetical."""
    there: dict[str, Path] = {}
    for path in sorted([*folder.glob("queries.*.jsonl"), *folder.glob("queries.*.jsonl.gz")]):
        there.setdefault(path.name.split(".")[1], path)
    only = existing(folder, "queries")
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


def read_texts(path: Path, kind: str) -> Iterator[tuple[str, str]]:
    """Ids and texts of a JSONL file of documents or queries.

    Raises:
      DataError: it is empty, or a line is broken or has a duplicate id.
    """
    return unique_texts(jsonl_texts(path, kind=kind), kind, BadLines())


def _read_qrels(path: Path) -> Iterator[Judgement]:
    judged = False
    for number, line in read_lines(path):
        where, fields = f"{path}:{number}", line.split("\t")
        if len(fields) != 3:
            raise DataError(f"{where}: {len(fields)} columns; a line must be {HEADER}")
        query, document, score = (field.strip() for field in fields)
        grade = whole_number(score)
        if number == 1:
            if grade is not None:
                raise DataError(f"{where}: a judgement in place of the header; put {HEADER} before it")
            continue
        if grade is None:
            raise DataError(f"{where}: score {score!r} is not an integer")
        judged = True
        yield Judgement(where, query, document, grade)
    if not judged:
        raise DataError(f"{path} is empty; it must hold a judgement a line after the header {HEADER}")

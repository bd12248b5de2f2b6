"""Retrieval collections in BEIR format: documents, queries by language, graded relevance judgements by split."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from optical_jax.data.files.finding import existing
from optical_jax.data.files.records import (
    BadLines,
    Entry,
    Judgement,
    Qrels,
    Stream,
    gather_qrels,
    jsonl_texts,
    leave_out_by,
    parsed_judgements,
    read_grade,
    unique_texts,
)
from optical_jax.data.files.requests import SourceRequest
from optical_jax.data.text.folding import words
from optical_jax.errors import ConfigError, DataError
from optical_jax.files import read_json, sha256_file

HEADER = "query-id<TAB>corpus-id<TAB>score"
ABOUT = "collection.json"
"""Written by `beir_writer`: the source of the collection, and the language of its documents."""
BY_COLLECT = leave_out_by("python -m optical_jax collect --max-bad-lines")


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
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Reason -> number of lines that were left out, as of `BadLines`, and of queries without text or judgements."""

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
    complete: bool = True
    """Whether `queries` has all languages, so that a judged query in none of them has no text."""

    def gather(self, languages: Sequence[str] = (), bad: BadLines | None = None) -> Collection:
        """Read the whole collection into memory.

        Args:
          languages: those that must have judged queries; empty for those that have.
          bad: counts lines that are left out; None allows no bad line.

        Raises:
          DataError: something is empty, broken or contradictory, or no query is judged; the message says where.
        """
        bad = bad or BadLines(remedy=BY_COLLECT)
        documents = dict(unique_texts(self.documents, "document", bad))
        qrels = gather_qrels(self.judgements, documents, bad)
        every = {language: dict(unique_texts(stream, "query", bad)) for language, stream in self.queries.items()}
        self.count_without_text(qrels, every, bad)
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
            english=self._english(every, bad),
            sha256=self.hashes(list(queries)),
            document_language=self.document_language,
            left_out=dict(bad.left_out),
        )

    def _english(self, every: Mapping[str, dict[str, str]], bad: BadLines) -> dict[str, str]:
        if self.english is None:
            return {}
        if "en" in every and self.english.name == self.queries["en"].name:
            return every["en"]
        return dict(unique_texts(self.english, "query", bad))

    def count_without_text(self, judged: Iterable[str], texts: Mapping[str, Mapping[str, str]], bad: BadLines) -> None:
        """Count the judged queries that have no text in any language: nothing can be asked for them."""
        asked = {query for queries in texts.values() for query in queries}
        if self.complete and (lacking := len(set(judged) - asked)):
            bad.left_out["judged_queries_without_text"] += lacking

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
                    content.update(repr(record[1:4]).encode())
                found[stream.name] = content.hexdigest()
        return found


def own_documents(
    queries: Mapping[str, str],
    qrels: Qrels,
    documents: Mapping[str, str],
    english: Mapping[str, str] | None = None,
) -> frozenset[str]:
    """Queries that are documents of the corpus under their own ids and are not judged there, as in ArguAna.

    Such a document is the query itself, which every system finds first and which answers nothing. Where it is judged,
    as in parallel sets whose queries translate the documents of their ids, it is to be found. Ids that are numbers may
    be equal by chance; then the query's text, or its English one, must stand in the document.

    Args:
      queries: id -> text.
      qrels: of these queries.
      documents: id -> text.
      english: query id -> English text.
    """

    def same(query: str) -> bool:
        texts = [queries[query], (english or {}).get(query, "")]
        within = f" {' '.join(words(documents[query]))} "
        return any(found and f" {' '.join(found)} " in within for found in map(words, texts))

    return frozenset(
        query
        for query in queries
        if query in documents and query not in qrels.get(query, {}) and (not query.isdecimal() or same(query))
    )


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


def read_collection(
    folder: str | Path, split: str = "dev", languages: Sequence[str] = (), bad: BadLines | None = None
) -> Collection:
    """Read ``corpus.jsonl``, ``queries.<lang>.jsonl`` (each plain or .gz) and ``qrels/<split>.tsv``.

    Args:
      folder: the collection; its name is the collection's.
      split: which judgements to take.
      languages: which queries; empty for every language that has judged queries. A collection with one file
        ``queries.jsonl`` has one language, which must be named here.
      bad: as of `CollectionFiles.gather`.

    Raises:
      DataError: something is missing, empty, broken or contradictory; the message says where.
      ConfigError: ``queries.jsonl`` and not exactly one language.
    """
    return beir_files(Path(folder), split, languages).gather(languages, bad)


def beir_files(folder: Path, split: str, languages: Sequence[str]) -> CollectionFiles:
    """The streams of a folder in BEIR format; arguments and errors as `read_collection`."""
    if not folder.is_dir():
        raise DataError(f"collection {folder} does not exist; name a folder with corpus.jsonl, queries.* and qrels/")
    english = existing(folder, "queries.en")
    documents, judgements = find_file(folder, "corpus"), _find_split(folder, split)
    queries = _query_files(folder, languages)
    return CollectionFiles(
        name=folder.resolve().name,
        split=split,
        documents=jsonl_texts(documents, kind="document"),
        queries={lang: jsonl_texts(path, kind="query") for lang, path in queries.items()},
        judgements=Stream((judgements,), lambda: _read_qrels(judgements)),
        english=jsonl_texts(english, kind="query") if english else None,
        document_language=_document_language(folder / ABOUT),
        roots=(folder,),
        complete=len(queries) == len(_languages_in(folder) or queries),
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
    there = _languages_in(folder)
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


def _languages_in(folder: Path) -> dict[str, Path]:
    there: dict[str, Path] = {}
    for path in sorted([*folder.glob("queries.*.jsonl"), *folder.glob("queries.*.jsonl.gz")]):
        there.setdefault(path.name.split(".")[1], path)
    return there


def _document_language(about: Path) -> str:
    if not about.is_file():
        return "en"
    content = read_json(about)
    language = content.get("document_language") if isinstance(content, dict) else None
    if not isinstance(language, str):
        raise DataError(f'{about}: no document_language; add "document_language": "en", or another, or delete the file')
    return language


# ---- what is in them ---------------------------------------------------------------------------------------------


def read_texts(path: Path, kind: str, bad: BadLines | None = None) -> Iterator[tuple[str, str]]:
    """Ids and texts of a JSONL file of documents or queries, each id once.

    Raises:
      DataError: as `unique_texts`; `bad` is None to allow no bad line.
    """
    return unique_texts(jsonl_texts(path, kind=kind), kind, bad or BadLines())


def _read_qrels(path: Path) -> Iterator[Judgement]:
    lines = 0

    def parse(number: int, line: str) -> Judgement | None:
        nonlocal lines
        lines += 1
        where, fields = f"{path}:{number}", [field.strip() for field in line.split("\t")]
        if lines == 1 and len(fields) == 3 and _is_grade(fields[2]):
            raise DataError(f"{where}: a judgement in place of the header; put {HEADER} before it")
        if len(fields) != 3:
            raise ValueError(f"{len(fields)} columns; a line must be {HEADER}")
        return None if lines == 1 else Judgement(where, fields[0], fields[1], read_grade(fields[2]))

    yield from parsed_judgements(path, parse)
    if lines < 2:
        raise DataError(f"{path} is empty; it must hold a judgement a line after the header {HEADER}")


def _is_grade(text: str) -> bool:
    try:
        read_grade(text)
    except ValueError:
        return False
    return True

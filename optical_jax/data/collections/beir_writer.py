"""Convert a collection to a folder in BEIR format, which evaluation and training read."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from optical_jax.data.collections.collection import ABOUT, HEADER, CollectionFiles
from optical_jax.data.files.lines import read_lines
from optical_jax.data.files.records import BadLines, Qrels, gather_qrels, unique_texts
from optical_jax.errors import ConfigError, DataError
from optical_jax.files import write_json


def write_beir(splits: Sequence[CollectionFiles], out: Path, source: str, bad: BadLines) -> dict[str, Any]:
    """Write corpus.jsonl, queries.<lang>.jsonl, qrels/<split>.tsv and, if there are any, triples.<split>.tsv.

    Documents are streamed; only their ids and the judged queries are held in memory. Queries without judgements are
    left out. The folder is written completely or not at all.

    Args:
      splits: one collection, one entry per split.
      out: the folder to make.
      source: the collection as the user named it, recorded in collection.json.
      bad: counts lines that are left out: repeated ones, texts without text, judgements and triples with unknown ids.

    Returns:
      The content of collection.json: source, document_language, counts, left_out (reason -> number), inputs (sha256 by
      file).

    Raises:
      ConfigError: the folder exists, or a split is named twice.
      DataError: something is missing, broken or contradictory, or nothing is judged.
    """
    names = [split.split for split in splits]
    if len(set(names)) < len(names):
        raise ConfigError(f"split={' '.join(names)} names one twice; name each once")
    if out.exists():
        raise ConfigError(f"out={out} exists; name another folder, or delete it")
    unfinished = out.with_name(f"{out.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        about = _write_all(splits, unfinished, source, bad)
        unfinished.replace(out)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return about


def _write_all(splits: Sequence[CollectionFiles], folder: Path, source: str, bad: BadLines) -> dict[str, Any]:
    (folder / "qrels").mkdir(parents=True)
    documents = _write_corpus(splits[0], folder / "corpus.jsonl", bad)
    queries: dict[str, dict[str, str]] = {}
    counts: dict[str, Any] = {"documents": len(documents), "queries": {}, "judgements": {}, "triples": {}}
    judged: set[str] = set()
    read: set[tuple[str, str]] = set()
    for files in splits:
        qrels = gather_qrels(files.judgements, documents, bad)
        judged |= qrels.keys()
        _gather_queries(files, qrels, queries, read, bad)
        _write_qrels(folder / "qrels" / f"{files.split}.tsv", qrels)
        counts["judgements"][files.split] = sum(map(len, qrels.values()))
        if files.triples:
            asked = {query for texts in queries.values() for query in texts}
            triples = _triples(files.triples, asked, documents, bad)
            counts["triples"][files.split] = _write_lines(folder / f"triples.{files.split}.tsv", triples)
    for language, texts in queries.items():
        _write_texts(folder / f"queries.{language}.jsonl", texts.items())
        counts["queries"][language] = len(texts)
    splits[0].count_without_text(judged, queries, bad)
    about = {
        "source": source,
        "document_language": splits[0].document_language,
        **counts,
        "left_out": dict(bad.left_out),
        "inputs": {name: sha256 for files in splits for name, sha256 in files.hashes(list(files.queries)).items()},
    }
    write_json(folder / ABOUT, about)
    return about


def _write_corpus(files: CollectionFiles, path: Path, bad: BadLines) -> set[str]:
    ids: set[str] = set()

    def noted() -> Iterator[tuple[str, str]]:
        for identity, text in unique_texts(files.documents, "document", bad):
            ids.add(identity)
            yield identity, text

    _write_texts(path, noted())
    return ids


def _gather_queries(
    files: CollectionFiles, qrels: Qrels, into: dict[str, dict[str, str]], read: set[tuple[str, str]], bad: BadLines
) -> None:
    """Add the judged queries of every language, and the English ones, to `into`.

    Args:
      read: language and name of each stream of the splits before, whose bad lines have been counted; added to.
    """
    streams = {**files.queries, **({"en": files.english} if files.english else {})}
    for language, stream in streams.items():
        texts = into.setdefault(language, {})
        judged = False
        again = (language, stream.name) in read
        read.add((language, stream.name))
        for query, text in unique_texts(stream, "query", BadLines(bad.limit) if again else bad):
            if query not in qrels:
                continue
            judged = True
            if texts.setdefault(query, text) != text:
                bad.add(
                    "queries_with_another_text", f"{stream.name}: query {query!r} has another text in another split"
                )
        if not judged and language in files.queries:
            raise DataError(
                f"{files.judgements.name} has no judgements for {stream.name}; use another split or language"
            )


def _triples(path: Path, queries: Collection[str], documents: Collection[str], bad: BadLines) -> Iterator[str]:
    for number, line in read_lines(path):
        cells = line.split("\t")
        if len(cells) != 3:
            bad.add("broken_triples", f"{path}:{number}: {len(cells)} columns, not three ids (query, relevant, other)")
            continue
        query, *both = cells
        lacking = (
            [f"query {query!r}"] if query not in queries else [f"document {d!r}" for d in both if d not in documents]
        )
        if lacking:
            bad.add("triples_of_absent_texts", f"{path}:{number}: {lacking[0]} is not in the collection")
        else:
            yield line


# ---- lines -------------------------------------------------------------------------------------------------------


def _write_texts(path: Path, texts: Iterable[tuple[str, str]]) -> None:
    _write_lines(path, (json.dumps({"_id": query, "text": text}, ensure_ascii=False) for query, text in texts))


def _write_qrels(path: Path, qrels: Qrels) -> None:
    rows = (f"{query}\t{document}\t{grade}" for query, grades in qrels.items() for document, grade in grades.items())
    _write_lines(path, itertools.chain([HEADER.replace("<TAB>", "\t")], rows))


def _write_lines(path: Path, lines: Iterable[str]) -> int:
    """Write lines; returns their count."""
    count = 0
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for line in lines:
            file.write(line + "\n")
            count += 1
    return count

"""Training data of a retriever: queries with their relevant passages and negatives, and the held-out dev set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from optical_jax.config import RankingDataConfig, expand_path
from optical_jax.data.collections.collection import find_file, read_collection, read_texts
from optical_jax.data.collections.ranking_formats import Listed, Named, read_rankings
from optical_jax.data.files.finding import existing
from optical_jax.data.files.records import (
    BadLines,
    Entry,
    is_header,
    leave_out_by,
    parsed_entries,
    shortened,
    unique_texts,
)
from optical_jax.errors import ConfigError, DataError
from optical_jax.files import sha256_file

FLAG = "--data.max-bad-lines"
"""Of `teacher`."""


@dataclass(frozen=True)
class Rankings:
    """Distinct queries and passages by number, with relevance and scores of pairs; equal texts are merged."""

    queries: list[str]
    passages: list[str]
    candidates: list[Int[np.ndarray, "n"]]
    """Passages of each query, the relevant ones first."""
    relevant: Int[np.ndarray, "Q"]
    """How many of them are relevant; at least one."""
    scores: list[Float[np.ndarray, "n"]]
    """Parallel to `candidates`; NaN for pairs without a score."""
    query_ids: list[str]
    """Empty strings for files with texts alone."""
    passage_ids: list[str]
    files: dict[str, str] = field(default_factory=dict)
    """Path -> sha256 of every file that was read."""
    unjudged: int = 0
    """Number of queries left out because nothing is relevant to them."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Reason -> number of lines that were left out, as of `BadLines`."""

    def pairs(self) -> Int[np.ndarray, "N 2"]:
        """All (query, relevant passage) pairs, by number."""
        queries = np.repeat(np.arange(len(self.queries)), self.relevant)
        found = [candidates[:count] for candidates, count in zip(self.candidates, self.relevant, strict=True)]
        return np.stack([queries, np.concatenate(found)], axis=1)

    def has_scores(self) -> bool:
        return any(np.isfinite(scores).any() for scores in self.scores)

    def report(self) -> dict[str, int]:
        """Counts of queries, passages and pairs, for rankings.json and the printed line."""
        others = sum(len(candidates) for candidates in self.candidates) - int(self.relevant.sum())
        return {
            "queries": len(self.queries),
            "passages": len(self.passages),
            "relevant_pairs": int(self.relevant.sum()),
            "other_pairs": others,
            "queries_without_relevant": self.unjudged,
        }


@dataclass(frozen=True)
class DevSet:
    """A small collection that is searched while training."""

    queries: dict[str, str]
    documents: dict[str, str]
    qrels: dict[str, dict[str, int]]
    left_out: Mapping[str, int] = field(default_factory=dict)
    """As of `Rankings`."""


# ---- reading -----------------------------------------------------------------------------------------------------


def load_rankings(cfg: RankingDataConfig, flag: str = FLAG) -> Rankings:
    """Read and join all files of `cfg.train`, without up to `cfg.max_bad_lines` bad lines.

    A passage is relevant if any file says so. If no file judges a query's passages, the one with the highest score is
    relevant.

    Raises:
      ConfigError: ids without a collection, or a variable that is not set.
      DataError: a file is missing, empty or broken, or an id is unknown; the message names file and line, and the flag
        that sets `cfg.max_bad_lines`.
    """
    bad = BadLines(cfg.max_bad_lines, leave_out_by(flag))
    paths = [Path(expand_path(name, "data.train")) for name in cfg.train]
    by_query: dict[Named, dict[Named, tuple[bool | None, float]]] = {}
    where: dict[tuple[str, str], str] = {}
    for path in paths:
        for listed in read_rankings(path, bad, by_id=bool(cfg.collection)):
            _join(by_query, listed)
            _note_ids(where, listed)
    texts, files = _texts_of_ids(cfg, where, bad)
    files |= {str(path): sha256_file(path) for path in paths}
    return replace(_number(by_query, texts, files), left_out=dict(bad.left_out))


def _join(by_query: dict[Named, dict[Named, tuple[bool | None, float]]], listed: Listed) -> None:
    known = by_query.setdefault(listed.query, {})
    for named, relevant, score in listed.passages:
        known[named] = _merge(known.get(named), relevant, score)


def _merge(before: tuple[bool | None, float] | None, relevant: bool | None, score: float) -> tuple[bool | None, float]:
    """Merge two judgements: relevant before not relevant before none; the first score is kept."""
    if before is None:
        return relevant, score
    said = [one for one in (before[0], relevant) if one is not None]
    return (any(said) if said else None), (score if np.isnan(before[1]) else before[1])


def _note_ids(where: dict[tuple[str, str], str], listed: Listed) -> None:
    """Record where each id was first named, for messages about unknown ids."""
    if listed.query.id:
        where.setdefault(("query", listed.query.id), listed.where)
    for passage in listed.passages:
        if passage.named.id:
            where.setdefault(("passage", passage.named.id), listed.where)


def _number(
    by_query: Mapping[Named, Mapping[Named, tuple[bool | None, float]]],
    texts: Mapping[tuple[str, str], str],
    files: dict[str, str],
) -> Rankings:
    numbers: dict[str, int] = {}
    passage_ids: list[str] = []
    joined: dict[str, dict[int, tuple[bool | None, float]]] = {}
    query_ids: dict[str, str] = {}
    for query, known in by_query.items():
        text = query.text or texts.get(("query", query.id))
        if text is None:
            continue
        query_ids.setdefault(text, query.id)
        found = joined.setdefault(text, {})
        for named, (relevant, score) in known.items():
            passage = named.text or texts.get(("passage", named.id))
            if passage is None:
                continue
            number = numbers.setdefault(passage, len(numbers))
            if number == len(passage_ids):
                passage_ids.append(named.id)
            found[number] = _merge(found.get(number), relevant, score)
    queries, candidates, counts, scores = [], [], [], []
    for text, found in joined.items():
        first = [number for number, (relevant, _) in found.items() if relevant]
        if not first:
            scored = [number for number, (relevant, score) in found.items() if relevant is None and score == score]
            first = [max(scored, key=lambda number: found[number][1])] if scored else []
        if not first:
            continue
        order = [*first, *(number for number in found if number not in first)]
        queries.append(text)
        counts.append(len(first))
        candidates.append(np.array(order, np.int32))
        scores.append(np.array([found[number][1] for number in order], np.float32))
    if not queries:
        raise DataError(f"{', '.join(files)}: no query has a relevant passage; name judgements (qrels) or triples")
    return Rankings(
        queries=queries,
        passages=list(numbers),
        candidates=candidates,
        relevant=np.array(counts),
        scores=scores,
        query_ids=[query_ids[text] for text in queries],
        passage_ids=passage_ids,
        files=files,
        unjudged=len(joined) - len(queries),
    )


def _texts_of_ids(
    cfg: RankingDataConfig, where: Mapping[tuple[str, str], str], bad: BadLines
) -> tuple[dict[tuple[str, str], str], dict[str, str]]:
    """(kind, id) -> text of every id that was named, and the sha256 of the files they came from.

    An id that is not in them, or has no text there, is counted as a bad line.
    """
    texts: dict[tuple[str, str], str] = {}
    files: dict[str, str] = {}
    for kind, path in (("query", _query_file), ("passage", _passage_file)):
        wanted = {identity for of, identity in where if of == kind}
        if not wanted:
            continue
        first = where[kind, next(identity for of, identity in where if of == kind)]
        source = path(cfg, first)
        files[str(source)] = sha256_file(source)
        texts |= {(kind, identity): text for identity, text in read_id_texts(source, kind, bad) if identity in wanted}
        for of, identity in where:
            if of == kind and (kind, identity) not in texts:
                bad.add(
                    f"absent_{kind}_ids", f"{where[kind, identity]}: {kind} {shortened(identity)} is not in {source}"
                )
    return texts, files


def _passage_file(cfg: RankingDataConfig, first: str) -> Path:
    if not cfg.collection:
        raise ConfigError(f"data.collection is empty, and {first} names passages by id; name a BEIR folder or a .tsv")
    path = Path(expand_path(cfg.collection, "data.collection"))
    return find_file(path, "corpus") if path.is_dir() else _file(path, "data.collection")


def _query_file(cfg: RankingDataConfig, first: str) -> Path:
    if cfg.queries:
        return _file(Path(expand_path(cfg.queries, "data.queries")), "data.queries")
    folder = Path(expand_path(cfg.collection, "data.collection")) if cfg.collection else None
    if folder is None or not folder.is_dir():
        raise ConfigError(f"data.queries is empty, and {first} names queries by id; name their file")
    return existing(folder, f"queries.{cfg.language}") or find_file(folder, "queries")


def _file(path: Path, field: str) -> Path:
    if not path.is_file():
        raise DataError(f"{field}={path} {'is a folder' if path.is_dir() else 'does not exist'}; name a file")
    return path


def with_collection(rankings: Rankings, cfg: RankingDataConfig, flag: str = FLAG) -> Rankings:
    """The rankings with all passages of the collection, not only those named in the files."""
    bad = BadLines(cfg.max_bad_lines, leave_out_by(flag))
    path = _passage_file(cfg, "--pool collection")
    known, texts, ids = set(rankings.passages), [], []
    for identity, text in read_id_texts(path, "passage", bad):
        if text not in known:
            known.add(text)
            texts.append(text)
            ids.append(identity)
    return replace(
        rankings,
        passages=rankings.passages + texts,
        passage_ids=rankings.passage_ids + ids,
        # If the file was read for ids before, its lines have been counted with the same result.
        left_out=rankings.left_out | bad.left_out,
    )


def read_id_texts(path: Path, kind: str, bad: BadLines) -> Iterator[tuple[str, str]]:
    """Read ids and texts of a JSONL file (BEIR) or a TSV file (MS MARCO; a third column is a title), each id once.

    Raises:
      DataError: as `unique_texts`.
    """
    if ".jsonl" in path.name:
        return read_texts(path, kind, bad)

    def parse(number: int, line: str) -> Entry | None:
        identity, *columns = (column.strip() for column in line.split("\t"))
        if is_header(number, identity):
            return None
        if len(columns) not in (1, 2):
            raise ValueError(f"not a {kind}; a line must be ID<TAB>TEXT, or ID<TAB>TEXT<TAB>TITLE")
        return Entry(str(path), number, identity, " ".join(reversed(columns)).strip())

    return unique_texts(parsed_entries(path, parse), kind, bad)


# ---- what is held out --------------------------------------------------------------------------------------------


def text_number(text: str) -> int:
    """A 64-bit hash of the text."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest())


def by_hash(texts: Iterable[str]) -> list[int]:
    """Positions in a pseudo-random order by hash of each text, independent of seed and file order."""
    keys = [text_number(text) for text in texts]
    return sorted(range(len(keys)), key=keys.__getitem__)


def hold_out(rankings: Rankings, cfg: RankingDataConfig) -> tuple[Rankings, DevSet | None]:
    """Split off held-out queries for dev metrics: the rest to train on, and a small collection to search.

    Passages relevant to held-out queries are removed from the negatives of the others.

    Raises:
      ConfigError: nothing would be left to train on.
    """
    count = min(round(cfg.hold_out * len(rankings.queries)), cfg.dev_queries)
    if count == 0:
        return rankings, None
    if count == len(rankings.queries):
        raise ConfigError(
            f"data.hold_out={cfg.hold_out} leaves none of {count} queries to train on; use less, or a data.dev folder"
        )
    held = sorted(by_hash(rankings.queries)[:count])
    judged = {int(p) for q in held for p in rankings.candidates[q][: rankings.relevant[q]]}
    kept = sorted(set(range(len(rankings.queries))) - set(held))
    candidates, scores = [], []
    for q in kept:
        places = np.arange(len(rankings.candidates[q]))
        stays = (places < rankings.relevant[q]) | ~np.isin(rankings.candidates[q], list(judged))
        candidates.append(rankings.candidates[q][stays])
        scores.append(rankings.scores[q][stays])
    train = replace(
        rankings,
        queries=[rankings.queries[q] for q in kept],
        query_ids=[rankings.query_ids[q] for q in kept],
        candidates=candidates,
        scores=scores,
        relevant=rankings.relevant[kept],
    )
    qrels = {f"q{q}": {f"p{p}": 1 for p in rankings.candidates[q][: rankings.relevant[q]].tolist()} for q in held}
    documents = {f"p{p}": text for p, text in enumerate(rankings.passages)}
    dev = DevSet({f"q{q}": rankings.queries[q] for q in held}, documents, qrels)
    return train, fewer_documents(dev, cfg.dev_documents)


def load_dev(cfg: RankingDataConfig) -> tuple[DevSet, dict[str, str]]:
    """Read the dev folder's collection, cut to size, and the sha256 of its files."""
    folder = Path(expand_path(cfg.dev, "data.dev"))
    found = read_collection(folder, cfg.dev_split, [cfg.language], BadLines(cfg.max_bad_lines, leave_out_by(FLAG)))
    queries, qrels = found.queries[cfg.language], found.qrels
    ids = [query for query in queries if any(grade > 0 for grade in qrels[query].values())]
    taken = sorted(by_hash(queries[query] for query in ids)[: cfg.dev_queries])
    chosen = [ids[n] for n in taken]
    dev = DevSet({q: queries[q] for q in chosen}, found.documents, {q: qrels[q] for q in chosen}, found.left_out)
    return fewer_documents(dev, cfg.dev_documents), {str(folder / name): sha for name, sha in found.sha256.items()}


def fewer_documents(dev: DevSet, most: int) -> DevSet:
    """Limit a dev set to its judged documents and others, up to `most`."""
    judged = {document for grades in dev.qrels.values() for document in grades}
    others = [document for document in dev.documents if document not in judged]
    order = by_hash(dev.documents[document] for document in others)
    kept = judged | {others[n] for n in order[: max(0, most - len(judged))]}
    return replace(dev, documents={name: text for name, text in dev.documents.items() if name in kept})

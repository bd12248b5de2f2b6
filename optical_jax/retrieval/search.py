"""Exact (brute-force) search: documents are encoded block by block, scored, and reduced to the top k of each query.

Scores are float32; ties are broken by descending document id, as in trec_eval.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from optical_jax.errors import ConfigError
from optical_jax.partitioning import shards_in_context
from optical_jax.retrieval.blocks import (
    Block,
    Chunk,
    Held,
    chunks_of,
    cut_into_blocks,
    hold,
    keep_best,
    no_best,
    scores_of_block,
    without_gaps,
)
from optical_jax.types import TokenVectors

DEPTH = 1000
"""Documents kept per query."""
WINDOW_TEXTS, WINDOW_CHARACTERS = 4096, 1 << 17
"""Largest number of texts encoded at a time, and of characters if all were as long as the longest."""
WINDOW_BATCHES = 4
"""Factor on both on accelerators, per shard of the batch: about the number of batches that `towers.encode` makes."""
ABSENT = np.iinfo(np.int64).min
"""Sort key of an empty rank."""

Encode = Callable[[Sequence[str]], TokenVectors]
Advance = Callable[[int], None]
Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class Ranking:
    """Ranked documents of each query, best first; short rows are padded with position -1."""

    documents: Int[np.ndarray, "B K"]
    """Positions in the collection."""
    scores: Float[np.ndarray, "B K"]

    def as_run(self, query_ids: Sequence[str], document_ids: Sequence[str]) -> dict[str, dict[str, float]]:
        """Query id -> document id -> score, as `metrics.evaluate_run` takes it."""
        return {
            query: {document_ids[int(n)]: score for n, score in zip(found, scores, strict=True) if n >= 0}
            for query, found, scores in zip(query_ids, self.documents.tolist(), self.scores.tolist(), strict=True)
        }

    def without_own(self, query_ids: Sequence[str], document_ids: Sequence[str], own: Collection[str]) -> Ranking:
        """Leave out of the ranking of each query in `own` the document that has the query's id."""
        if not own:
            return self
        place = {name: n for n, name in enumerate(document_ids) if name in own}
        # -2: neither a position nor the padding of short rows.
        wanted = np.array([place[query] if query in own else -2 for query in query_ids])
        out = self.documents == wanted[:, None]
        order = np.argsort(out, axis=1, kind="stable")  # the others first, as they are
        documents, scores = np.where(out, -1, self.documents), np.where(out, np.float32(-np.inf), self.scores)
        return Ranking(np.take_along_axis(documents, order, axis=1), np.take_along_axis(scores, order, axis=1))


class TopDocuments:
    """Running top-k documents of every query, merged from scores in pieces of any shape.

    A sortable integer key combines a score (high half) and the rank of the document's id (low half): the order is total
    and the result does not depend on how scores are split or ordered.
    """

    def __init__(self, queries: int, id_rank: Int[np.ndarray, "N"], depth: int = DEPTH) -> None:
        """Empty, for this many queries and the documents of `ranks_of_ids`."""
        self._id_rank, self._position = id_rank, np.argsort(id_rank)
        self._keys = np.full((queries, min(depth, len(id_rank))), ABSENT)
        self._least = np.full(queries, -np.inf, np.float32)
        """Score of the last document kept, once there are `depth`."""

    def add(
        self, queries: Int[np.ndarray, "R"], documents: Int[np.ndarray, "*#R n"], scores: Float[np.ndarray, "R n"]
    ) -> None:
        """Merge scores of some queries and documents, given by position: the same for all queries, or a row per query.

        Documents at -inf are left out.

        Raises:
          ConfigError: a score is NaN.
        """
        if np.isnan(scores).any():
            raise ConfigError("scores are NaN, so the weights of a tower are not finite; load another checkpoint")
        # Most documents of a large collection are below the threshold and need no sorting.
        fit = (scores >= self._least[queries, None]) & ~np.isneginf(scores)
        some = fit.any(axis=1)
        if not some.any():
            return
        documents = np.broadcast_to(documents, scores.shape)[some]
        rows, fit, scores = queries[some], fit[some], scores[some]
        of_row, column = np.nonzero(fit)
        counts = fit.sum(axis=1)
        place = np.arange(len(of_row)) - np.repeat(np.cumsum(counts) - counts, counts)
        bits = (scores[of_row, column].astype(np.float32) + np.float32(0.0)).view(np.int32)  # + 0.0: one zero of two
        new = np.full((len(rows), counts.max()), ABSENT)
        new[of_row, place] = (_ordered(bits).astype(np.int64) << 32) | self._id_rank[documents[of_row, column]]
        both = np.concatenate([self._keys[rows], new], axis=1)
        kept = self._keys.shape[1]
        self._keys[rows] = np.partition(both, both.shape[1] - kept, axis=1)[:, both.shape[1] - kept :]
        worst = self._keys[rows].min(axis=1)
        self._least[rows] = np.where(worst == ABSENT, -np.inf, _scores_of(worst))

    def ranking(self) -> Ranking:
        keys = np.sort(self._keys, axis=1)[:, ::-1]
        absent = keys == ABSENT
        scores = _scores_of(keys)
        positions = self._position[np.where(absent, 0, keys & 0xFFFFFFFF)]
        return Ranking(np.where(absent, -1, positions).astype(np.int32), np.where(absent, np.float32(-np.inf), scores))


def ranks_of_ids(ids: Sequence[str]) -> Int[np.ndarray, "N"]:
    """Rank of every id in sorted order."""
    ranks = np.empty(len(ids), np.int64)
    ranks[sorted(range(len(ids)), key=ids.__getitem__)] = np.arange(len(ids))
    return ranks


def _scores_of(keys: Int[np.ndarray, "*dims"]) -> Float[np.ndarray, "*dims"]:
    return _ordered((keys >> 32).astype(np.int32)).view(np.float32)


def _ordered(bits: Int[np.ndarray, "*dims"]) -> Int[np.ndarray, "*dims"]:
    """Map float32 bits to integers of the same order; its own inverse."""
    return np.where(bits < 0, bits ^ np.int32(0x7FFFFFFF), bits)


def encode_blocks(texts: Sequence[str], encode: Encode, advance: Advance = lambda count: None) -> Iterator[Block]:
    """Encode texts, longest first: texts of similar length share a block, and running out of memory shows at once."""
    order = np.array(sorted(range(len(texts)), key=lambda n: -len(texts[n])), dtype=np.int64)
    more = 1 if jax.default_backend() == "cpu" else WINDOW_BATCHES * shards_in_context()
    start = 0
    while start < len(order):
        longest = max(1, len(texts[int(order[start])]))
        window = order[start : start + max(1, min(more * WINDOW_TEXTS, more * WINDOW_CHARACTERS // longest))]
        tokens = encode([texts[int(n)] for n in window])
        vectors, mask = np.asarray(tokens.vectors), np.asarray(tokens.mask)
        by_length = np.argsort(-mask.sum(axis=1), kind="stable")
        for rows in cut_into_blocks(mask.sum(axis=1)[by_length]):
            chosen = by_length[rows]
            yield Block(window[chosen], without_gaps(vectors, mask, chosen))
        advance(len(window))
        start += len(window)


def search(
    queries: Mapping[Name, Sequence[Block]],
    documents: Mapping[str, str],
    encode: Encode,
    *,
    depth: int = DEPTH,
    advance: Advance = lambda count: None,
) -> dict[Name, Ranking]:
    """Rank all documents for several sets of queries in one pass over the documents, each encoded once.

    Args:
      queries: encoded sets (a language, a system), from `encode_blocks`.
      documents: id -> text.
      encode: encoder of documents.
      depth: documents kept per query.
      advance: progress callback, called with the number of documents just encoded and scored.

    Returns:
      A ranking per set, with rows in the order of the set's positions.

    Raises:
      ConfigError: as `rank`.
    """
    return rank(queries, list(documents), encode_blocks(list(documents.values()), encode), depth=depth, advance=advance)


def rank(
    queries: Mapping[Name, Sequence[Block]],
    ids: Sequence[str],
    documents: Iterable[Block],
    *,
    depth: int = DEPTH,
    advance: Advance = lambda count: None,
) -> dict[Name, Ranking]:
    """Rank documents given as encoded blocks, from an encoder or from disk.

    Under `jax.set_mesh` every device scores its shard of a block. On a CPU the scores of each block are merged on the
    host; other devices keep their own top `depth`, which is transferred once, after the last block.

    Args:
      queries: as in `search`.
      ids: of all documents, by the positions of the blocks.
      documents: blocks, each document in one of them.
      depth, advance: as in `search`.

    Returns:
      As `search`.

    Raises:
      ConfigError: queries and documents differ in width, or a score is NaN.
    """
    ranks = ranks_of_ids(ids)
    tops = {name: TopDocuments(sum(len(b.positions) for b in blocks), ranks, depth) for name, blocks in queries.items()}
    chunks = [(top, chunk) for name, top in tops.items() for chunk in chunks_of(queries[name])]

    def blocks() -> Iterator[Held]:
        for block in documents:
            held = hold(block, ranks)
            for _, chunk in chunks:
                if chunk.tokens.shape[1] != held.vectors.shape[2]:
                    raise ConfigError(
                        f"queries have vectors of width {chunk.tokens.shape[1]} and documents of width "
                        f"{held.vectors.shape[2]}; use towers of equal vector width"
                    )
            yield held
            advance(len(block.positions))

    if host_merges():
        merge_on_host(chunks, blocks())
    else:
        merge_on_devices(chunks, blocks(), ranks, depth)
    return {name: top.ranking() for name, top in tops.items()}


def host_merges() -> bool:
    """True on a single CPU device, where scores are in host memory already."""
    return jax.default_backend() == "cpu" and shards_in_context() == 1


def merge_on_host(chunks: Sequence[tuple[TopDocuments, Chunk]], blocks: Iterable[Held]) -> None:
    running: list[tuple[TopDocuments, Chunk, Held, Array]] = []

    def collect() -> None:
        top, chunk, held, scores = running.pop(0)
        top.add(chunk.positions, held.positions, np.asarray(scores)[: len(chunk.positions)])

    for held in blocks:
        for top, chunk in chunks:
            running.append((top, chunk, held, scores_of_block(chunk, held)))
            # Scores are merged while the next are computed.
            if len(running) == 2:
                collect()
    while running:
        collect()


def merge_on_devices(
    chunks: Sequence[tuple[TopDocuments, Chunk]], blocks: Iterable[Held], id_rank: Int[np.ndarray, "N"], depth: int
) -> None:
    best = [no_best(chunk, min(depth, len(id_rank))) for _, chunk in chunks]
    before = best[-1:]
    for held in blocks:
        best = [keep_best(kept, chunk, held) for kept, (_, chunk) in zip(best, chunks, strict=True)]
        # Blocks are read faster than they are scored: at most two are queued on the devices.
        jax.block_until_ready(before)
        before = best[-1:]
    position = np.argsort(id_rank)
    for (top, chunk), kept in zip(chunks, best, strict=True):
        rows = slice(len(chunk.positions))
        top.add(chunk.positions, position[np.asarray(kept.id_ranks)[rows]], np.asarray(kept.scores)[rows])


def write_trec_run(
    path: Path, ranking: Ranking, query_ids: Sequence[str], document_ids: Sequence[str], tag: str
) -> None:
    """Write a TREC run file: query Q0 document rank score tag, with nine digits so that float32 scores round-trip."""
    with path.open("w", encoding="utf-8") as file:
        for query, found, scores in zip(query_ids, ranking.documents, ranking.scores, strict=True):
            for rank, (n, score) in enumerate(zip(found, scores, strict=True), start=1):
                if n >= 0:
                    file.write(f"{query} Q0 {document_ids[n]} {rank} {score:.9g} {tag}\n")

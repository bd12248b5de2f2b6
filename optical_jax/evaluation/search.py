"""Exact search: encode documents block by block, score every query, keep the best. No block outlives its scoring.

Scores are float32; documents that tie stand in descending order of their ids, as trec_eval breaks ties.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Float, Int

from optical_jax.errors import ConfigError
from optical_jax.evaluation.scoring import maxsim
from optical_jax.types import TokenVectors

DEPTH = 1000
"""Documents kept a query."""
BLOCK_TEXTS = 256
"""Texts encoded and scored at a time."""
LENGTH_MULTIPLE = 16
"""Blocks are cut to such lengths, so that few shapes are compiled."""
ABSENT = np.iinfo(np.int64).min
"""Key of a place in a ranking that no document takes."""

Encode = Callable[[Sequence[str]], TokenVectors]
Advance = Callable[[int], None]
Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class Ranking:
    """The documents found for each query, best first. Rows may be short: position -1 fills them."""

    documents: Int[np.ndarray, "B K"]
    """Positions in the collection."""
    scores: Float[np.ndarray, "B K"]

    def as_run(self, query_ids: Sequence[str], document_ids: Sequence[str]) -> dict[str, dict[str, float]]:
        """Query id -> document id -> score, as `metrics.evaluate_run` takes it."""
        return {
            query: {document_ids[int(n)]: score for n, score in zip(found, scores, strict=True) if n >= 0}
            for query, found, scores in zip(query_ids, self.documents.tolist(), self.scores.tolist(), strict=True)
        }


class TopDocuments:
    """The best documents so far of every query, merged from scores that come in pieces of any shape.

    One sortable integer holds a score (high half) and the rank of its document's id (low half): so the order is total
    and what a merge keeps depends neither on the pieces nor on their sequence.
    """

    def __init__(self, queries: int, document_ids: Sequence[str], depth: int = DEPTH) -> None:
        self._position = np.array(sorted(range(len(document_ids)), key=lambda n: document_ids[n]), dtype=np.int64)
        self._id_rank = np.empty_like(self._position)
        self._id_rank[self._position] = np.arange(len(document_ids))
        self._keys = np.full((queries, min(depth, len(document_ids))), ABSENT)
        self._least = np.full(queries, -np.inf, np.float32)
        """Score of the worst document that is kept, once there are enough."""

    def add(
        self, queries: Int[np.ndarray, "R"], documents: Int[np.ndarray, "n"], scores: Float[np.ndarray, "R n"]
    ) -> None:
        """Take in scores of some queries and documents, given by position. Documents at -inf are left out.

        Raises:
          ConfigError: a score is not a number.
        """
        if np.isnan(scores).any():
            raise ConfigError(
                "scores are not numbers (NaN): the weights of a tower are broken; load another checkpoint"
            )
        # Of a large collection few documents of a piece get in: the others are not sorted.
        fit = (scores >= self._least[queries, None]) & ~np.isneginf(scores)
        some = fit.any(axis=1)
        if not some.any():
            return
        rows, fit, scores = queries[some], fit[some], scores[some]
        of_row, column = np.nonzero(fit)
        counts = fit.sum(axis=1)
        place = np.arange(len(of_row)) - np.repeat(np.cumsum(counts) - counts, counts)
        bits = (scores[of_row, column].astype(np.float32) + np.float32(0.0)).view(np.int32)  # + 0.0: one zero of two
        new = np.full((len(rows), counts.max()), ABSENT)
        new[of_row, place] = (_ordered(bits).astype(np.int64) << 32) | self._id_rank[documents[column]]
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


def _scores_of(keys: Int[np.ndarray, "*dims"]) -> Float[np.ndarray, "*dims"]:
    return _ordered((keys >> 32).astype(np.int32)).view(np.float32)


def _ordered(bits: Int[np.ndarray, "*dims"]) -> Int[np.ndarray, "*dims"]:
    """Bits of float32 as integers of the same order; its own inverse."""
    return np.where(bits < 0, bits ^ np.int32(0x7FFFFFFF), bits)


@dataclass(frozen=True)
class Block:
    """Encoded texts of about one length, and where they stand among all."""

    positions: Int[np.ndarray, "R"]
    vectors: TokenVectors


def encode_blocks(texts: Sequence[str], encode: Encode, advance: Advance = lambda count: None) -> Iterator[Block]:
    """Encode texts, longest first: texts of a length share a block, and what does not fit in memory fails at once."""
    order = np.array(sorted(range(len(texts)), key=lambda n: -len(texts[n])), dtype=np.int64)
    for start in range(0, len(order), BLOCK_TEXTS):
        positions = order[start : start + BLOCK_TEXTS]
        yield Block(positions, _without_gaps(encode([texts[int(n)] for n in positions])))
        advance(len(positions))


def _without_gaps(tokens: TokenVectors) -> TokenVectors:
    """Real tokens first, and no more padding than `LENGTH_MULTIPLE` asks for. MaxSim knows no order of tokens."""
    vectors, mask = np.asarray(tokens.vectors, np.float32), np.asarray(tokens.mask)
    longest = int(mask.sum(axis=1).max())
    length = min(mask.shape[1], -(-longest // LENGTH_MULTIPLE) * LENGTH_MULTIPLE)
    order = np.argsort(~mask, axis=1, kind="stable")[:, :length]
    cut, kept = np.take_along_axis(vectors, order[:, :, None], axis=1), np.take_along_axis(mask, order, axis=1)
    return replace(tokens, vectors=cut, mask=kept, weight=None)


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
      encode: the document side.
      depth: documents kept a query.
      advance: told how many documents were just encoded and scored.
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
    """Rank documents that come in blocks, encoded now or read from disk. As `search`."""
    tops = {name: TopDocuments(sum(len(b.positions) for b in blocks), ids, depth) for name, blocks in queries.items()}
    for block in documents:
        for name, query_blocks in queries.items():
            for query_block in query_blocks:
                scores = np.asarray(maxsim(query_block.vectors, block.vectors))
                tops[name].add(query_block.positions, block.positions, scores)
        advance(len(block.positions))
    return {name: top.ranking() for name, top in tops.items()}


def write_trec_run(
    path: Path, ranking: Ranking, query_ids: Sequence[str], document_ids: Sequence[str], tag: str
) -> None:
    """A TREC run file: query Q0 document rank score tag. Nine digits are what a float32 needs to survive."""
    with path.open("w", encoding="utf-8") as file:
        for query, found, scores in zip(query_ids, ranking.documents, ranking.scores, strict=True):
            for rank, (n, score) in enumerate(zip(found, scores, strict=True), start=1):
                if n >= 0:
                    file.write(f"{query} Q0 {document_ids[n]} {rank} {score:.9g} {tag}\n")

"""Exact text-to-image and image-to-text search over a whole set, with the rank of every relevant result.

All vectors of a set's images are held in memory, float32: mean and variance of ranks need complete rankings, not the
top 1000. Queries are ranked in batches, and each ranking is truncated once its ranks are known.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from optical_jax.retrieval.blocks import Block, blocks_of
from optical_jax.retrieval.image_metrics import first_ranks, per_query_metrics
from optical_jax.retrieval.metrics import PerQuery
from optical_jax.retrieval.search import DEPTH, Ranking, rank

Vectors = Float[np.ndarray, "l E"]
"""Vectors of one text or image, without padding."""
MOST_SCORES = 1 << 24
"""Largest number of scores in a batch of complete rankings, at about 30 bytes each."""


@dataclass(frozen=True)
class Found:
    """Results of one retrieval direction."""

    queries: tuple[str, ...]
    """Query ids."""
    ranks: Int[np.ndarray, "B"]
    """Rank of each query's first relevant document, from 1."""
    ranking: Ranking
    """The first `DEPTH` documents."""

    @property
    def per_query(self) -> PerQuery:
        return per_query_metrics(dict(zip(self.queries, self.ranks.tolist(), strict=True)))


def by_position(blocks: Iterable[Block], count: int) -> list[Vectors]:
    """Vectors of `count` texts or images by position, from blocks."""
    found: list[Vectors] = [np.zeros((0, 0), np.float32)] * count
    for block in blocks:
        vectors, mask = np.asarray(block.vectors.vectors, np.float32), np.asarray(block.vectors.mask)
        for n, row, real in zip(block.positions.tolist(), vectors, mask, strict=True):
            found[n] = row[real]
    return found


def search_both_ways(
    relevant: Mapping[str, Collection[str]],
    query_vectors: Sequence[Vectors],
    documents: Sequence[str],
    document_vectors: Sequence[Vectors],
) -> tuple[Found, Found]:
    """Rank all documents for every query, and all queries for every document that is relevant to one.

    For captions of one language and images: text-to-image and image-to-text search. Scores are MaxSim from the query's
    side: for a caption the sum over its tokens of the best patch's cosine, for an image the sum over its patches of the
    best token's; the cosine for single vectors.

    Args:
      relevant: query id (of a caption) -> ids of the documents (images) that are relevant to it.
      query_vectors: in the same order.
      documents: ids. Documents that are relevant to no query are candidates, but not queries.
      document_vectors: in the same order.

    Raises:
      ConfigError: queries and documents have vectors of different widths, or a score is NaN.
    """
    names, place = list(relevant), {name: n for n, name in enumerate(documents)}
    right = [[place[document] for document in wanted] for wanted in relevant.values()]
    of_document: dict[int, list[int]] = {}
    for n, wanted in enumerate(right):
        for document in wanted:
            of_document.setdefault(document, []).append(n)
    asking = sorted(of_document)
    return (
        rank_all(names, query_vectors, list(documents), document_vectors, right),
        rank_all(
            [documents[n] for n in asking],
            [document_vectors[n] for n in asking],
            names,
            query_vectors,
            [of_document[n] for n in asking],
        ),
    )


def rank_all(
    query_ids: Sequence[str],
    queries: Sequence[Vectors],
    document_ids: Sequence[str],
    documents: Sequence[Vectors],
    right: Sequence[Collection[int]],
) -> Found:
    """Rank all documents for every query; `right` has the positions of each query's relevant ones."""
    most = max(1, MOST_SCORES // len(documents))
    blocks = list(blocks_of(documents))
    ranks: list[np.ndarray] = []
    cut: list[Ranking] = []
    for start in range(0, len(queries), most):
        part = slice(start, start + most)
        asked = {"": list(blocks_of(queries[part]))}
        whole = rank(asked, document_ids, blocks, depth=len(documents))[""]
        ranks.append(first_ranks(whole, right[part], len(documents)))
        cut.append(Ranking(whole.documents[:, :DEPTH].copy(), whole.scores[:, :DEPTH].copy()))
    ranking = Ranking(np.concatenate([one.documents for one in cut]), np.concatenate([one.scores for one in cut]))
    return Found(tuple(query_ids), np.concatenate(ranks), ranking)

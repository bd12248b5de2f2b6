"""Captions and pictures that look for each other, exactly: the rank of every right answer, whatever its place.

The vectors of a set's pictures are held together, float32: means and variances of ranks need all places, not the first
thousand. Rankings are made of some queries at a time, and cut once their ranks are known.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from optical_jax.retrieval.blocks import Block, blocks_of
from optical_jax.retrieval.image_metrics import first_ranks, per_query_figures
from optical_jax.retrieval.metrics import PerQuery
from optical_jax.retrieval.search import DEPTH, Ranking, rank

Vectors = Float[np.ndarray, "l E"]
"""Those of one text or picture, without padding."""
MOST_SCORES = 1 << 24
"""Of a ranking while all its places are there, which takes about 30 bytes each."""


@dataclass(frozen=True)
class Found:
    """What one way of asking found."""

    queries: tuple[str, ...]
    """Their ids."""
    ranks: Int[np.ndarray, "B"]
    """Of the first right document of each, from 1."""
    ranking: Ranking
    """The first `DEPTH` documents."""

    @property
    def per_query(self) -> PerQuery:
        return per_query_figures(dict(zip(self.queries, self.ranks.tolist(), strict=True)))


def by_position(blocks: Iterable[Block], count: int) -> list[Vectors]:
    """The vectors of `count` texts or pictures that come in blocks."""
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

    Of captions in one language and images both ways. Scores are MaxSim's, of the side that asks: of a caption the sum
    over its tokens of the best patch's cosine, of an image the sum over its patches of the best token's; with a vector
    a side both are the cosine.

    Args:
      relevant: query id (of a caption) -> ids of the documents (images) that are relevant to it.
      query_vectors: in the same order.
      documents: ids. Those that are relevant to no query are ranked, and do not ask.
      document_vectors: in the same order.

    Raises:
      ConfigError: queries and documents have vectors of different widths, or a score is not a number.
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
    """Rank all documents for every query; `right` has the positions of each query's right ones."""
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

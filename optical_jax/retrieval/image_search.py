"""Exact text-to-image and image-to-text search over a whole set, with the rank of every relevant result.

All vectors of a set's images are held in memory, float32: mean and variance of ranks need complete rankings, not the
top 1000. Queries are ranked in batches, and each ranking is truncated once its ranks are known.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from optical_jax.data.images.captions import Caption
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
    captions: Mapping[str, Caption],
    caption_vectors: Sequence[Vectors],
    pictures: Sequence[str],
    picture_vectors: Sequence[Vectors],
) -> tuple[Found, Found]:
    """Text-to-image and image-to-text search, in this order, for the captions of one language.

    Scores are MaxSim from the query's side: for a caption the sum over its tokens of the best patch's cosine, for an
    image the sum over its patches of the best token's; the cosine for single vectors.

    Args:
      captions: id -> the image's id, and the text.
      caption_vectors: in the same order.
      pictures: image ids. Images without a caption here are candidates, but not queries.
      picture_vectors: in the same order.

    Raises:
      ConfigError: captions and images have vectors of different widths, or a score is NaN.
    """
    names, place = list(captions), {name: n for n, name in enumerate(pictures)}
    of_picture: dict[int, list[int]] = {}
    for n, caption in enumerate(captions.values()):
        of_picture.setdefault(place[caption.picture], []).append(n)
    own = [[place[caption.picture]] for caption in captions.values()]
    asking = sorted(of_picture)
    return (
        rank_all(names, caption_vectors, list(pictures), picture_vectors, own),
        rank_all(
            [pictures[n] for n in asking],
            [picture_vectors[n] for n in asking],
            names,
            caption_vectors,
            [of_picture[n] for n in asking],
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

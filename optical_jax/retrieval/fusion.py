"""Reciprocal rank fusion of several rankings; their scores need not be comparable."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from optical_jax.retrieval.search import DEPTH, Ranking, TopDocuments, ranks_of_ids

K = 60
"""Constant of Cormack et al.; the larger, the less the top ranks dominate."""


def reciprocal_rank_fusion(rankings: Sequence[Ranking], ids: Sequence[str], depth: int = DEPTH) -> Ranking:
    """Rank documents by sum 1 / (60 + rank), ranks from 1, over the rankings that contain them.

    Args:
      rankings: one or more, one row per query, the same queries in each.
      ids: of all documents; ties are broken by descending id.
      depth: documents kept per query.

    Source: Cormack, Clarke and Büttcher, Reciprocal rank fusion (SIGIR 2009).
    """
    top, positions = TopDocuments(len(rankings[0].documents), ranks_of_ids(ids), depth), np.arange(len(ids))
    for n, rows in enumerate(zip(*(ranking.documents for ranking in rankings), strict=True)):
        scores = np.zeros(len(ids))
        for row in rows:
            found = row[row >= 0]
            scores[found] += 1 / (K + 1 + np.arange(len(found)))
        top.add(np.array([n]), positions, np.where(scores > 0, scores, -np.inf)[None])
    return top.ranking()

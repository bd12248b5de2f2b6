"""Several rankings of the same documents joined into one, by places alone: their scores need not be comparable."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from optical_jax.retrieval.search import DEPTH, Ranking, TopDocuments, ranks_of_ids

K = 60
"""As Cormack et al. have it: the larger, the less the first places count over those behind them."""


def reciprocal_rank_fusion(rankings: Sequence[Ranking], ids: Sequence[str], depth: int = DEPTH) -> Ranking:
    """The documents in the order of sum 1 / (60 + place), places from 1, over the rankings that have them.

    Args:
      rankings: one or more, a row a query, the same queries in each.
      ids: of all documents; ties stand in descending order of theirs.
      depth: documents kept a query.

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

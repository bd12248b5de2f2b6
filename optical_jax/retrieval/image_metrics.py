"""Figures of text-image retrieval, both ways, as its literature counts them.

R@k there is the share of queries with a right answer among the first k (Success@k of ir-measures), not the share of
right answers found, which `evaluation.metrics` has under that name: a picture has several captions, and one is enough.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from optical_jax.retrieval.metrics import Figures, PerQuery
from optical_jax.retrieval.search import Ranking

DEPTHS = (1, 5, 10)
RECALLS = tuple(f"R@{k}" for k in DEPTHS)
"""What paired tests compare: `significance.compare_runs(a, b, metrics=RECALLS)`."""
WAYS = ("t2i", "i2t")
"""Captions asking for pictures, and pictures for captions."""
FIGURES = (*(f"{way} {name}" for way in WAYS for name in (*RECALLS, "median_rank", "mean_rank")), "rSum")
"""Figures of a language; "rSum" is the sum of the six recalls in per cent, 0 to 600."""
LEARNERS = {
    "image_tower": "the image tower is known to have learned from",
    "student": "the student was shown",
}
"""Who may have learned from the pictures before, as `pictures_trained_on` of metrics.json calls it, and in words."""


def trained_on_sentences(found: Mapping[str, Any]) -> list[str]:
    """What metrics.json says of pictures that were learned from before they were ranked; nothing of what is unknown."""
    counts = found.get("pictures_trained_on", {})
    return [
        f"Of its {found['pictures']:,} pictures {told} {counts[who]:,}."
        for who, told in LEARNERS.items()
        if counts.get(who) is not None
    ]


def first_ranks(ranking: Ranking, right: Sequence[Collection[int]], documents: int) -> Int[np.ndarray, "B"]:
    """Rank of the first right document of every query, from 1.

    Args:
      ranking: of all documents; ties are broken as `search` does.
      right: positions of each query's right documents, one or more.
      documents: how many there are. A right one that could not be scored (it has no vector) stands last.

    Raises:
      ValueError: queries without a right document, or one whose right documents all lie below the ranking's depth.
    """
    if len(right) != len(ranking.documents) or not all(map(len, right)):
        raise ValueError(f"{len(ranking.documents)} queries need as many sets of right documents, none of them empty")
    counts = [len(each) for each in right]
    wanted = np.repeat(np.arange(len(right)), counts) * documents + np.concatenate([list(each) for each in right])
    found = ranking.documents + np.arange(len(right))[:, None] * documents
    hit = np.isin(found, wanted) & (ranking.documents >= 0)
    depth = hit.shape[1]
    if depth < documents and not hit.any(axis=1).all():
        raise ValueError(
            f"a right document lies below depth={depth} of {documents}, so its rank is not known; rank all documents"
        )
    return np.where(hit.any(axis=1), hit.argmax(axis=1) + 1, documents)


def per_query_figures(ranks: Mapping[str, float]) -> PerQuery:
    """Query id -> R@1, R@5, R@10 (0 or 1 each) and rank, from query id -> rank of the first right document."""
    return {
        query: {f"R@{k}": float(rank <= k) for k in DEPTHS} | {"rank": float(rank)} for query, rank in ranks.items()
    }


def two_way_figures(t2i: PerQuery, i2t: PerQuery) -> Figures:
    """`FIGURES` of one language, and how many queries there were each way ("t2i queries", "i2t queries").

    Args:
      t2i: of captions, from `per_query_figures`.
      i2t: of pictures.
    """
    figures: Figures = {}
    for way, per_query in zip(WAYS, (t2i, i2t), strict=True):
        ranks = [each["rank"] for each in per_query.values()]
        figures |= {f"{way} {name}": float(np.mean([each[name] for each in per_query.values()])) for name in RECALLS}
        figures |= {f"{way} median_rank": float(np.median(ranks)), f"{way} mean_rank": float(np.mean(ranks))}
        figures[f"{way} queries"] = len(per_query)
    return figures | {"rSum": 100 * sum(figures[f"{way} {name}"] for way in WAYS for name in RECALLS)}


# ---- across languages --------------------------------------------------------------------------------------------


def mean_rank_variance(ranks: Mapping[str, Mapping[str, float]]) -> dict[str, float] | None:
    """How much a picture's rank depends on the language it is asked in: 0 where every language ranks alike.

    The variance of a picture's rank over all languages, and its mean over pictures ("MRV", in squared ranks). Pictures
    count that every language asks for. The variance is that of the languages there are (divided by their number).

    Args:
      ranks: language -> picture id -> rank: its own as a query, or the mean of its captions'.

    Returns:
      "MRV", with the number of "languages" and "pictures"; None where there are fewer than two languages, or no picture
      that all of them ask for.

    Source: Nie et al. (KDD 2024, arXiv 2406.18254), whose text beyond the abstract could not be had.
    """
    shared = sorted(set.intersection(*(set(of) for of in ranks.values()))) if ranks else []
    if len(ranks) < 2 or not shared:
        return None
    table: Float[np.ndarray, "languages pictures"] = np.array([[of[p] for p in shared] for of in ranks.values()])
    return {"MRV": float(table.var(axis=0).mean()), "languages": len(ranks), "pictures": len(shared)}

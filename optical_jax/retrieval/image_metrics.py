"""Metrics of text-image retrieval in both directions: R@k, median and mean rank, rSum, mean rank variance.

R@k is here, as in the image-text literature, the share of queries with a relevant result among the first k (Success@k
of ir-measures), not recall as in `retrieval.metrics`: an image has several captions, and one is enough.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from optical_jax.retrieval.metrics import MetricValues, PerQuery
from optical_jax.retrieval.search import Ranking

DEPTHS = (1, 5, 10)
RECALLS = tuple(f"R@{k}" for k in DEPTHS)
"""Metrics for paired tests: `significance.compare_runs(a, b, metrics=RECALLS)`."""
WAYS = ("t2i", "i2t")
"""Text-to-image (captions as queries) and image-to-text retrieval."""
IMAGE_METRICS = (*(f"{way} {name}" for way in WAYS for name in (*RECALLS, "median_rank", "mean_rank")), "rSum")
"""Metrics of a language; "rSum" is the sum of the six recalls in per cent, 0 to 600."""
LEARNERS = {
    "image_tower": "the image tower is known to have learned from",
    "student": "the student was shown",
}
"""Keys of `pictures_trained_on` in metrics.json, models that may have been trained on test images -> their wording."""


def trained_on_sentences(found: Mapping[str, Any]) -> list[str]:
    """Sentences on contamination: how many of the ranked images were in training data, by metrics.json, if known."""
    counts = found.get("pictures_trained_on", {})
    return [
        f"Of its {found['pictures']:,} pictures {wording} {counts[who]:,}."
        for who, wording in LEARNERS.items()
        if counts.get(who) is not None
    ]


def first_ranks(ranking: Ranking, right: Sequence[Collection[int]], documents: int) -> Int[np.ndarray, "B"]:
    """Rank of the first relevant document of every query, from 1.

    Args:
      ranking: of all documents; ties are broken as in `search`.
      right: positions of each query's relevant documents, one or more.
      documents: their number. A relevant one that could not be scored (it has no vector) ranks last.

    Raises:
      ValueError: queries without a relevant document, or with all relevant documents below the ranking's depth.
    """
    if len(right) != len(ranking.documents) or not all(map(len, right)):
        raise ValueError(f"{len(ranking.documents)} queries need as many sets of relevant documents, none empty")
    counts = [len(each) for each in right]
    wanted = np.repeat(np.arange(len(right)), counts) * documents + np.concatenate([list(each) for each in right])
    found = ranking.documents + np.arange(len(right))[:, None] * documents
    hit = np.isin(found, wanted) & (ranking.documents >= 0)
    depth = hit.shape[1]
    if depth < documents and not hit.any(axis=1).all():
        raise ValueError(
            f"a relevant document is below depth={depth} of {documents}, so its rank is unknown; rank all documents"
        )
    return np.where(hit.any(axis=1), hit.argmax(axis=1) + 1, documents)


def per_query_metrics(ranks: Mapping[str, float]) -> PerQuery:
    """Query id -> R@1, R@5, R@10 (0 or 1 each) and rank, from query id -> rank of the first relevant document."""
    return {
        query: {f"R@{k}": float(rank <= k) for k in DEPTHS} | {"rank": float(rank)} for query, rank in ranks.items()
    }


def two_way_metrics(t2i: PerQuery, i2t: PerQuery) -> MetricValues:
    """Metrics of one language in both directions (`IMAGE_METRICS`), and the number of queries in each.

    Args:
      t2i: metrics of captions as queries, from `per_query_metrics`.
      i2t: metrics of images as queries.
    """
    figures: MetricValues = {}
    for way, per_query in zip(WAYS, (t2i, i2t), strict=True):
        ranks = [each["rank"] for each in per_query.values()]
        figures |= {f"{way} {name}": float(np.mean([each[name] for each in per_query.values()])) for name in RECALLS}
        figures |= {f"{way} median_rank": float(np.median(ranks)), f"{way} mean_rank": float(np.mean(ranks))}
        figures[f"{way} queries"] = len(per_query)
    return figures | {"rSum": 100 * sum(figures[f"{way} {name}"] for way in WAYS for name in RECALLS)}


# ---- across languages --------------------------------------------------------------------------------------------


def mean_rank_variance(ranks: Mapping[str, Mapping[str, float]]) -> dict[str, float] | None:
    """Mean rank variance (MRV): how much an image's rank depends on the query language; 0 if all languages agree.

    The variance of an image's rank over languages (population variance), averaged over images, in squared ranks. Only
    images that have queries in every language count.

    Args:
      ranks: language -> image id -> rank: of the image as a query, or the mean of its captions'.

    Returns:
      "MRV", with the number of "languages" and "pictures"; None for fewer than two languages, or without an image that
      all of them share.

    Source: Nie et al. (KDD 2024, arXiv 2406.18254), whose text beyond the abstract could not be had.
    """
    shared = sorted(set.intersection(*(set(of) for of in ranks.values()))) if ranks else []
    if len(ranks) < 2 or not shared:
        return None
    table: Float[np.ndarray, "languages pictures"] = np.array([[of[p] for p in shared] for of in ranks.values()])
    return {"MRV": float(table.var(axis=0).mean()), "languages": len(ranks), "pictures": len(shared)}

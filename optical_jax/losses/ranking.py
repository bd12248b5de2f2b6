"""Ranking losses for retrievers: cross entropy with hard and in-batch negatives, KL and MarginMSE distillation."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from optical_jax.config import RankingLossConfig
from optical_jax.losses.batch_scores import maxsims, query_maxsims
from optical_jax.types import LossOutput, RankingMarks, Scalar, TokenVectors


def ranking_loss(
    queries: TokenVectors, passages: TokenVectors, marks: RankingMarks, cfg: RankingLossConfig
) -> LossOutput:
    """Ranking loss: the weighted sum of `cfg`, each part a float32 mean over queries.

    Args:
      queries: vectors [B, Q, E].
      passages: vectors [B * n, P, E]; those of query b are [b * n, (b + 1) * n), the relevant one first.
      marks: which passages may be negatives of which query, and teacher scores from the data.
      cfg: weights, temperature, scale.

    Returns:
      The loss; as metrics its parts, and `first_rank`, the share of queries that score their relevant passage highest.

    Sources: Santhanam et al. (ColBERTv2, NAACL 2022) for KL over scored passages with in-batch negatives; Hofstätter
    et al. (2020, arXiv 2010.02666) for MarginMSE.
    """
    B, n = marks.passage_ids.shape
    if cfg.contrastive and cfg.in_batch:
        scores = maxsims(queries, passages)  # [B, N]
        counted, relevant = countable(marks), jnp.arange(B) * n
        own = jnp.take_along_axis(scores, relevant[:, None] + jnp.arange(n), axis=1)  # [B, n]
    else:
        scores = own = own_scores(queries, passages)  # [B, n]
        counted, relevant = own_countable(marks), jnp.zeros(B, jnp.int32)
    rivals = jnp.where(counted, scores, -jnp.inf).max(axis=1)
    metrics = {"first_rank": (own[:, 0] > rivals).mean(dtype=jnp.float32)}
    parts = {}
    if cfg.contrastive:
        target = counted | (jnp.arange(scores.shape[1]) == relevant[:, None])
        parts["contrastive"] = cross_entropy(own[:, 0] / cfg.temperature, scores / cfg.temperature, target)
    if cfg.kl:
        parts["kl"] = score_divergence(own, given_scores(marks, cfg.score_scale))
    if cfg.margin_mse:
        parts["margin_mse"] = margin_error(own, given_scores(marks, cfg.score_scale))
    loss = sum((getattr(cfg, name) * part for name, part in parts.items()), jnp.zeros(()))
    return LossOutput(loss=loss, metrics=metrics | parts)


def own_scores(queries: TokenVectors, passages: TokenVectors) -> Float[Array, "B n"]:
    """MaxSim of every query with its own passages alone."""
    B, (_, P, E) = len(queries.vectors), passages.vectors.shape
    own = passages.mask.reshape(B, -1, P), passages.vectors.reshape(B, -1, P, E)
    return jax.vmap(query_maxsims)(queries.mask, queries.vectors, *own)


# ---- masks of negatives ------------------------------------------------------------------------------------------


def countable(marks: RankingMarks) -> Bool[Array, "B N"]:
    """Mask of in-batch negatives: passages not judged relevant to the query, each counted once."""
    return marks.first.reshape(1, -1) & ~_is_relevant(marks.passage_ids.reshape(1, -1), marks.relevant)


def own_countable(marks: RankingMarks) -> Bool[Array, "B n"]:
    """Mask of negatives among a query's own passages, each counted once."""
    ids = marks.passage_ids
    earlier = (ids[:, :, None] == ids[:, None, :]) & jnp.tri(ids.shape[1], k=-1, dtype=bool)
    return ~earlier.any(axis=2) & ~_is_relevant(ids, marks.relevant)


def _is_relevant(ids: Int[Array, "#B n"], relevant: Int[Array, "B R"]) -> Bool[Array, "B n"]:
    return (ids[:, :, None] == relevant[:, None, :]).any(axis=2)


def given_scores(marks: RankingMarks, scale: float) -> Float[Array, "B n"]:
    """Scaled teacher scores from the data; NaN where missing, and for repeats of a passage in its row."""
    ids = marks.passage_ids
    again = ((ids[:, :, None] == ids[:, None, :]) & jnp.tri(ids.shape[1], k=-1, dtype=bool)).any(axis=2)
    return jnp.where(again, jnp.nan, marks.scores * scale)


# ---- losses ------------------------------------------------------------------------------------------------------


def cross_entropy(relevant: Float[Array, "B"], scores: Float[Array, "B N"], counted: Bool[Array, "B N"]) -> Scalar:
    """Mean over queries of -log softmax of the relevant passage's score, over those that count (itself included)."""
    return (jax.nn.logsumexp(jnp.where(counted, scores, -jnp.inf), axis=1) - relevant).mean()


def score_divergence(scores: Float[Array, "B n"], given: Float[Array, "B n"]) -> Scalar:
    """KL distillation: mean over queries of KL(softmax(given) || softmax(scores)), over passages with a given score.

    Queries with fewer than two such passages are left out of the mean.
    """
    some = jnp.isfinite(given)
    rows = some.sum(axis=1) > 1
    target = _log_softmax(jnp.where(some, given, 0.0), some)
    found = _log_softmax(scores, some)
    each = jnp.where(some, jnp.exp(target) * (target - found), 0.0).sum(axis=1)
    return jnp.where(rows, each, 0.0).sum() / jnp.maximum(rows.sum(), 1)


def _log_softmax(x: Float[Array, "B n"], some: Bool[Array, "B n"]) -> Float[Array, "B n"]:
    """Masked log softmax over the last axis; zero at masked entries, and in rows without any."""
    rows = some.any(axis=1, keepdims=True)
    total = jax.nn.logsumexp(jnp.where(some | ~rows, x, -jnp.inf), axis=1, keepdims=True)
    return jnp.where(some, x - total, 0.0)


def margin_error(scores: Float[Array, "B n"], given: Float[Array, "B n"]) -> Scalar:
    """MarginMSE: mean over queries of the mean squared error of (first - other), over others with a given score.

    Queries whose first passage has no score, or that have no other scored passage, are left out.
    """
    some = (jnp.isfinite(given) & jnp.isfinite(given[:, :1]))[:, 1:]
    known = jnp.where(jnp.isfinite(given), given, 0.0)
    error = (scores[:, :1] - scores[:, 1:]) - (known[:, :1] - known[:, 1:])
    counts = some.sum(axis=1)
    each = jnp.where(some, error**2, 0.0).sum(axis=1) / jnp.maximum(counts, 1)
    return each.sum() / jnp.maximum((counts > 0).sum(), 1)

"""Distillation of token vectors along a hard matching, without a transport problem."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from optical_jax.config import LossConfig
from optical_jax.losses.pairs import comparison_metrics, mean_over_pairs, mean_over_tokens
from optical_jax.ot.costs import cosine_cost
from optical_jax.ot.plans import greedy_matching
from optical_jax.types import LossOutput, TokenVectors


def greedy_loss(student: TokenVectors, teacher: TokenVectors, cfg: LossConfig) -> LossOutput:
    """Mean over pairs and their student tokens of 1 - cosine with the matched teacher token.

    The matching is DR.DECR's greedy one-to-one one (see `greedy_matching`), a constant to differentiation. What differs
    from DR.DECR: its squared error of unit vectors is 2 (1 - cosine) / E; its sides are of one length, [MASK] padding
    included, where here padding is left out and surplus student tokens take their best match.

    Source: Li et al. (NAACL 2022).
    """
    cost = cosine_cost(student.vectors, teacher.vectors)  # [B, S, T]
    match = greedy_matching(jax.lax.stop_gradient(cost), student.mask, teacher.mask)  # [B, S]
    matched = jnp.take_along_axis(cost, match[:, :, None], axis=2)[:, :, 0]  # [B, S]
    loss = mean_over_pairs(mean_over_tokens(matched, student.mask), student, teacher)
    return LossOutput(loss=loss, metrics=comparison_metrics(student, teacher))

"""Sentence embedding distillation: cosine and MSE losses of mean-pooled vectors."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from optical_jax.config import LossConfig
from optical_jax.losses.pairs import at_least_float32, comparison_metrics, mean_over_pairs, pooled_cosines
from optical_jax.types import LossOutput, TokenVectors, masked_sum


def pooled_cosine_loss(student: TokenVectors, teacher: TokenVectors, cfg: LossConfig) -> LossOutput:
    """Mean over pairs of 1 - cosine of the mean-pooled vectors; single-vector towers (L = 1) are not pooled again.

    Source: for unit vectors, half the squared error of Reimers and Gurevych (EMNLP 2020).
    """
    per_pair = 1.0 - pooled_cosines(student, teacher)
    return LossOutput(loss=mean_over_pairs(per_pair, student, teacher), metrics=comparison_metrics(student, teacher))


def pooled_mse_loss(student: TokenVectors, teacher: TokenVectors, cfg: LossConfig) -> LossOutput:
    """MSE distillation: mean over pairs of the squared distance of mean token vectors, summed over E: 0 to 4.

    The mean of unit vectors is shorter the more they differ, and is not normalised: so the student also learns the
    spread of a text's vectors, which `pooled_cosine_loss` ignores. At L = 1 it is twice that loss. Differs from the
    paper, which pools unnormalised hidden states, takes the mean over E instead of the sum (a factor that Adam
    cancels), and has the student embed the English side too.

    Source: Reimers and Gurevych (EMNLP 2020).
    """
    per_pair = jnp.square(mean_vectors(student) - mean_vectors(teacher)).sum(axis=1)  # [B]
    return LossOutput(loss=mean_over_pairs(per_pair, student, teacher), metrics=comparison_metrics(student, teacher))


def mean_vectors(side: TokenVectors) -> Float[Array, "B E"]:
    """Mean of each text's token vectors, of length 0 to 1; zero for a text without tokens."""
    total = masked_sum(at_least_float32(side.vectors), side.mask)[:, 0]  # [B, E]
    return total / jnp.maximum(side.mask.sum(axis=1, keepdims=True), 1)

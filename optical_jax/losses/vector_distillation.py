"""Distillation of whole-text vectors: what a sentence-embedding recipe would do with the same towers."""

from __future__ import annotations

from optical_jax.config import LossConfig
from optical_jax.losses.pairs import comparison_metrics, mean_over_pairs, pooled_cosines
from optical_jax.types import LossOutput, TokenVectors


def pooled_cosine_loss(student: TokenVectors, teacher: TokenVectors, cfg: LossConfig) -> LossOutput:
    """Mean over pairs of 1 - cosine of the mean-pooled vectors; single-vector towers (L = 1) are compared as they are.

    Source: for unit vectors, half the squared error of Reimers and Gurevych (EMNLP 2020).
    """
    per_pair = 1.0 - pooled_cosines(student, teacher)
    return LossOutput(loss=mean_over_pairs(per_pair, student, teacher), metrics=comparison_metrics(student, teacher))

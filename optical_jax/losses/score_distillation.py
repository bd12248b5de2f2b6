"""Distillation of scores: to find the same texts of the batch relevant that the teacher finds."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from optical_jax.config import LossConfig
from optical_jax.losses.batch_scores import mean_maxsims
from optical_jax.losses.pairs import comparison_metrics, mean_over_pairs, real_pairs
from optical_jax.types import LossOutput, TokenVectors

NO_TEXT = -1e30
"""Logit of what is no text: finite, so that differences of it are no NaN."""


def score_kl_loss(student: TokenVectors, teacher: TokenVectors, cfg: LossConfig) -> LossOutput:
    """Mean over pairs of KL(teacher || student), in nats, between distributions over the teacher texts of the batch.

    A distribution is the softmax of MaxSim over the number of query tokens, divided by `cfg.temperature`: on the
    teacher's side the English text asks, on the student's its translation. What differs from Translate-Distill: its
    teacher is a cross-encoder and its passages are found by search; here the teacher is its own, and the passages are
    the texts of the batch (with `training.accumulate` of the part), so that bitext is all it takes.

    Source: Translate-Distill, Yang et al. (ECIR 2024).
    """
    texts = real_pairs(student, teacher)[None, :]  # [1, N]
    of_teacher, of_student = (
        jax.nn.log_softmax(jnp.where(texts, mean_maxsims(side, teacher) / cfg.temperature, NO_TEXT), axis=1)
        for side in (teacher, student)
    )  # [B, N]
    per_pair = (jnp.exp(of_teacher) * (of_teacher - of_student)).sum(axis=1)  # [B]
    return LossOutput(loss=mean_over_pairs(per_pair, student, teacher), metrics=comparison_metrics(student, teacher))

"""Score distillation: KL divergence between teacher and student scores of the batch's texts."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from optical_jax.config import LossConfig
from optical_jax.losses.batch_scores import mean_maxsims
from optical_jax.losses.pairs import comparison_metrics, mean_over_pairs, real_pairs
from optical_jax.types import LossOutput, TokenVectors

NO_TEXT = -1e30
"""Logit of padding: finite, so that differences are not NaN."""


def score_kl_loss(student: TokenVectors, teacher: TokenVectors, cfg: LossConfig) -> LossOutput:
    """Mean over pairs of KL(teacher || student), in nats, between distributions over the teacher texts of the batch.

    A distribution is the softmax of MaxSim over the number of query tokens, divided by `cfg.temperature`; the query is
    the English text for the teacher and its translation for the student. Differs from Translate-Distill, which has a
    cross-encoder teacher and retrieved passages; here the teacher is the English tower and the passages are the
    texts of the batch (with `training.accumulate` of the part), so that bitext alone is needed.

    Source: Translate-Distill, Yang et al. (ECIR 2024).
    """
    texts = real_pairs(student, teacher)[None, :]  # [1, N]
    of_teacher, of_student = (
        jax.nn.log_softmax(jnp.where(texts, mean_maxsims(side, teacher) / cfg.temperature, NO_TEXT), axis=1)
        for side in (teacher, student)
    )  # [B, N]
    per_pair = (jnp.exp(of_teacher) * (of_teacher - of_student)).sum(axis=1)  # [B]
    return LossOutput(loss=mean_over_pairs(per_pair, student, teacher), metrics=comparison_metrics(student, teacher))

"""In-batch contrastive (InfoNCE) distillation by MaxSim, mean-pooled cosine or transport cost."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from optical_jax.config import LossConfig
from optical_jax.losses.batch_scores import mean_cosines, mean_maxsims, same_texts, transport_scores
from optical_jax.losses.pairs import comparison_metrics, mean_over_pairs, real_pairs
from optical_jax.types import LossOutput, TokenVectors


def contrastive_loss(student: TokenVectors, teacher: TokenVectors, cfg: LossConfig) -> LossOutput:
    """InfoNCE with in-batch negatives: mean over pairs of -log softmax of the positive's score among teacher texts.

    Scores are MaxSim over the number of query tokens, divided by `cfg.temperature`. The student's text is the query and
    the teacher's are the documents, as in search; the other direction is not trained. Negatives come from the whole
    batch over all devices, with `training.accumulate` from the part alone. Duplicates of the positive and padding rows
    are not negatives.

    Source: InfoNCE, van den Oord, Li and Vinyals (arXiv 1807.03748), with ColBERT's score.
    """
    return info_nce(mean_maxsims(student, teacher), student, teacher, cfg)


def pooled_contrastive_loss(student: TokenVectors, teacher: TokenVectors, cfg: LossConfig) -> LossOutput:
    """InfoNCE as `contrastive_loss`, by the cosines of mean-pooled vectors.

    Source: InfoNCE, van den Oord, Li and Vinyals (arXiv 1807.03748).
    """
    return info_nce(mean_cosines(student, teacher), student, teacher, cfg)


def ot_contrastive_loss(student: TokenVectors, teacher: TokenVectors, cfg: LossConfig) -> LossOutput:
    """InfoNCE as `contrastive_loss`, scored by 1 - mean optimal transport cost.

    `cfg.ot` chooses the plan; every text is transported to every other, B^2 problems per step.

    Source: the score is that of word mover's distance (Kusner et al., ICML 2015), in OPTICAL's terms.
    """
    return info_nce(transport_scores(student, teacher, cfg.ot), student, teacher, cfg)


def info_nce(scores: Float[Array, "B N"], student: TokenVectors, teacher: TokenVectors, cfg: LossConfig) -> LossOutput:
    """InfoNCE of a score matrix whose positives are on the diagonal (B = N)."""
    own = jnp.eye(len(scores), dtype=bool)
    candidates = own | (real_pairs(student, teacher)[None, :] & ~same_texts(teacher))  # [B, N]
    # Relative to the positive's score before the sum: small losses keep their precision, and a single text gives zero.
    ahead = (scores - jnp.diagonal(scores)[:, None]) / cfg.temperature
    per_pair = jax.nn.logsumexp(jnp.where(candidates, ahead, -jnp.inf), axis=1)  # [B]
    return LossOutput(loss=mean_over_pairs(per_pair, student, teacher), metrics=comparison_metrics(student, teacher))

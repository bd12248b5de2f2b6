"""Distillation losses by name, and weighted sums of them."""

from __future__ import annotations

from collections.abc import Callable

from optical_jax.config import LossConfig
from optical_jax.config.validation import parse_added_losses
from optical_jax.losses.contrastive import contrastive_loss, ot_contrastive_loss, pooled_contrastive_loss
from optical_jax.losses.gromov_distillation import gromov_wasserstein_loss
from optical_jax.losses.ot_distillation import greedy_loss, transport_loss
from optical_jax.losses.relational import relational_loss
from optical_jax.losses.score_distillation import score_kl_loss
from optical_jax.losses.vector_distillation import pooled_cosine_loss, pooled_mse_loss
from optical_jax.types import LossOutput, TokenVectors

LOSSES: dict[str, Callable[[TokenVectors, TokenVectors, LossConfig], LossOutput]] = {
    "transport": transport_loss,
    "gromov_wasserstein": gromov_wasserstein_loss,
    "greedy": greedy_loss,
    "pooled_cosine": pooled_cosine_loss,
    "pooled_mse": pooled_mse_loss,
    "contrastive": contrastive_loss,
    "pooled_contrastive": pooled_contrastive_loss,
    "ot_contrastive": ot_contrastive_loss,
    "relational": relational_loss,
    "score_kl": score_kl_loss,
}
"""`LossConfig.name` -> f(student, teacher, cfg) -> LossOutput; everything is a float32 scalar over real pairs."""


def distillation_loss(student: TokenVectors, teacher: TokenVectors, cfg: LossConfig) -> LossOutput:
    """Distillation loss `cfg.name`, plus the losses of `cfg.add` times their weights.

    Returns:
      The sum, with the metrics of all its parts (of equal names, the first part's). With several parts also the
      unweighted loss_<name> of each.

    Raises:
      ConfigError: as `parse_added_losses`.
    """
    main = LOSSES[cfg.name](student, teacher, cfg)
    added = parse_added_losses(cfg)
    if not added:
        return main
    total, metrics = main.loss, {**main.metrics, f"loss_{cfg.name}": main.loss}
    for name, weight in added.items():
        part = LOSSES[name](student, teacher, cfg)
        total += weight * part.loss
        metrics = {**part.metrics, **metrics, f"loss_{name}": part.loss}
    return LossOutput(loss=total, metrics=metrics)

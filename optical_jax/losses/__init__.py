"""The table of distillation losses."""

from __future__ import annotations

from collections.abc import Callable

from optical_jax.config import LossConfig
from optical_jax.losses.ot_distillation import transport_loss
from optical_jax.losses.token_distillation import greedy_loss
from optical_jax.losses.vector_distillation import pooled_cosine_loss
from optical_jax.types import LossOutput, TokenVectors

LOSSES: dict[str, Callable[[TokenVectors, TokenVectors, LossConfig], LossOutput]] = {
    "transport": transport_loss,
    "pooled_cosine": pooled_cosine_loss,
    "greedy": greedy_loss,
}
"""`LossConfig.name` -> f(student, teacher, cfg) -> LossOutput; everything is a float32 scalar over real pairs."""

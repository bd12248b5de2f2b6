"""OPTICAL's loss: the cost of moving the student's token vectors onto the teacher's."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from optical_jax.config import LossConfig, OtConfig
from optical_jax.losses.pairs import comparison_metrics, mean_over_pairs, real_cells
from optical_jax.ot.costs import COSTS
from optical_jax.ot.masses import MASSES
from optical_jax.ot.plans import PLANS, plan_entropy, plan_error
from optical_jax.types import LossOutput, TokenVectors


class Transport(NamedTuple):
    """What is moved where, and at which cost."""

    plan: Float[Array, "B S T"]
    cost: Float[Array, "B S T"]
    """Zero where a side has no token."""
    rows: Float[Array, "B S"]
    cols: Float[Array, "B T"]
    """Masses of the student's and the teacher's tokens."""


@jax.named_scope("transport")
def transport(student: TokenVectors, teacher: TokenVectors, cfg: OtConfig) -> Transport:
    """The plan of every pair; a constant to differentiation, as the cost is not."""
    cost = COSTS[cfg.cost](student.vectors, teacher.vectors)
    cost = jnp.where(real_cells(student, teacher), cost, 0.0)  # [B, S, T]
    rows, cols = MASSES[cfg.masses](student), MASSES[cfg.masses](teacher)
    # The envelope theorem: at the optimum the plan's own derivative adds nothing, so the plan is a target.
    plan = jax.lax.stop_gradient(PLANS[cfg.plan](jax.lax.stop_gradient(cost), rows, cols, cfg))
    return Transport(plan, cost, rows, cols)


def transport_loss(student: TokenVectors, teacher: TokenVectors, cfg: LossConfig) -> LossOutput:
    """Mean over pairs of <P*, C>, in units of the cost (cosine: 0 to 2). The gradient flows through C alone.

    Args:
      student: vectors [B, S, E], the trained side.
      teacher: vectors [B, T, E] of the same pairs; both sides carry `weight` where cfg.ot.masses is "idf".
      cfg: `cfg.ot` chooses cost, masses, plan and the solver's settings.

    Returns:
      The loss, with plan_entropy (0 to 1), plan_error (L1 distance from the marginals) and `comparison_metrics`.

    Source: Huang, Yu and Allan (WSDM 2023).
    """
    moved = transport(student, teacher, cfg.ot)
    per_pair = jnp.sum(moved.plan * moved.cost, axis=(1, 2))  # [B]
    entropy = plan_entropy(moved.plan, student.mask, teacher.mask)
    metrics = {
        "plan_entropy": mean_over_pairs(entropy, student, teacher),
        "plan_error": mean_over_pairs(plan_error(moved.plan, moved.rows, moved.cols), student, teacher),
        **comparison_metrics(student, teacher),
    }
    return LossOutput(loss=mean_over_pairs(per_pair, student, teacher), metrics=metrics)

"""OPTICAL's loss: the cost of moving the student's token vectors onto the teacher's."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from optical_jax.config import LossConfig
from optical_jax.losses.pairs import comparison_metrics, mean_over_pairs, real_cells
from optical_jax.ot.costs import COSTS
from optical_jax.ot.masses import MASSES
from optical_jax.ot.plans import PLANS, plan_entropy, plan_error
from optical_jax.types import LossOutput, TokenVectors


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
    cost = COSTS[cfg.ot.cost](student.vectors, teacher.vectors)
    cost = jnp.where(real_cells(student, teacher), cost, 0.0)  # [B, S, T]
    rows, cols = MASSES[cfg.ot.masses](student), MASSES[cfg.ot.masses](teacher)
    # The envelope theorem: at the optimum the plan's own derivative adds nothing, so the plan is a target.
    plan = jax.lax.stop_gradient(PLANS[cfg.ot.plan](jax.lax.stop_gradient(cost), rows, cols, cfg.ot))
    per_pair = jnp.sum(plan * cost, axis=(1, 2))  # [B]
    metrics = {
        "plan_entropy": mean_over_pairs(plan_entropy(plan, student.mask, teacher.mask), student, teacher),
        "plan_error": mean_over_pairs(plan_error(plan, rows, cols), student, teacher),
        **comparison_metrics(student, teacher),
    }
    return LossOutput(loss=mean_over_pairs(per_pair, student, teacher), metrics=metrics)

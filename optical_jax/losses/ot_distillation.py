"""Optimal transport distillation (OPTICAL): cost of moving the student's token vectors onto the teacher's."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from optical_jax.config import LossConfig, OtConfig
from optical_jax.losses.pairs import comparison_metrics, mean_over_pairs, real_cells
from optical_jax.ot.costs import COSTS
from optical_jax.ot.masses import MASSES
from optical_jax.ot.plans import PLANS, plan_entropy, plan_error
from optical_jax.ot.sinkhorn import needs_log_space, solve_sinkhorn
from optical_jax.types import LossOutput, TokenVectors


class Transport(NamedTuple):
    """Transport plans, costs and marginals of a batch."""

    plan: Float[Array, "B S T"]
    cost: Float[Array, "B S T"]
    """Zero where a side has no token."""
    rows: Float[Array, "B S"]
    cols: Float[Array, "B T"]
    """Masses of the student's and the teacher's tokens."""
    prices: Float[Array, "B S"] | None = None
    """Dual potentials of the student's tokens (cost per unit of added mass), for learned masses with a stopped plan."""


@jax.named_scope("transport")
def transport(student: TokenVectors, teacher: TokenVectors, cfg: OtConfig) -> Transport:
    """Transport plan and cost of every pair. The gradient flows through the cost; through the plan only if asked."""
    cost = COSTS[cfg.cost](student.vectors, teacher.vectors)
    cost = jnp.where(real_cells(student, teacher), cost, 0.0)  # [B, S, T]
    rows, cols = MASSES[cfg.masses](student), MASSES[cfg.masses](teacher)
    # Stopped by default. The envelope theorem: at the optimum the plan's own derivative adds nothing to that of the
    # regularised cost, so the plan is a target.
    if cfg.masses == "learned" and cfg.gradient == "stopped":
        found = solve_sinkhorn(cost, rows, cols, cfg, in_log_space=needs_log_space(cfg))
        return Transport(found.plan, cost, rows, cols, found.prices)
    return Transport(PLANS[cfg.plan](cost, rows, cols, cfg), cost, rows, cols)


def transport_loss(student: TokenVectors, teacher: TokenVectors, cfg: LossConfig) -> LossOutput:
    """Optimal transport loss: mean over pairs of <P*, C>, in units of the cost (cosine: 0 to 2).

    The gradient flows through C alone, unless cfg.ot.gradient is "through". Plans that may leave mass behind
    (unbalanced, partial) are divided by the mass they move, so that the loss is the mean cost of the mass moved:
    otherwise distant pairs would move little and get small gradients, and learning rates would depend on the moved
    mass. Tokens left behind are not trained; as the plan is held constant, the student cannot lower the loss by moving
    less. `plan_mass` reports how much is moved.

    Args:
      student: vectors [B, S, E], the trained side.
      teacher: vectors [B, T, E] of the same pairs. Both sides carry `weight` where cfg.ot.masses is "idf" or "norm",
        the student's where it is "learned": its gradient is then that of min <P, C> - epsilon H(P), whose entropy keeps
        the mass from running to the cheapest tokens.
      cfg: `cfg.ot` chooses cost, masses, plan and the solver's settings.

    Returns:
      The loss, with plan_entropy (0 to 1), plan_error (L1 distance from the marginals), of unbalanced and partial plans
      plan_mass (1 is all), and `comparison_metrics`.

    Source: Huang, Yu and Allan (WSDM 2023).
    """
    moved = transport(student, teacher, cfg.ot)
    plan, per_pair, partly = moved.plan, jnp.sum(moved.plan * moved.cost, axis=(1, 2)), {}  # [B, S, T], [B]
    if cfg.ot.plan in ("unbalanced", "partial"):
        mass = plan.sum(axis=(1, 2))  # [B]
        partly = {"plan_mass": mean_over_pairs(mass, student, teacher)}
        some = jnp.where(mass > 0.0, mass, 1.0)
        plan, per_pair = plan / some[:, None, None], per_pair / some
    if moved.prices is not None:
        # Zero in value; its gradient with respect to the masses is that of the regularised cost, the dual potentials.
        of_masses = jnp.sum(moved.prices * moved.rows, axis=1)  # [B]
        per_pair += of_masses - jax.lax.stop_gradient(of_masses)
    entropy = plan_entropy(plan, student.mask, teacher.mask)
    metrics = {
        "plan_entropy": mean_over_pairs(entropy, student, teacher),
        "plan_error": mean_over_pairs(plan_error(moved.plan, moved.rows, moved.cols), student, teacher),
        **partly,
        **comparison_metrics(student, teacher),
    }
    return LossOutput(loss=mean_over_pairs(per_pair, student, teacher), metrics=metrics)


def greedy_loss(student: TokenVectors, teacher: TokenVectors, cfg: LossConfig) -> LossOutput:
    """DR.DECR's token loss: mean over pairs and student tokens of 1 - cosine with the matched teacher token.

    `transport_loss` along the greedy one-to-one matching (see `greedy_matching`), whatever `cfg.ot` says. Differs from
    DR.DECR, whose squared error of unit vectors is 2 (1 - cosine) / E and whose sides have one length, [MASK] padding
    included; here padding is left out and surplus student tokens take their best match.

    Source: Li et al. (NAACL 2022).
    """
    return transport_loss(student, teacher, replace(cfg, ot=OtConfig(plan="greedy")))

"""Fused Gromov-Wasserstein distillation: distances within each text, and costs between student and teacher."""

from __future__ import annotations

import jax.numpy as jnp

from optical_jax.config import LossConfig
from optical_jax.errors import ConfigError
from optical_jax.losses.pairs import comparison_metrics, mean_over_pairs, real_cells
from optical_jax.ot.costs import COSTS
from optical_jax.ot.gromov import distortion, gromov_plan
from optical_jax.ot.masses import MASSES
from optical_jax.ot.plans import plan_entropy, plan_error
from optical_jax.types import LossOutput, TokenVectors


def gromov_wasserstein_loss(student: TokenVectors, teacher: TokenVectors, cfg: LossConfig) -> LossOutput:
    """Fused Gromov-Wasserstein: mean over pairs of fusion <P, C> + (1 - fusion) sum_ijkl (D_ik - D'_jl)^2 P_ij P_kl.

    D and D' are the distances within the student's and within the teacher's text, C those between them, all by
    `cfg.ot.cost`. The gradient flows through D and C; P is held constant.

    Args:
      student: vectors [B, S, E], the trained side.
      teacher: vectors [B, T, E] of the same pairs, of another width E only where `cfg.fusion` is 0.
      cfg: `fusion`; of `cfg.ot` cost, masses, epsilon and the settings of Sinkhorn (`cfg.ot.plan` is not used).

    Returns:
      The loss, with plan_entropy and plan_error as of `transport_loss`, `distortion` (the sum above) and
      `comparison_metrics`. With fusion 0 the loss is invariant to rotations of the student's vectors, so that alone it
      does not make them comparable with the teacher's.

    Raises:
      ConfigError: vectors of different widths, and a fusion above 0.

    Source: Peyré, Cuturi and Solomon (ICML 2016); fused, Vayer et al. (ICML 2019).
    """
    widths = student.vectors.shape[2], teacher.vectors.shape[2]
    if cfg.fusion > 0.0 and widths[0] != widths[1]:
        raise ConfigError(
            f"loss.fusion={cfg.fusion} needs vectors of equal width, but the student's are {widths[0]} and the "
            f"teacher's {widths[1]} wide; add --loss.fusion 0"
        )
    of_student, of_teacher = (
        jnp.where(real_cells(side, side), COSTS[cfg.ot.cost](side.vectors, side.vectors), 0.0)
        for side in (student, teacher)
    )  # [B, S, S], [B, T, T]
    real = real_cells(student, teacher)
    between = jnp.zeros(real.shape, of_student.dtype)  # [B, S, T]
    if cfg.fusion > 0.0:
        between = jnp.where(real, COSTS[cfg.ot.cost](student.vectors, teacher.vectors), 0.0)
    rows, cols = (MASSES[cfg.ot.masses](side) for side in (student, teacher))
    plan = gromov_plan(between, of_student, of_teacher, rows, cols, cfg.fusion, cfg.ot)
    bent = distortion(of_student, of_teacher, plan)  # [B]
    per_pair = cfg.fusion * (plan * between).sum(axis=(1, 2)) + (1.0 - cfg.fusion) * bent
    metrics = {
        "plan_entropy": mean_over_pairs(plan_entropy(plan, student.mask, teacher.mask), student, teacher),
        "plan_error": mean_over_pairs(plan_error(plan, rows, cols), student, teacher),
        "distortion": mean_over_pairs(bent, student, teacher),
        **comparison_metrics(student, teacher),
    }
    return LossOutput(loss=mean_over_pairs(per_pair, student, teacher), metrics=metrics)

"""Entropic (fused) Gromov-Wasserstein transport: tokens are matched by their distances within their own text."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from optical_jax.config import OtConfig
from optical_jax.ot.sinkhorn import KERNEL_EPSILON, solve_sinkhorn

LINEARISATIONS = 10
"""Outer iterations: linearised problems solved in sequence, each by `OtConfig.iterations` of Sinkhorn."""


@jax.named_scope("gromov")
def gromov_plan(
    cost: Float[Array, "B S T"],
    student: Float[Array, "B S S"],
    teacher: Float[Array, "B T T"],
    rows: Float[Array, "B S"],
    cols: Float[Array, "B T"],
    fusion: float,
    cfg: OtConfig,
) -> Float[Array, "B S T"]:
    """Entropic fused Gromov-Wasserstein plan that moves the masses `rows` onto `cols`; no gradient flows through it.

    Minimises fusion <P, cost> + (1 - fusion) `distortion(P)` - epsilon H(P) over P: starting from the product of the
    masses, the objective is repeatedly linearised at the plan and the entropic problem with that cost solved. The
    problem is not convex, so the result is a local minimum that depends on the start. Marginals as of `sinkhorn_plan`.

    Args:
      cost: costs between the sides, 0 to 2.
      student: symmetric distances of the student's tokens to each other, 0 to 2.
      teacher: likewise the teacher's.
      rows: masses of the student's tokens, summing to one (or all zero).
      cols: masses of the teacher's tokens, likewise.
      fusion: share of the cost between the sides, 0 to 1.
      cfg: epsilon and the settings of the inner solver.

    Source: Peyré, Cuturi and Solomon (ICML 2016); fused, Vayer et al. (ICML 2019). The linear cost is the gradient,
    twice the tensor product that the former paper has.
    """
    cost, student, teacher, rows, cols = jax.lax.stop_gradient((cost, student, teacher, rows, cols))
    real = (rows > 0.0)[:, :, None] & (cols > 0.0)[:, None, :]  # [B, S, T]
    # Linearised costs reach 2 fusion + 8 (1 - fusion), so the bound on epsilon is scaled from costs that reach 2.
    in_log_space = cfg.smallest_epsilon < KERNEL_EPSILON * (fusion + 4.0 * (1.0 - fusion))

    def linearise_and_solve(number: jax.Array, plan: jax.Array) -> jax.Array:
        linear = fusion * cost + 2.0 * (1.0 - fusion) * mismatch(student, teacher, rows, cols, plan)
        return solve_sinkhorn(jnp.where(real, linear, 0.0), rows, cols, cfg, in_log_space=in_log_space).plan

    return jax.lax.fori_loop(0, LINEARISATIONS, linearise_and_solve, rows[:, :, None] * cols[:, None, :])


def distortion(
    student: Float[Array, "B S S"], teacher: Float[Array, "B T T"], plan: Float[Array, "B S T"]
) -> Float[Array, "B"]:
    """Gromov-Wasserstein objective of a plan: sum_ijkl (C_ik - D_jl)^2 P_ij P_kl.

    Args:
      student: C, zero where there is no token.
      teacher: D, likewise.
      plan: P, of any marginals.
    """
    return (plan * mismatch(student, teacher, plan.sum(axis=2), plan.sum(axis=1), plan)).sum(axis=(1, 2))


def mismatch(
    student: Float[Array, "B S S"],
    teacher: Float[Array, "B T T"],
    rows: Float[Array, "B S"],
    cols: Float[Array, "B T"],
    plan: Float[Array, "B S T"],
) -> Float[Array, "B S T"]:
    """sum_kl (C_ik - D_jl)^2 P_kl of every cell ij, for a plan whose marginals are `rows` and `cols`."""
    # The square is expanded, so that no intermediate array has five dimensions.
    of_rows = _exact("BSU,BU->BS", jnp.square(student), rows)
    of_cols = _exact("BTU,BU->BT", jnp.square(teacher), cols)
    crossed = _exact("BST,BTU->BSU", _exact("BSU,BUT->BST", student, plan), teacher)
    return of_rows[:, :, None] + of_cols[:, None, :] - 2.0 * crossed


def _exact(subscripts: str, a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.einsum(subscripts, a, b, precision=jax.lax.Precision.HIGHEST)

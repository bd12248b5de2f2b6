"""Balanced entropic transport by ott-jax, a batch of small padded problems at once."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from ott.geometry.geometry import Geometry
from ott.problems.linear.linear_problem import LinearProblem
from ott.solvers.linear.sinkhorn import Sinkhorn

from optical_jax.config import OtConfig

KERNEL_EPSILON = 0.05
"""From this epsilon on the kernel exp(-cost / epsilon) stays far inside float32 (costs reach 2: exp(-40) = 4e-18)."""


@jax.tree_util.register_pytree_node_class
class KernelGeometry(Geometry):
    """A geometry by its kernel, computed once.

    ott-jax raises the kernel to a power (1) at every iteration, for its epsilon schedules, and multiplies at the
    backend's default precision; this one does neither.
    """

    _kernel_matrix: jax.Array

    def apply_kernel(
        self, vec: Float[Array, "..."], eps: float | jax.Array | None = None, axis: int = 0
    ) -> Float[Array, "..."]:
        kernel = self._kernel_matrix if axis == 1 else self._kernel_matrix.T
        return jnp.dot(kernel, vec, precision=jax.lax.Precision.HIGHEST)


def sinkhorn_plan(
    cost: Float[Array, "B S T"], rows: Float[Array, "B S"], cols: Float[Array, "B T"], cfg: OtConfig
) -> Float[Array, "B S T"]:
    """Entropic plan that moves the masses `rows` onto `cols`; a constant to differentiation.

    The last update is of the rows: their sums are exact (to rounding), those of the columns are off by what
    `plan_error` measures. Zero masses get exactly zero; a pair with an empty side gets the zero plan.

    Args:
      cost: costs of at most about 2.
      rows: masses of the student's tokens, summing to one (or all zero).
      cols: masses of the teacher's tokens, likewise.
      cfg: epsilon, iterations, and the threshold on the columns' L1 error below which a pair stops early (0: never).

    Source: Cuturi (NeurIPS 2013); ott-jax.
    """
    # Stopped: the gradient of <P, C> is taken through C alone, and ott's own is NaN where masses are zero.
    cost, rows, cols = jax.lax.stop_gradient((cost.astype(jnp.float32), rows, cols))
    both = (rows > 0.0)[:, :, None] & (cols > 0.0)[:, None, :]  # [B, S, T]

    in_log_space = cfg.epsilon < KERNEL_EPSILON
    early = cfg.threshold > 0.0
    solver = Sinkhorn(
        lse_mode=in_log_space,
        threshold=cfg.threshold,
        # ott runs whole blocks of inner_iterations, and looks at the error once a block.
        inner_iterations=math.gcd(cfg.iterations, 10) if early else cfg.iterations,
        min_iterations=0 if early else cfg.iterations,
        max_iterations=cfg.iterations,
    )

    def solve(cost: jax.Array, row_mass: jax.Array, col_mass: jax.Array) -> jax.Array:
        if in_log_space:
            geometry = Geometry(cost_matrix=cost, epsilon=cfg.epsilon)
        else:
            geometry = KernelGeometry(kernel_matrix=jnp.exp(-cost / cfg.epsilon), epsilon=cfg.epsilon)
        return solver(LinearProblem(geometry, a=row_mass, b=col_mass)).matrix

    # Masked: ott gives NaN where a side is empty.
    return jnp.where(both, jax.vmap(solve)(cost, rows, cols), 0.0)

"""Sinkhorn that stops early, by ott-jax: each pair once its own error is small enough."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from ott.geometry.geometry import Geometry
from ott.problems.linear.linear_problem import LinearProblem
from ott.solvers.linear.sinkhorn import Sinkhorn

from optical_jax.config import OtConfig


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


def plan_by_ott(
    cost: Float[Array, "B S T"],
    rows: Float[Array, "B S"],
    cols: Float[Array, "B T"],
    cfg: OtConfig,
    *,
    in_log_space: bool,
) -> Float[Array, "B S T"]:
    """As `sinkhorn_plan`, but for cells of padding, which may be NaN where a side is empty."""
    solver = Sinkhorn(
        lse_mode=in_log_space,
        threshold=cfg.threshold,
        # ott runs whole blocks of inner_iterations, and looks at the error once a block.
        inner_iterations=math.gcd(cfg.iterations, 10),
        min_iterations=0,
        max_iterations=cfg.iterations,
    )

    def solve(cost: jax.Array, row_mass: jax.Array, col_mass: jax.Array) -> jax.Array:
        if in_log_space:
            geometry = Geometry(cost_matrix=cost, epsilon=cfg.epsilon)
        else:
            geometry = KernelGeometry(kernel_matrix=jnp.exp(-cost / cfg.epsilon), epsilon=cfg.epsilon)
        return solver(LinearProblem(geometry, a=row_mass, b=col_mass)).matrix

    return jax.vmap(solve)(cost, rows, cols)

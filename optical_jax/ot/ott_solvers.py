"""ott-jax's Sinkhorn solvers over a batch, for tests and benchmarks; training does not use them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from ott.geometry.epsilon_scheduler import Epsilon
from ott.geometry.geometry import Geometry
from ott.initializers.linear.initializers import DefaultInitializer, SortingInitializer
from ott.problems.linear.linear_problem import LinearProblem
from ott.solvers.linear.acceleration import Momentum
from ott.solvers.linear.sinkhorn import Sinkhorn

from optical_jax.config import OtConfig
from optical_jax.ot.sinkhorn import LOOK_EVERY, Solution

WARM_EPSILONS, WARM_ITERATIONS = 4.0, 10
"""Warm start: epsilon as a multiple of the requested one, and iterations."""


@dataclass(frozen=True)
class OttChoices:
    """Solver options of ott-jax beyond `OtConfig`."""

    in_log_space: bool = False
    start_epsilon: float = 1.0
    """First epsilon, as a multiple of the last; schedules need log space."""
    decay: float = 1.0
    """Decay factor of epsilon per iteration."""
    start: Literal["ones", "sorting", "larger epsilon"] = "ones"
    """Initial potentials. sorting: of the assignment along the diagonal, which needs S = T; larger epsilon: of ten
    iterations at four times epsilon."""


@jax.tree_util.register_pytree_node_class
class KernelGeometry(Geometry):
    """ott-jax geometry with a precomputed kernel, applied at full precision.

    ott-jax raises the kernel to a power (1) at every iteration, for its epsilon schedules, and multiplies at the
    backend's default precision; this one does neither.
    """

    _kernel_matrix: jax.Array

    def apply_kernel(
        self, vec: Float[Array, "..."], eps: float | jax.Array | None = None, axis: int = 0
    ) -> Float[Array, "..."]:
        kernel = self._kernel_matrix if axis == 1 else self._kernel_matrix.T
        return jnp.dot(kernel, vec, precision=jax.lax.Precision.HIGHEST)


def solve_by_ott(
    cost: Float[Array, "B S T"],
    rows: Float[Array, "B S"],
    cols: Float[Array, "B T"],
    cfg: OtConfig,
    choices: OttChoices,
) -> Solution:
    """Solve as `solve_sinkhorn` with ott-jax; cells of padding may be NaN where a side is empty.

    `cfg.relaxation` is ott's momentum, which has no limit and relaxes the last update too.
    """
    fixed = cfg.threshold == 0.0
    solver = Sinkhorn(
        lse_mode=choices.in_log_space,
        threshold=cfg.threshold,
        inner_iterations=LOOK_EVERY,
        min_iterations=cfg.iterations if fixed else 0,
        max_iterations=cfg.iterations,
        momentum=Momentum(value=cfg.relaxation),
        initializer=SortingInitializer() if choices.start == "sorting" else DefaultInitializer(),
    )
    rough = Sinkhorn(
        lse_mode=True, inner_iterations=WARM_ITERATIONS, min_iterations=WARM_ITERATIONS, max_iterations=WARM_ITERATIONS
    )

    def geometry(cost: jax.Array) -> Geometry:
        if not choices.in_log_space:
            return KernelGeometry(cost_matrix=cost, kernel_matrix=jnp.exp(-cost / cfg.epsilon), epsilon=cfg.epsilon)
        return Geometry(cost_matrix=cost, epsilon=Epsilon(cfg.epsilon, choices.start_epsilon, choices.decay))

    def solve(cost: jax.Array, row_mass: jax.Array, col_mass: jax.Array) -> tuple[jax.Array, jax.Array]:
        problem, init = LinearProblem(geometry(cost), a=row_mass, b=col_mass), None
        if choices.start == "larger epsilon":
            wide = Geometry(cost_matrix=cost, epsilon=WARM_EPSILONS * cfg.epsilon)
            found = rough(LinearProblem(wide, a=row_mass, b=col_mass))
            init = (found.f, found.g)
            if not choices.in_log_space:
                init = jax.tree.map(lambda potential: jnp.exp(potential / cfg.epsilon), init)
        out = solver(problem, init=init)
        return out.matrix, jnp.asarray(cfg.iterations if fixed else out.n_iters, jnp.float32)

    return Solution(*jax.vmap(solve)(cost, rows, cols))

"""Sinkhorn for entropic optimal transport, balanced or unbalanced, over a batch of small padded problems.

Updates may be over-relaxed, which saves iterations for plans that converge slowly and leaves those that converge at
once slightly less exact. docs/performance.md compares the solver with ott-jax's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from optical_jax.config import OtConfig

KERNEL_EPSILON = 0.05
"""Smallest epsilon for which the kernel exp(-cost / epsilon) stays inside float32 (costs reach 2: exp(-40) = 4e-18)."""
UNROLLED = 5
"""Iterations unrolled per loop step, as each is only a few small products."""
LOOK_EVERY = 10
"""Iterations between two checks of the error, where there is a threshold."""
FARTHEST = 0.3
"""Limit, in nats, of the over-relaxed part of an update. It is never reached near the solution; far from it, without a
limit, a relaxation of 1.9 oscillates and scalings overflow float32."""

State = tuple[jax.Array, jax.Array]
"""Scalings of rows [B, S] and of columns [B, T], or their logarithms."""


class Solution(NamedTuple):
    """Plans, iteration counts and dual potentials."""

    plan: Float[Array, "B S T"]
    iterations: Float[Array, "B"]
    """Iterations of each pair. With a threshold the batch runs until its slowest pair has converged."""
    prices: Float[Array, "B S"] | None = None
    """Dual potentials of the student's tokens, in units of the cost, up to a constant per pair; zero on padding."""


def sinkhorn_plan(
    cost: Float[Array, "B S T"], rows: Float[Array, "B S"], cols: Float[Array, "B T"], cfg: OtConfig
) -> Float[Array, "B S T"]:
    """Sinkhorn plan: the entropic plan that moves the masses `rows` onto `cols`.

    The last update is of the rows, and not relaxed: row sums are exact (to rounding), column sums are off by what
    `plan_error` measures. Zero masses get exactly zero; a pair with an empty side gets the zero plan.

    Args:
      cost: costs of at most about 2.
      rows: masses of the student's tokens, summing to one (or all zero).
      cols: masses of the teacher's tokens, likewise.
      cfg: epsilon, iterations, relaxation (1 is plain Sinkhorn), the threshold on the columns' L1 error below which a
        pair stops early (0: never), and gradient. A pair's plan depends on no other pair of the batch.

    Source: Cuturi (NeurIPS 2013); over-relaxation as in Thibault et al. (Algorithms 2021), with a limit on each step
    in place of their adapted relaxation.
    """
    return solve_sinkhorn(cost, rows, cols, cfg, in_log_space=needs_log_space(cfg)).plan


def unbalanced_plan(
    cost: Float[Array, "B S T"], rows: Float[Array, "B S"], cols: Float[Array, "B T"], cfg: OtConfig
) -> Float[Array, "B S T"]:
    """Unbalanced entropic plan, whose marginals may differ from the masses at a penalty: it minimises

        <P, C> + epsilon KL(P | a b^T) + marginal_weight (KL(P 1 | a) + KL(P^T 1 | b)),  KL(x | y) = x log(x/y) - x + y.

    With marginal_weight to infinity it is `sinkhorn_plan`. Every iteration takes the share marginal_weight /
    (marginal_weight + epsilon) of a plain update's logarithm, so the error in the moved mass shrinks by that share to
    the power of twice the iterations: to 1e-4 at the defaults, but to 0.14 at epsilon 0.01.

    Source: Chizat et al. (Mathematics of Computation 2018), scaling algorithm with KL marginals.
    """
    power = cfg.marginal_weight / (cfg.marginal_weight + cfg.epsilon)
    return solve_sinkhorn(cost, rows, cols, cfg, in_log_space=needs_log_space(cfg), power=power).plan


def needs_log_space(cfg: OtConfig) -> bool:
    """Whether the kernel would underflow float32 at any step of the run."""
    return cfg.smallest_epsilon < KERNEL_EPSILON


def solve_sinkhorn(
    cost: Float[Array, "B S T"],
    rows: Float[Array, "B S"],
    cols: Float[Array, "B T"],
    cfg: OtConfig,
    *,
    in_log_space: bool,
    power: Any = 1.0,
) -> Solution:
    """Solve as `sinkhorn_plan`, in log space or with the kernel (for epsilon from KERNEL_EPSILON on).

    `power` is the exponent of the updates: 1 for balanced problems, below 1 for marginals relaxed by KL.
    """
    cost, rows, cols = as_differentiated(cost, rows, cols, cfg)
    space = (_log_space if in_log_space else _kernel_space)(cost, rows, cols, cfg, power)
    state, iterations = (_until_settled if cfg.threshold > 0.0 else _all_iterations)(space, rows, cols, cfg)
    both = (rows > 0.0)[:, :, None] & (cols > 0.0)[:, None, :]  # [B, S, T]
    logs = state[0] if in_log_space else jnp.log(jnp.where(state[0] > 0.0, state[0], 1.0))
    prices = jnp.where(both.any(axis=2), cfg.epsilon * logs, 0.0)
    return Solution(jnp.where(both, space.plan(*state), 0.0), iterations, prices)


def as_differentiated(cost: jax.Array, rows: jax.Array, cols: jax.Array, cfg: OtConfig) -> tuple[jax.Array, ...]:
    """The problem in at least float32, under stop_gradient unless `cfg.gradient` is "through".

    Under stop_gradient no iteration is stored for a backward pass.
    """
    dtype = jnp.promote_types(cost.dtype, jnp.float32)
    problem = (cost.astype(dtype), rows.astype(dtype), cols.astype(dtype))
    return problem if cfg.gradient == "through" else jax.lax.stop_gradient(problem)


class Space(NamedTuple):
    """Sinkhorn updates of the scalings u, v of u K v, either of their values or of their logarithms."""

    start: State
    to_rows: Callable[[jax.Array], jax.Array]
    """Row scalings that match the row masses, from the column scalings."""
    to_cols: Callable[[jax.Array], jax.Array]
    relaxed: Callable[[jax.Array, jax.Array], jax.Array]
    """f(new, old): the over-relaxed update."""
    plan: Callable[[jax.Array, jax.Array], jax.Array]

    def iterate(self, state: State, count: int) -> State:
        """`count` updates of both sides, all but the last relaxed."""

        def turn(number: Any, state: State) -> State:
            u, v = state
            v = self.relaxed(self.to_cols(u), v)
            return self.relaxed(self.to_rows(v), u), v

        u, _ = jax.lax.fori_loop(0, count - 1, turn, state, unroll=UNROLLED)
        v = self.to_cols(u)
        return self.to_rows(v), v


def _all_iterations(space: Space, rows: jax.Array, cols: jax.Array, cfg: OtConfig) -> tuple[State, jax.Array]:
    return space.iterate(space.start, cfg.iterations), jnp.full(len(cols), cfg.iterations, jnp.float32)


def _until_settled(space: Space, rows: jax.Array, cols: jax.Array, cfg: OtConfig) -> tuple[State, jax.Array]:
    """Iterate in blocks until every pair is within the threshold; converged pairs are not updated further."""

    # A pair with an empty side never converges, and would keep the loop running.
    possible = (rows > 0.0).any(axis=1) & (cols > 0.0).any(axis=1)

    def unsettled(state: State, iterations: jax.Array) -> jax.Array:
        error = jnp.abs(space.plan(*state).sum(axis=1) - cols).sum(axis=1)  # [B]
        return possible & (error > cfg.threshold) & (iterations < cfg.iterations)

    def any_left(carry: tuple[State, jax.Array, jax.Array]) -> jax.Array:
        return carry[2].any()

    def block(carry: tuple[State, jax.Array, jax.Array]) -> tuple[State, jax.Array, jax.Array]:
        state, iterations, left = carry
        moved = space.iterate(state, LOOK_EVERY)
        state = jax.tree.map(lambda new, old: jnp.where(left[:, None], new, old), moved, state)
        iterations = jnp.where(left, iterations + LOOK_EVERY, iterations)
        return state, iterations, left & unsettled(state, iterations)

    # The remainder comes first, so that all later blocks have one static length.
    first = (cfg.iterations - 1) % LOOK_EVERY + 1
    state, iterations = space.iterate(space.start, first), jnp.full(len(cols), first, jnp.float32)
    state, iterations, _ = jax.lax.while_loop(any_left, block, (state, iterations, unsettled(state, iterations)))
    return state, iterations


def _kernel_space(cost: jax.Array, rows: jax.Array, cols: jax.Array, cfg: OtConfig, power: Any) -> Space:
    """Updates with the kernel: two matrix-vector products per iteration."""
    kernel = jnp.exp(-cost / cfg.epsilon)  # [B, S, T]

    def scaled(mass: jax.Array, reached: jax.Array) -> jax.Array:
        # Zero for tokens of a pair whose other side is empty.
        reached = jnp.where(reached > 0.0, reached, 1.0)
        plain = isinstance(power, float) and power == 1.0
        return jnp.where(mass > 0.0, mass / (reached if plain else jnp.exp(power * jnp.log(reached))), 0.0)

    def to_rows(v: jax.Array) -> jax.Array:
        return scaled(rows, jnp.einsum("BST,BT->BS", kernel, v, precision=jax.lax.Precision.HIGHEST))

    def to_cols(u: jax.Array) -> jax.Array:
        return scaled(cols, jnp.einsum("BST,BS->BT", kernel, u, precision=jax.lax.Precision.HIGHEST))

    def relaxed(new: jax.Array, old: jax.Array) -> jax.Array:
        if cfg.relaxation == 1.0:
            return new
        # Not `**`, which is as slow as both products. Zero masses stay zero, whatever their logarithm.
        some = (new > 0.0) & (old > 0.0)
        nats = jnp.log(jnp.where(some, new, 1.0) / jnp.where(some, old, 1.0))
        return new * jnp.exp(jnp.clip((cfg.relaxation - 1.0) * nats, -FARTHEST, FARTHEST))

    def plan(u: jax.Array, v: jax.Array) -> jax.Array:
        return u[:, :, None] * kernel * v[:, None, :]

    start = (rows > 0.0).astype(cost.dtype), (cols > 0.0).astype(cost.dtype)
    return Space(start, to_rows, to_cols, relaxed, plan)


def _log_space(cost: jax.Array, rows: jax.Array, cols: jax.Array, cfg: OtConfig, power: Any) -> Space:
    """Updates in log space, for epsilons at which the kernel would underflow float32."""
    exponents = -cost / cfg.epsilon  # [B, S, T]
    log_rows, log_cols = log_masses(rows), log_masses(cols)

    def to_rows(g: jax.Array) -> jax.Array:
        return log_rows - power * jax.nn.logsumexp(exponents + g[:, None, :], axis=2)

    def to_cols(f: jax.Array) -> jax.Array:
        return log_cols - power * jax.nn.logsumexp(exponents + f[:, :, None], axis=1)

    def relaxed(new: jax.Array, old: jax.Array) -> jax.Array:
        if cfg.relaxation == 1.0:
            return new
        return new + jnp.clip((cfg.relaxation - 1.0) * (new - old), -FARTHEST, FARTHEST)

    def plan(f: jax.Array, g: jax.Array) -> jax.Array:
        return jnp.exp(exponents + f[:, :, None] + g[:, None, :])

    u, v = (jnp.where(mass > 0.0, 0.0, EMPTY).astype(cost.dtype) for mass in (rows, cols))
    return Space((u, v), to_rows, to_cols, relaxed, plan)


def log_masses(mass: Float[Array, "B L"]) -> Float[Array, "B L"]:
    """Logarithms of masses; `EMPTY` for zero."""
    return jnp.where(mass > 0.0, jnp.log(jnp.where(mass > 0.0, mass, 1.0)), EMPTY)


EMPTY = -1e30
"""Logarithm of a mass of zero: finite, so that sums are not NaN."""

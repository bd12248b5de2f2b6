"""Entropic transport, balanced or not, a batch of small padded problems at once, in one compiled loop.

Updates of the two sides' scalings may be over-relaxed: each goes further the way it went. That saves iterations where
plans are slow to settle, and leaves those that settle at once a little off. docs/performance.md has the solver beside
ott-jax's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from optical_jax.config import OtConfig

KERNEL_EPSILON = 0.05
"""From this epsilon on the kernel exp(-cost / epsilon) stays far inside float32 (costs reach 2: exp(-40) = 4e-18)."""
UNROLLED = 5
"""Iterations of the loop that are written out: fewer turns, each a handful of small products."""
LOOK_EVERY = 10
"""Iterations between two looks at the error, where there is a threshold."""
FARTHEST = 0.3
"""Nats by which over-relaxation may exceed the plain update. Near the solution nothing comes close to it; far from it,
without a limit, a relaxation of 1.9 runs in circles, and scalings leave float32."""

State = tuple[jax.Array, jax.Array]
"""Of rows [B, S] and of columns [B, T]: scalings, or their logarithms."""


class Solution(NamedTuple):
    """Plans, and what they took."""

    plan: Float[Array, "B S T"]
    iterations: Float[Array, "B"]
    """Done for each pair. Under a threshold the batch goes on as long as its slowest pair."""
    prices: Float[Array, "B S"] | None = None
    """Of a unit of mass more on a student token, up to a constant of the pair and in units of the cost: the dual
    potential. Zero on padding."""


def sinkhorn_plan(
    cost: Float[Array, "B S T"], rows: Float[Array, "B S"], cols: Float[Array, "B T"], cfg: OtConfig
) -> Float[Array, "B S T"]:
    """Entropic plan that moves the masses `rows` onto `cols`.

    The last update is of the rows, and is plain: their sums are exact (to rounding), those of the columns are off by
    what `plan_error` measures. Zero masses get exactly zero; a pair with an empty side gets the zero plan.

    Args:
      cost: costs of at most about 2.
      rows: masses of the student's tokens, summing to one (or all zero).
      cols: masses of the teacher's tokens, likewise.
      cfg: epsilon, iterations, relaxation (1 is Sinkhorn's), the threshold on the columns' L1 error below which a pair
        stops early (0: never), and whether the plan is a constant to differentiation. A pair's plan depends on no other
        pair of the batch.

    Source: Cuturi (NeurIPS 2013); over-relaxation as in Thibault et al. (Algorithms 2021), with a limit on each step
    in place of their adapted relaxation.
    """
    return solve_sinkhorn(cost, rows, cols, cfg, in_log_space=needs_log_space(cfg)).plan


def unbalanced_plan(
    cost: Float[Array, "B S T"], rows: Float[Array, "B S"], cols: Float[Array, "B T"], cfg: OtConfig
) -> Float[Array, "B S T"]:
    """Entropic plan whose marginals may differ from the masses, at a price: it minimises

        <P, C> + epsilon KL(P | a b^T) + marginal_weight (KL(P 1 | a) + KL(P^T 1 | b)),  KL(x | y) = x log(x/y) - x + y.

    With marginal_weight to infinity it is `sinkhorn_plan`. Every iteration takes the share marginal_weight /
    (marginal_weight + epsilon) of a plain update's logarithm, so that share to the power of twice the iterations is
    left of the error in the moved mass: 1e-4 at the defaults, but 0.14 at epsilon 0.01.

    Source: Chizat et al. (Mathematics of Computation 2018), scaling algorithm with KL marginals.
    """
    power = cfg.marginal_weight / (cfg.marginal_weight + cfg.epsilon)
    return solve_sinkhorn(cost, rows, cols, cfg, in_log_space=needs_log_space(cfg), power=power).plan


def needs_log_space(cfg: OtConfig) -> bool:
    """Whether the kernel would leave float32 at any step of the run."""
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
    """As `sinkhorn_plan`, in the space that is asked for; the kernel's is for epsilons from KERNEL_EPSILON on.

    `power` is that of the updates: 1 where the masses must be moved, below where their marginals are relaxed by KL.
    """
    cost, rows, cols = as_differentiated(cost, rows, cols, cfg)
    space = (_log_space if in_log_space else _kernel_space)(cost, rows, cols, cfg, power)
    state, iterations = (_until_settled if cfg.threshold > 0.0 else _all_iterations)(space, rows, cols, cfg)
    both = (rows > 0.0)[:, :, None] & (cols > 0.0)[:, None, :]  # [B, S, T]
    logs = state[0] if in_log_space else jnp.log(jnp.where(state[0] > 0.0, state[0], 1.0))
    prices = jnp.where(both.any(axis=2), cfg.epsilon * logs, 0.0)
    return Solution(jnp.where(both, space.plan(*state), 0.0), iterations, prices)


def as_differentiated(cost: jax.Array, rows: jax.Array, cols: jax.Array, cfg: OtConfig) -> tuple[jax.Array, ...]:
    """A problem in at least float32; a constant, unless the gradient is to go through the plan.

    A constant keeps no iteration for a backward pass.
    """
    dtype = jnp.promote_types(cost.dtype, jnp.float32)
    problem = (cost.astype(dtype), rows.astype(dtype), cols.astype(dtype))
    return problem if cfg.gradient == "through" else jax.lax.stop_gradient(problem)


class Space(NamedTuple):
    """How scalings u, v are held, so that u K v has the masses: as they are, or as logarithms."""

    start: State
    to_rows: Callable[[jax.Array], jax.Array]
    """Scalings of the rows that give them their masses, from those of the columns."""
    to_cols: Callable[[jax.Array], jax.Array]
    relaxed: Callable[[jax.Array, jax.Array], jax.Array]
    """f(new, old): as far again as `relaxation` says."""
    plan: Callable[[jax.Array, jax.Array], jax.Array]

    def iterate(self, state: State, count: int) -> State:
        """`count` updates of both sides, relaxed but for the last."""

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
    """Blocks of iterations until no pair is off by more than the threshold; one that is settled stays as it is."""

    # What has one side alone has nothing to settle, and would keep the others going.
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

    # What is left over of whole blocks comes first, so that their length is known when this is compiled.
    first = (cfg.iterations - 1) % LOOK_EVERY + 1
    state, iterations = space.iterate(space.start, first), jnp.full(len(cols), first, jnp.float32)
    state, iterations, _ = jax.lax.while_loop(any_left, block, (state, iterations, unsettled(state, iterations)))
    return state, iterations


def _kernel_space(cost: jax.Array, rows: jax.Array, cols: jax.Array, cfg: OtConfig, power: Any) -> Space:
    """Scalings of the kernel: two products of a matrix and a vector an iteration."""
    kernel = jnp.exp(-cost / cfg.epsilon)  # [B, S, T]

    def scaled(mass: jax.Array, reached: jax.Array) -> jax.Array:
        # Nothing reaches a token of a pair whose other side is empty.
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
        # Not `**`, which takes as long as both products. Masses of zero stay zero, whatever their logarithm.
        some = (new > 0.0) & (old > 0.0)
        nats = jnp.log(jnp.where(some, new, 1.0) / jnp.where(some, old, 1.0))
        return new * jnp.exp(jnp.clip((cfg.relaxation - 1.0) * nats, -FARTHEST, FARTHEST))

    def plan(u: jax.Array, v: jax.Array) -> jax.Array:
        return u[:, :, None] * kernel * v[:, None, :]

    start = (rows > 0.0).astype(cost.dtype), (cols > 0.0).astype(cost.dtype)
    return Space(start, to_rows, to_cols, relaxed, plan)


def _log_space(cost: jax.Array, rows: jax.Array, cols: jax.Array, cfg: OtConfig, power: Any) -> Space:
    """The same with logarithms of everything, where the kernel would leave float32."""
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
    """Their logarithms; `EMPTY` for none."""
    return jnp.where(mass > 0.0, jnp.log(jnp.where(mass > 0.0, mass, 1.0)), EMPTY)


EMPTY = -1e30
"""Logarithm of a mass of zero: finite, so that sums of it are no NaN."""

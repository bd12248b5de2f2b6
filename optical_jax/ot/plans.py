"""Who is matched with whom: the table of transport plans, greedy matching, and how plans are measured."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from optical_jax.config import OtConfig
from optical_jax.ot.sinkhorn import sinkhorn_plan

PLANS: dict[str, Callable[[jax.Array, jax.Array, jax.Array, OtConfig], jax.Array]] = {"sinkhorn": sinkhorn_plan}
"""`OtConfig.plan` -> f(cost [B, S, T], row masses [B, S], column masses [B, T], cfg) -> plan [B, S, T]."""


def greedy_matching(
    cost: Float[Array, "B S T"], rows: Bool[Array, "B S"], cols: Bool[Array, "B T"]
) -> Int[Array, "B S"]:
    """The teacher token of every student token, one to one as far as there are enough.

    The cheapest remaining cell of a pair is taken and its row and column leave the game, until one side is used up.
    Student tokens left over (S > T) then take their cheapest teacher token, taken or not; teacher tokens left over
    (T > S) stay unmatched. Between equal costs the earlier student token, then the earlier teacher token wins.

    Returns:
      Indices along T; meaningless for masked student tokens and for pairs with an empty side.

    Source: the token alignment of DR.DECR (Li et al., NAACL 2022), which reorders the teacher's tokens this way.
    """
    B, S, T = cost.shape
    real = jnp.where(rows[:, :, None] & cols[:, None, :], cost, jnp.inf)  # [B, S, T]
    pair, student_index, teacher_index = jnp.arange(B), jnp.arange(S), jnp.arange(T)

    def take_cheapest(_: int, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        left, match = carry
        cell = left.reshape(B, S * T).argmin(axis=1)
        row, col = cell // T, cell % T  # [B]
        found = jnp.isfinite(left[pair, row, col])  # [B]
        here = student_index == row[:, None]  # [B, S]
        match = jnp.where(here & found[:, None], col[:, None], match)
        taken = here[:, :, None] | (teacher_index == col[:, None])[:, None, :]  # [B, S, T]
        return jnp.where(taken, jnp.inf, left), match

    cheapest = real.argmin(axis=2).astype(jnp.int32)  # [B, S]
    return jax.lax.fori_loop(0, min(S, T), take_cheapest, (real, cheapest))[1]


def plan_entropy(plan: Float[Array, "B S T"], rows: Bool[Array, "B S"], cols: Bool[Array, "B T"]) -> Float[Array, "B"]:
    """How spread out each plan is: its entropy over the log of its number of real cells, 0 to 1; 0 for one cell."""
    cells = jnp.maximum(rows.sum(axis=1) * cols.sum(axis=1), 1)
    entropy = jax.scipy.special.entr(plan).sum(axis=(1, 2))
    return jnp.where(cells > 1, entropy / jnp.log(jnp.maximum(cells, 2).astype(jnp.float32)), 0.0)


def plan_error(plan: Float[Array, "B S T"], rows: Float[Array, "B S"], cols: Float[Array, "B T"]) -> Float[Array, "B"]:
    """L1 distance of each plan's marginals from the masses it should move, both sides added; 0 to 4."""
    row_error = jnp.abs(plan.sum(axis=2) - rows).sum(axis=1)
    return row_error + jnp.abs(plan.sum(axis=1) - cols).sum(axis=1)

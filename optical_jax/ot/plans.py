"""Transport plans by name, greedy matching, and metrics of plans (entropy, marginal error)."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from optical_jax.config import OtConfig
from optical_jax.ot.assignment import exact_plan
from optical_jax.ot.partial import partial_plan
from optical_jax.ot.proximal import ipot_plan
from optical_jax.ot.sinkhorn import EMPTY, as_differentiated, sinkhorn_plan, unbalanced_plan


def greedy_plan(
    cost: Float[Array, "B S T"], rows: Float[Array, "B S"], cols: Float[Array, "B T"], cfg: OtConfig
) -> Float[Array, "B S T"]:
    """Greedy plan: all mass of every student token on its match by `greedy_matching`; no gradient.

    Source: DR.DECR (Li et al., NAACL 2022).
    """
    return _to_matches(greedy_matching(cost, rows > 0.0, cols > 0.0), cost, rows, cols)


def argmax_plan(
    cost: Float[Array, "B S T"], rows: Float[Array, "B S"], cols: Float[Array, "B T"], cfg: OtConfig
) -> Float[Array, "B S T"]:
    """Argmax plan: all mass of every student token on its nearest teacher token, which several may share; no gradient.

    Source: the matches of MaxSim (Khattab and Zaharia, SIGIR 2020).
    """
    return _to_matches(jnp.where(cols[:, None, :] > 0.0, cost, jnp.inf).argmin(axis=2), cost, rows, cols)


def softmax_plan(
    cost: Float[Array, "B S T"], rows: Float[Array, "B S"], cols: Float[Array, "B T"], cfg: OtConfig
) -> Float[Array, "B S T"]:
    """Softmax plan: each student token's mass over the teacher tokens by softmax of -cost / epsilon.

    Source: entropic transport without the column constraint, which is attention (Vaswani et al., NeurIPS 2017).
    """
    cost, rows, cols = as_differentiated(cost, rows, cols, cfg)
    some = cols[:, None, :] > 0.0
    shares = jax.nn.softmax(jnp.where(some, -cost / cfg.epsilon, EMPTY), axis=2)  # [B, S, T]
    return jnp.where(some, rows[:, :, None] * shares, 0.0)


def uniform_plan(
    cost: Float[Array, "B S T"], rows: Float[Array, "B S"], cols: Float[Array, "B T"], cfg: OtConfig
) -> Float[Array, "B S T"]:
    """Uniform plan: each student token spread over all teacher tokens by their masses, whatever the cost (ablation)."""
    return jax.lax.stop_gradient(rows[:, :, None] * cols[:, None, :])


def _to_matches(match: jax.Array, cost: jax.Array, rows: jax.Array, cols: jax.Array) -> jax.Array:
    """The plan that moves all mass of each student token onto its match; zero where a side is empty."""
    plan = rows[:, :, None] * jax.nn.one_hot(match, cost.shape[2], dtype=rows.dtype)
    return jax.lax.stop_gradient(jnp.where(cols[:, None, :] > 0.0, plan, 0.0))


PLANS: dict[str, Callable[[jax.Array, jax.Array, jax.Array, OtConfig], jax.Array]] = {
    "sinkhorn": sinkhorn_plan,
    "unbalanced": unbalanced_plan,
    "partial": partial_plan,
    "ipot": ipot_plan,
    "exact": exact_plan,
    "greedy": greedy_plan,
    "argmax": argmax_plan,
    "softmax": softmax_plan,
    "uniform": uniform_plan,
}
"""`OtConfig.plan` -> f(cost [B, S, T], row masses [B, S], column masses [B, T], cfg) -> plan [B, S, T].

Masses are zero on padding, and so is the plan; a pair with an empty side gets the zero plan.
"""


def greedy_matching(
    cost: Float[Array, "B S T"], rows: Bool[Array, "B S"], cols: Bool[Array, "B T"]
) -> Int[Array, "B S"]:
    """Greedy one-to-one matching: the teacher token of every student token.

    The cheapest remaining cell of a pair is taken and its row and column are removed, until one side is used up.
    Remaining student tokens (S > T) then take their cheapest teacher token, matched or not; remaining teacher tokens
    (T > S) stay unmatched. Ties go to the earlier student token, then the earlier teacher token.

    Returns:
      Indices along T; meaningless for masked student tokens and for pairs with an empty side.

    Source: the token alignment of DR.DECR (Li et al., NAACL 2022), which reorders the teacher's tokens this way.
    """
    # Cells that are the cheapest of both their row and their column are all in the greedy matching, whatever else is
    # taken before them; taking them together needs a few rounds instead of S.
    real = rows[:, :, None] & cols[:, None, :] & jnp.isfinite(cost)  # [B, S, T]
    students, teachers = jnp.arange(cost.shape[1]), jnp.arange(cost.shape[2])

    def unfinished(carry: tuple[jax.Array, jax.Array]) -> jax.Array:
        return jnp.isfinite(carry[0]).any()

    def take_mutual_best(carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        left, match = carry
        of_row, of_col = left.argmin(axis=2), left.argmin(axis=1)  # [B, S], [B, T]
        mutual = (jnp.take_along_axis(of_col, of_row, axis=1) == students) & jnp.isfinite(left.min(axis=2))  # [B, S]
        back = jnp.take_along_axis(of_row, of_col, axis=1) == teachers  # [B, T]
        taken_cols = back & jnp.take_along_axis(mutual, of_col, axis=1)  # [B, T]
        left = jnp.where(mutual[:, :, None] | taken_cols[:, None, :], jnp.inf, left)
        return left, jnp.where(mutual, of_row, match)

    left = jnp.where(real, cost, jnp.inf)
    return jax.lax.while_loop(unfinished, take_mutual_best, (left, left.argmin(axis=2)))[1]


def plan_entropy(plan: Float[Array, "B S T"], rows: Bool[Array, "B S"], cols: Bool[Array, "B T"]) -> Float[Array, "B"]:
    """Normalised entropy of each plan: entropy over the log of its number of real cells, 0 to 1; 0 for one cell."""
    cells = jnp.maximum(rows.sum(axis=1) * cols.sum(axis=1), 1)
    entropy = jax.scipy.special.entr(plan).sum(axis=(1, 2))
    return jnp.where(cells > 1, entropy / jnp.log(jnp.maximum(cells, 2).astype(jnp.float32)), 0.0)


def plan_error(plan: Float[Array, "B S T"], rows: Float[Array, "B S"], cols: Float[Array, "B T"]) -> Float[Array, "B"]:
    """Marginal error: L1 distance of each plan's marginals from `rows` and `cols`, both sides added; 0 to 4."""
    row_error = jnp.abs(plan.sum(axis=2) - rows).sum(axis=1)
    return row_error + jnp.abs(plan.sum(axis=1) - cols).sum(axis=1)

"""Exact one-to-one assignment (Hungarian algorithm) of each pair's tokens."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from optax.assignment import hungarian_algorithm

from optical_jax.config import OtConfig


def exact_plan(
    cost: Float[Array, "B S T"], rows: Float[Array, "B S"], cols: Float[Array, "B T"], cfg: OtConfig
) -> Float[Array, "B S T"]:
    """Optimal assignment plan: mass 1 / min(S, T) on each match of the assignment of least cost; no gradient.

    With S = T it is unregularised transport of equal masses; otherwise surplus tokens of the longer side stay
    unmatched. Masses only say which tokens are real.

    Source: Kuhn (Naval Research Logistics 1955), by optax, which batches as it is jitted.
    """
    cost, rows, cols = jax.lax.stop_gradient((cost, rows, cols))
    both = (rows > 0.0)[:, :, None] & (cols > 0.0)[:, None, :]  # [B, S, T]
    # With NaN costs the algorithm may never terminate.
    real = both & jnp.isfinite(cost)
    # Cells costlier than any real one are matched only where no real cell is left: any two of them, in the row and in
    # the column of a real cell, could be swapped for that cell and one more of them.
    dearest = jnp.where(real, cost, 0.0).max(axis=(1, 2), keepdims=True) + 1.0
    students, teachers = jax.vmap(hungarian_algorithm)(jnp.where(real, cost, dearest))  # [B, min(S, T)] each
    pairs = jnp.arange(len(cost))[:, None]
    plan = jnp.zeros_like(cost).at[pairs, students, teachers].set(1.0)
    matches = jnp.minimum((rows > 0.0).sum(axis=1), (cols > 0.0).sum(axis=1))
    return jnp.where(both, plan, 0.0) / jnp.maximum(matches, 1)[:, None, None].astype(cost.dtype)

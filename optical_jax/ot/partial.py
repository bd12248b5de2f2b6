"""Partial entropic optimal transport: only a share of the mass is moved."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from optical_jax.config import OtConfig
from optical_jax.ot.sinkhorn import EMPTY, as_differentiated, log_masses, sinkhorn_plan


def partial_plan(
    cost: Float[Array, "B S T"], rows: Float[Array, "B S"], cols: Float[Array, "B T"], cfg: OtConfig
) -> Float[Array, "B S T"]:
    """Partial transport plan: minimises <P, C> - epsilon H(P) over plans of mass `cfg.partial_mass`.

    Marginals are at most `rows` and `cols`. The last update is of the columns and of the moved mass, which is exact; no
    column is exceeded (to rounding), rows nearly. Always in log space. At partial_mass 1 it is `sinkhorn_plan`.

    Args:
      cost: costs of at most about 2.
      rows: masses of the student's tokens, summing to one (or all zero).
      cols: masses of the teacher's tokens, likewise.
      cfg: epsilon, iterations, partial_mass, gradient.

    Source: Benamou et al. (SIAM J. Sci. Comput. 2015), Dykstra's projections; those onto the column bounds and onto the
    mass are merged here, which takes fewer iterations.
    """
    if cfg.partial_mass == 1.0:
        return sinkhorn_plan(cost, rows, cols, cfg)
    cost, rows, cols = as_differentiated(cost, rows, cols, cfg)
    exponents = -cost / cfg.epsilon  # [B, S, T]
    log_rows = log_masses(rows)

    def iterate(_: jax.Array, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        f = jnp.minimum(log_rows - jax.nn.logsumexp(exponents + state[1][:, None, :], axis=2), 0.0)
        return f, _fill(jax.nn.logsumexp(exponents + f[:, :, None], axis=1), cols, cfg.partial_mass)

    start = tuple(jnp.where(mass > 0.0, 0.0, EMPTY).astype(cost.dtype) for mass in (rows, cols))
    f, g = jax.lax.fori_loop(0, cfg.iterations, iterate, start)
    both = (rows > 0.0)[:, :, None] & (cols > 0.0)[:, None, :]  # [B, S, T]
    return jnp.where(both, jnp.exp(jnp.where(both, exponents + f[:, :, None] + g[:, None, :], 0.0)), 0.0)


def _fill(reached: Float[Array, "B T"], cols: Float[Array, "B T"], moved: float) -> Float[Array, "B T"]:
    """Log scalings of the columns: a common one, chosen so that `moved` arrives, but less where a column is full.

    Args:
      reached: logarithm of the mass that a column receives at scaling one.
    """
    full_at = log_masses(cols) - reached  # [B, T]
    # Total mass received when column j is just full: columns that fill before it have their mass, the others less.
    shares = jnp.exp(jnp.minimum(full_at[:, :, None] - full_at[:, None, :], 0.0))  # [B, T, T]
    full = jnp.einsum("BTU,BU->BT", shares, cols, precision=jax.lax.Precision.HIGHEST) <= moved
    left = moved - jnp.where(full, cols, 0.0).sum(axis=1)
    of_others = jax.nn.logsumexp(jnp.where(full, EMPTY, reached), axis=1)
    scaling = jnp.log(jnp.maximum(left, jnp.finfo(cols.dtype).tiny)) - of_others
    return jnp.where(full, full_at, scaling[:, None])

"""Nearly unregularised optimal transport by proximal point iterations (IPOT)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from optical_jax.config import OtConfig
from optical_jax.ot.sinkhorn import EMPTY, as_differentiated, log_masses


def ipot_plan(
    cost: Float[Array, "B S T"], rows: Float[Array, "B S"], cols: Float[Array, "B T"], cfg: OtConfig
) -> Float[Array, "B S T"]:
    """IPOT plan: converges to the plan of least <P, C> with the masses `rows` and `cols`, without entropic bias.

    Each of `cfg.iterations` proximal steps is an entropic problem around the last plan, solved by one Sinkhorn update
    of either side, warm-started. `cfg.epsilon` is the step's: smaller ones converge faster, all to the optimum. Row
    marginals are exact (to rounding), columns off by what `plan_error` measures. In log space.

    Args:
      cost: costs of at most about 2.
      rows: masses of the student's tokens, summing to one (or all zero).
      cols: masses of the teacher's tokens, likewise.
      cfg: epsilon, iterations, gradient.

    Source: Xie et al. (UAI 2019), algorithm 1 with one inner iteration; rows come last here.
    """
    cost, rows, cols = as_differentiated(cost, rows, cols, cfg)
    exponents = -cost / cfg.epsilon  # [B, S, T]
    log_rows, log_cols = log_masses(rows), log_masses(cols)
    both = (rows > 0.0)[:, :, None] & (cols > 0.0)[:, None, :]  # [B, S, T]

    def step(_: jax.Array, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        log_plan, f = state
        near = jnp.where(both, log_plan + exponents, EMPTY)
        g = log_cols - jax.nn.logsumexp(near + f[:, :, None], axis=1)
        f = log_rows - jax.nn.logsumexp(near + g[:, None, :], axis=2)
        # Scalings of padding are meaningless, and may be as large as EMPTY is small.
        return jnp.where(both, near + f[:, :, None] + g[:, None, :], EMPTY), jnp.where(rows > 0.0, f, EMPTY)

    start = jnp.where(both, 0.0, EMPTY).astype(cost.dtype), jnp.where(rows > 0.0, 0.0, EMPTY).astype(cost.dtype)
    log_plan, _ = jax.lax.fori_loop(0, cfg.iterations, step, start)
    return jnp.where(both, jnp.exp(log_plan), 0.0)

"""Transport cost matrices between student and teacher tokens."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def cosine_cost(student: Float[Array, "B S E"], teacher: Float[Array, "B T E"]) -> Float[Array, "B S T"]:
    """1 - cosine of every student token with every teacher token: 0 (same direction) to 2 (opposite).

    Args:
      student: unit vectors, of any float type.
      teacher: unit vectors of the same pairs, in the same order.

    Returns:
      Costs in at least float32. A masked (zero) vector is at cost 1 from everything.
    """
    # HIGHEST: the default TF32 and bfloat16 products of GPUs and TPUs have three digits, and at epsilon 0.05
    # an error of 1e-3 in the cost moves the plan by two per cent.
    dtype = jnp.promote_types(jnp.promote_types(student.dtype, teacher.dtype), jnp.float32)
    cosine = jnp.einsum(
        "BSE,BTE->BST", student.astype(dtype), teacher.astype(dtype), precision=jax.lax.Precision.HIGHEST
    )
    return 1.0 - cosine


COSTS: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {"cosine": cosine_cost}
"""`OtConfig.cost` -> f(student [B, S, E], teacher [B, T, E]) -> cost [B, S, T]."""

"""How much mass each token of a text carries: the marginals of a transport plan."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from optical_jax.types import TokenVectors


def uniform_mass(tokens: TokenVectors) -> Float[Array, "B L"]:
    """The same mass on every real token; exactly zero on padding, and on the whole of a row without tokens."""
    return share_out(jnp.ones(tokens.mask.shape, jnp.float32), tokens.mask)


def idf_mass(tokens: TokenVectors) -> Float[Array, "B L"]:
    """Mass in proportion to `TokenVectors.weight`; a text whose weights are all zero gets equal masses.

    Raises:
      ValueError: the vectors carry no weight.
    """
    if tokens.weight is None:
        raise ValueError("loss.ot.masses=idf needs token weights, but TokenVectors.weight is None; use uniform masses")
    weight = jnp.where(tokens.mask, tokens.weight.astype(jnp.float32), 0.0)
    weightless = weight.sum(axis=1, keepdims=True) == 0.0
    return share_out(jnp.where(weightless, 1.0, weight), tokens.mask)


def share_out(weight: Float[Array, "B L"], mask: Bool[Array, "B L"]) -> Float[Array, "B L"]:
    """`weight` over the mask, scaled to sum to one a row; a row without tokens stays at zero."""
    weight = jnp.where(mask, weight, 0.0)
    total = weight.sum(axis=1, keepdims=True)
    return weight / jnp.where(total > 0.0, total, 1.0)


MASSES: dict[str, Callable[[TokenVectors], jax.Array]] = {"uniform": uniform_mass, "idf": idf_mass}
"""`OtConfig.masses` -> f(tokens) -> mass [B, L], float32, each row summing to one (to zero where it has no token)."""

"""Token masses (marginals of a transport plan): uniform, idf, vector norm, learned."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from optical_jax.types import TokenVectors


def uniform_mass(tokens: TokenVectors) -> Float[Array, "B L"]:
    """Uniform mass on every real token; exactly zero on padding, and on a row without tokens."""
    return share_out(jnp.ones(tokens.mask.shape, jnp.promote_types(tokens.vectors.dtype, jnp.float32)), tokens.mask)


def idf_mass(tokens: TokenVectors) -> Float[Array, "B L"]:
    """Mass in proportion to `TokenVectors.weight`; a text whose weights are all zero gets equal masses.

    Raises:
      ValueError: the vectors carry no weight.
    """
    return _by_weight(tokens, "idf")


def _by_weight(tokens: TokenVectors, name: str) -> jax.Array:
    if tokens.weight is None:
        raise ValueError(
            f"loss.ot.masses={name} needs token weights, but TokenVectors.weight is None; use uniform masses"
        )
    weight = jnp.where(tokens.mask, tokens.weight.astype(jnp.promote_types(tokens.weight.dtype, jnp.float32)), 0.0)
    weightless = weight.sum(axis=1, keepdims=True) == 0.0
    return share_out(jnp.where(weightless, 1.0, weight), tokens.mask)


def norm_mass(tokens: TokenVectors) -> Float[Array, "B L"]:
    """Mass in proportion to the norm of each vector before normalisation, as `HeadConfig.masses` "norm" gives it.

    Raises:
      ValueError: the vectors carry no weight.

    Source: word rotator's distance (Yokoi et al., EMNLP 2020).
    """
    return _by_weight(tokens, "norm")


def learned_mass(tokens: TokenVectors) -> Float[Array, "B L"]:
    """Mass by softmax of the logits of `HeadConfig.masses` "learned"; uniform for a side without logits."""
    if tokens.weight is None:
        return uniform_mass(tokens)
    logits = jnp.where(tokens.mask, tokens.weight, -1e30)
    return jnp.where(tokens.mask, jax.nn.softmax(logits, axis=1), 0.0)


def share_out(weight: Float[Array, "B L"], mask: Bool[Array, "B L"]) -> Float[Array, "B L"]:
    """Normalise `weight` to sum to one over each row's real tokens; a row without tokens stays zero."""
    weight = jnp.where(mask, weight, 0.0)
    total = weight.sum(axis=1, keepdims=True)
    return weight / jnp.where(total > 0.0, total, 1.0)


MASSES: dict[str, Callable[[TokenVectors], jax.Array]] = {
    "uniform": uniform_mass,
    "idf": idf_mass,
    "norm": norm_mass,
    "learned": learned_mass,
}
"""`OtConfig.masses` -> f(tokens) -> mass [B, L], float32, each row summing to one (to zero where it has no token)."""

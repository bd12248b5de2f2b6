"""A tower: an encoder and the head that turns its hidden states into unit vectors, a token or a text each."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from optical_jax.config import TowerConfig
from optical_jax.models.bert import encode_hidden, encoder_specs
from optical_jax.models.layers import contract
from optical_jax.params import Spec, SpecTree
from optical_jax.types import Params, TextInputs, TokenVectors


def tower_specs(cfg: TowerConfig) -> SpecTree:
    """Shapes, logical axes and initialisers of every parameter of a tower."""
    head = {}
    if cfg.head.projection:
        head = {"projection": {"kernel": Spec((cfg.encoder.width, cfg.head.projection), ("embed", "vector"))}}
    return {"encoder": encoder_specs(cfg.encoder), "head": head}


def encode_tokens(params: Params, inputs: TextInputs, cfg: TowerConfig) -> TokenVectors:
    """Unit vectors of a batch of texts, in float32.

    Args:
      params: a tree of `tower_specs(cfg)`.
      inputs: token ids [B, L] with their masks.
      cfg: the tower's shape; static under jit.

    Returns:
      With pooling "none" a vector a token, zero where `inputs.keep` is False, and `inputs.weight` handed on. With
      "mean" (over the tokens that are attended to) or "cls" (the first token) one vector a text, L = 1.

    Raises:
      ConfigError: texts longer than the position table.
    """
    hidden = encode_hidden(params["encoder"], inputs.ids, inputs.attend, cfg.encoder)  # [B, L, D]
    if cfg.head.pooling == "none":
        mask, weight = inputs.keep, inputs.weight
    else:
        # A row without tokens pads a batch: it has no vector.
        mask, weight = inputs.attend.any(axis=1, keepdims=True), None
        if cfg.head.pooling == "mean":
            hidden = masked_sum(hidden.astype(jnp.float32), inputs.attend)
        else:
            hidden = hidden[:, :1]
    if cfg.head.projection:
        hidden = contract("BLD,DE->BLE", hidden, params["head"]["projection"]["kernel"])
    vectors = unit(hidden.astype(jnp.float32))
    return TokenVectors(vectors=jnp.where(mask[:, :, None], vectors, 0.0), mask=mask, weight=weight)


def mean_pool(tokens: TokenVectors) -> TokenVectors:
    """One vector a text: the direction of the mean of its token vectors. A text without tokens stays without."""
    mask = tokens.mask.any(axis=1, keepdims=True)
    return TokenVectors(vectors=unit(masked_sum(tokens.vectors, tokens.mask)), mask=mask)


def masked_sum(x: Float[Array, "B L D"], mask: Bool[Array, "B L"]) -> Float[Array, "B 1 D"]:
    """Sum over the tokens where `mask` is True; it points where their mean points, and is made a unit vector anyway."""
    return jnp.where(mask[:, :, None], x, 0.0).sum(axis=1, keepdims=True)


def unit(x: Float[Array, "*dims E"]) -> Float[Array, "*dims E"]:
    """`x` at length one. The zero vector stays zero, and its gradient is zero rather than NaN."""
    square = jnp.square(x).sum(axis=-1, keepdims=True)
    nonzero = square > 0.0
    return x * jnp.where(nonzero, jax.lax.rsqrt(jnp.where(nonzero, square, 1.0)), 0.0)

"""A tower: an encoder and the head that turns its hidden states into unit vectors, a token or a text each."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Shaped

from optical_jax.config import TowerConfig
from optical_jax.models.bert import Packed, encode_hidden, encoder_specs
from optical_jax.models.layers import contract
from optical_jax.params import Spec, SpecTree, zeros
from optical_jax.partitioning import by_shard
from optical_jax.types import PackedInputs, Params, TextInputs, TokenVectors


def tower_specs(cfg: TowerConfig) -> SpecTree:
    """Shapes, logical axes and initialisers of every parameter of a tower."""
    head = {}
    if cfg.head.projection:
        head = {"projection": {"kernel": Spec((cfg.encoder.width, cfg.head.projection), ("embed", "vector"))}}
    if cfg.head.masses == "learned":
        # Zeros: equal masses at the start.
        head["mass"] = {"kernel": Spec((cfg.vector_width,), ("vector",), zeros)}
    return {"encoder": encoder_specs(cfg.encoder), "head": head}


def encode_tokens(params: Params, inputs: TextInputs | PackedInputs, cfg: TowerConfig) -> TokenVectors:
    """Unit vectors of a batch of texts, in float32.

    Args:
      params: a tree of `tower_specs(cfg)`.
      inputs: token ids [B, L] with their masks, or packed in rows of several texts.
      cfg: the tower's shape; static under jit.

    Returns:
      With pooling "none" a vector a token, zero where `inputs.keep` is False, and its weight: `inputs.weight` handed
      on, or as `cfg.head.masses` says. With "mean" (over the tokens that are attended to) or "cls" (the first token)
      one vector a text, L = 1, without weight.

    Raises:
      ConfigError: texts longer than the position table.
    """
    if isinstance(inputs, PackedInputs):
        hidden = encode_packed(params, inputs, cfg)  # [R, L, D]
        if cfg.head.pooling == "none":
            vectors = unpack(to_unit_vectors(params, hidden, cfg), inputs.place, inputs.home)  # [B, S, E]
            norms = None
            if cfg.head.masses == "norm":
                norms = unpack(vector_norms(params, hidden, cfg), inputs.place, inputs.home)
            return with_weights(params, vectors, norms, inputs, cfg)
        hidden, attend = (unpack(x, inputs.place, inputs.home) for x in (hidden, inputs.attend[:, :, None]))
        attend = attend[:, :, 0]  # [B, S]
    else:
        hidden = encode_hidden(params["encoder"], inputs.ids, inputs.attend, cfg.encoder, aligned=True)
        attend = inputs.attend
    if cfg.head.pooling == "none":
        norms = vector_norms(params, hidden, cfg) if cfg.head.masses == "norm" else None
        return with_weights(params, to_unit_vectors(params, hidden, cfg), norms, inputs, cfg)
    # A row without tokens pads a batch: it has no vector.
    mask = attend.any(axis=1, keepdims=True)
    hidden = masked_sum(hidden.astype(jnp.float32), attend) if cfg.head.pooling == "mean" else hidden[:, :1]
    vectors = to_unit_vectors(params, hidden, cfg)
    return TokenVectors(vectors=jnp.where(mask[:, :, None], vectors, 0.0), mask=mask)


def to_unit_vectors(params: Params, hidden: Float[Array, "B L D"], cfg: TowerConfig) -> Float[Array, "B L E"]:
    """The head: projected, if it has a projection, and made unit vectors, float32."""
    return unit(project(params, hidden, cfg))


def project(params: Params, hidden: Float[Array, "B L D"], cfg: TowerConfig) -> Float[Array, "B L E"]:
    """Token vectors before they are made unit vectors, float32."""
    if cfg.head.projection:
        hidden = contract("BLD,DE->BLE", hidden, params["head"]["projection"]["kernel"], "float32")
    return hidden.astype(jnp.float32)


def vector_norms(params: Params, hidden: Float[Array, "B L D"], cfg: TowerConfig) -> Float[Array, "B L 1"]:
    """Lengths of the vectors before they are made unit vectors; a constant to differentiation."""
    return jnp.linalg.norm(jax.lax.stop_gradient(project(params, hidden, cfg)), axis=-1, keepdims=True)


def with_weights(
    params: Params,
    vectors: Float[Array, "B L E"],
    norms: Float[Array, "B L 1"] | None,
    inputs: TextInputs | PackedInputs,
    cfg: TowerConfig,
) -> TokenVectors:
    """Vectors of tokens, zero where masked, with the weights that the head or the inputs give them."""
    vectors, weight = jnp.where(inputs.keep[:, :, None], vectors, 0.0), inputs.weight
    if norms is not None:
        weight = jnp.where(inputs.keep, norms[:, :, 0], 0.0)
    elif cfg.head.masses == "learned":
        weight = mass_logits(params, vectors)
    return TokenVectors(vectors, inputs.keep, weight)


def mass_logits(params: Params, vectors: Float[Array, "B L E"]) -> Float[Array, "B L"]:
    """Of a head with learned masses: what their softmax over a text is taken of."""
    # Vectors are a constant here: masses are learned by their own map alone, and move no vector.
    kernel = params["head"]["mass"]["kernel"]
    return jnp.einsum("BLE,E->BL", jax.lax.stop_gradient(vectors), kernel, precision=jax.lax.Precision.HIGHEST)


def encode_packed(params: Params, inputs: PackedInputs, cfg: TowerConfig) -> Float[Array, "R L D"]:
    """Hidden states of packed texts, where the tokens lie; those of padding are finite and mean nothing."""
    S = inputs.place.shape[1]
    packed = Packed(text=inputs.home // S, position=inputs.home % S, longest=S)
    return encode_hidden(params["encoder"], inputs.ids, inputs.attend, cfg.encoder, packed)


def unpack(x: Shaped[Array, "R L D"], place: Int[Array, "B S"], home: Int[Array, "R L"]) -> Shaped[Array, "B S D"]:
    """Packed tokens, a row a text again; zero where a text has no more tokens.

    Every real token has one place and one home, so the gradient is a look-up too; left to itself it would be a scatter.
    """
    return _unpack(x, place, home)


@jax.custom_vjp
def _unpack(x: jax.Array, place: jax.Array, home: jax.Array) -> jax.Array:
    return by_shard(_pick, x, place)


def _unpack_forward(x: jax.Array, place: jax.Array, home: jax.Array) -> tuple[jax.Array, jax.Array]:
    return _unpack(x, place, home), home


def _unpack_backward(home: jax.Array, gradient: jax.Array) -> tuple[jax.Array, None, None]:
    return by_shard(_pick, gradient, home), None, None


_unpack.defvjp(_unpack_forward, _unpack_backward)


def _pick(x: jax.Array, at: jax.Array) -> jax.Array:
    """Rows of `x` (its first two dimensions as one) at `at`; zero where that is negative."""
    rows = x.reshape(-1, x.shape[-1]).at[jnp.maximum(at, 0)].get(mode="promise_in_bounds")
    return jnp.where((at >= 0)[:, :, None], rows, jnp.zeros((), x.dtype))


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

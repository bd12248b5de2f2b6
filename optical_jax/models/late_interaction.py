"""Towers: an encoder and a head that gives unit vectors, late interaction (per token or patch) or pooled."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from optical_jax.config import ImageTowerConfig, TowerConfig
from optical_jax.errors import ConfigError
from optical_jax.models.bert import Packed
from optical_jax.models.encoders import check_head, encode_hidden, encoder_specs, packs
from optical_jax.models.layers import contract
from optical_jax.models.paired_text import at_end_of_text, fill_up
from optical_jax.models.vision import attention_pool, encode_patches
from optical_jax.params import Spec, SpecTree, zeros
from optical_jax.partitioning import by_shard
from optical_jax.types import ImageInputs, PackedInputs, Params, TextInputs, TokenVectors, masked_sum, unit


def tower_specs(cfg: TowerConfig) -> SpecTree:
    """Shapes, logical axes and initialisers of every parameter of a tower.

    Raises:
      ConfigError: the config of the encoder or head is not valid.
    """
    check_head(cfg)
    head = {}
    if cfg.head.projection:
        head = {"projection": {"kernel": Spec((cfg.encoder.width, cfg.head.projection), ("embed", "vector"))}}
        if cfg.head.projection_bias:
            head["projection"]["bias"] = Spec((cfg.head.projection,), ("vector",), zeros)
    if cfg.head.masses == "learned":
        # Zeros: uniform masses at the start.
        head["mass"] = {"kernel": Spec((cfg.vector_width,), ("vector",), zeros)}
    return {"encoder": encoder_specs(cfg.encoder), "head": head}


def encode_tokens(params: Params, inputs: TextInputs | PackedInputs | ImageInputs, cfg: TowerConfig) -> TokenVectors:
    """Encode a batch of texts or images as unit vectors, float32.

    Args:
      params: a tree of `tower_specs(cfg)`.
      inputs: token ids [B, L] with their masks, or packed in rows of several texts; for an image tower pixels.
      cfg: the tower's shape; static under jit.

    Returns:
      With pooling "none" one vector per token, zero where `inputs.keep` is False, and its weight: `inputs.weight`, or
      by `cfg.head.masses`. With any other pooling one vector per text, L = 1, without weight: of the mean over the
      attended tokens, or of the token that the pooling names. For images see `encode_image_tokens`.

    Raises:
      ConfigError: texts longer than the position table, or images of a size that the encoder does not accept.
    """
    if isinstance(inputs, ImageInputs):
        return encode_image_tokens(params, inputs, cfg)
    check_reads_text(cfg)
    if isinstance(inputs, PackedInputs) and not packs(cfg.encoder):
        inputs = unpack_texts(inputs)
    if isinstance(inputs, PackedInputs):
        hidden = encode_packed(params, inputs, cfg)  # [R, L, D]
        if cfg.head.pooling == "none":
            vectors = unpack(to_unit_vectors(params, hidden, cfg), inputs.place, inputs.home)  # [B, S, E]
            norms = None
            if cfg.head.masses == "norm":
                norms = unpack(vector_norms(params, hidden, cfg), inputs.place, inputs.home)
            return with_weights(params, vectors, norms, inputs.keep, inputs.weight, cfg)
        packed = hidden, inputs.ids[:, :, None], inputs.attend[:, :, None]
        hidden, ids, attend = (unpack(x, inputs.place, inputs.home) for x in packed)
        ids, attend = ids[:, :, 0], attend[:, :, 0]  # [B, S]
    else:
        ids, attend = jnp.asarray(inputs.ids), jnp.asarray(inputs.attend)
        if cfg.head.pooling == "last":
            ids, attend = fill_up(ids, attend, cfg.encoder)
        hidden = encode_hidden(params["encoder"], ids, attend, cfg.encoder, aligned=True)
    if cfg.head.pooling == "none":
        norms = vector_norms(params, hidden, cfg) if cfg.head.masses == "norm" else None
        return with_weights(params, to_unit_vectors(params, hidden, cfg), norms, inputs.keep, inputs.weight, cfg)
    if cfg.head.pooling == "mean":
        hidden = masked_sum(hidden.astype(jnp.float32), attend)
        if cfg.head.projection_bias:  # without a bias the sum has the same direction as the mean
            hidden = hidden / jnp.maximum(attend.sum(axis=1), 1)[:, None, None]
    elif cfg.head.pooling == "eos":
        hidden = masked_sum(hidden, at_end_of_text(ids, attend, cfg.encoder))
    else:
        hidden = hidden[:, :1] if cfg.head.pooling == "cls" else hidden[:, -1:]
    # A row without tokens is padding of the batch and has no vector.
    return where_real(to_unit_vectors(params, hidden, cfg), attend.any(axis=1, keepdims=True))


def encode_image_tokens(params: Params, inputs: ImageInputs, cfg: TowerConfig) -> TokenVectors:
    """Encode a batch of images as unit vectors.

    Pooled, they are the standard embeddings: CLIP's class token ("cls"), projected, and SigLIP's attention pooling
    ("map"). With "none" every patch has a vector, row by row: for SigLIP its hidden states after the final norm, as in
    other work; for CLIP, whose training defines no patch vectors, hidden states through the norm and the projection of
    the class token, without the class token itself (our choice). "mean" is the direction of the patches' mean before
    the projection (our choice too).

    Returns:
      vectors [B, L, E], L = 1 or the number of patches; all masked where `inputs.keep` is False. Weights by
      `cfg.head.masses`.

    Raises:
      ConfigError: a text tower, or images of another size.
    """
    if not isinstance(cfg, ImageTowerConfig):
        raise ConfigError(f"a text tower of family {cfg.encoder.family} cannot encode images; load part='image'")
    states = encode_patches(params["encoder"], inputs.pixels, cfg.encoder)
    patches = states[:, 1:] if cfg.encoder.family == "clip" else states
    B, L = patches.shape[:2]
    real = jnp.ones((B,), bool) if inputs.keep is None else jnp.asarray(inputs.keep)
    if cfg.head.pooling == "none":
        norms = vector_norms(params, patches, cfg) if cfg.head.masses == "norm" else None
        keep = jnp.broadcast_to(real[:, None], (B, L))
        return with_weights(params, to_unit_vectors(params, patches, cfg), norms, keep, None, cfg)
    if cfg.head.pooling == "mean":
        pooled = patches.astype(jnp.float32).mean(axis=1, keepdims=True)
    elif cfg.head.pooling == "cls":
        pooled = states[:, :1]
    else:
        pooled = attention_pool(params["encoder"]["pool"], states, cfg.encoder)
    return where_real(to_unit_vectors(params, pooled, cfg), real[:, None])


def check_reads_text(cfg: TowerConfig) -> None:
    if isinstance(cfg, ImageTowerConfig):
        raise ConfigError(f"an image tower of family {cfg.encoder.family} cannot encode texts; load part='text'")


def where_real(vectors: Float[Array, "B 1 E"], mask: Bool[Array | np.ndarray, "B 1"]) -> TokenVectors:
    return TokenVectors(vectors=jnp.where(mask[:, :, None], vectors, 0.0), mask=mask)  # pyright: ignore


def unpack_texts(inputs: PackedInputs) -> TextInputs:
    """Unpack texts into one padded row each, for an encoder without sequence packing."""
    ids, attend = (unpack(x[:, :, None], inputs.place, inputs.home)[:, :, 0] for x in (inputs.ids, inputs.attend))
    return TextInputs(ids=ids, attend=attend, keep=inputs.keep, weight=inputs.weight)


def to_unit_vectors(params: Params, hidden: Float[Array, "B L D"], cfg: TowerConfig) -> Float[Array, "B L E"]:
    """The head: projection, if any, and L2 normalisation, float32."""
    return unit(project(params, hidden, cfg))


def project(params: Params, hidden: Float[Array, "B L D"], cfg: TowerConfig) -> Float[Array, "B L E"]:
    """Token vectors before normalisation, float32."""
    if cfg.head.projection:
        hidden = contract("BLD,DE->BLE", hidden, params["head"]["projection"]["kernel"], "float32")
    hidden = hidden.astype(jnp.float32)
    return hidden + params["head"]["projection"]["bias"] if cfg.head.projection_bias else hidden


def vector_norms(params: Params, hidden: Float[Array, "B L D"], cfg: TowerConfig) -> Float[Array, "B L 1"]:
    """Norms of the vectors before normalisation; no gradient."""
    return jnp.linalg.norm(jax.lax.stop_gradient(project(params, hidden, cfg)), axis=-1, keepdims=True)


def with_weights(
    params: Params,
    vectors: Float[Array, "B L E"],
    norms: Float[Array, "B L 1"] | None,
    keep: Bool[Array | np.ndarray, "B L"],
    weight: Float[Array | np.ndarray, "B L"] | None,
    cfg: TowerConfig,
) -> TokenVectors:
    """TokenVectors, zero where masked, with the weights of the head or of the inputs (`weight`)."""
    vectors = jnp.where(keep[:, :, None], vectors, 0.0)
    if norms is not None:
        weight = jnp.where(keep, norms[:, :, 0], 0.0)
    elif cfg.head.masses == "learned":
        weight = mass_logits(params, vectors)
    return TokenVectors(vectors, keep, weight)  # pyright: ignore[reportArgumentType]


def mass_logits(params: Params, vectors: Float[Array, "B L E"]) -> Float[Array, "B L"]:
    """Logits of the masses of a head with learned masses; the softmax over a text gives the masses."""
    # stop_gradient: only the mass kernel is trained by the masses, not the vectors.
    kernel = params["head"]["mass"]["kernel"]
    return jnp.einsum("BLE,E->BL", jax.lax.stop_gradient(vectors), kernel, precision=jax.lax.Precision.HIGHEST)


def encode_packed(params: Params, inputs: PackedInputs, cfg: TowerConfig) -> Float[Array, "R L D"]:
    """Hidden states of packed texts, still packed; those of padding are finite but meaningless."""
    S = inputs.place.shape[1]
    packed = Packed(text=inputs.home // S, position=inputs.home % S, longest=S)
    return encode_hidden(params["encoder"], inputs.ids, inputs.attend, cfg.encoder, packed)


def unpack(x: Shaped[Array, "R L D"], place: Int[Array, "B S"], home: Int[Array, "R L"]) -> Shaped[Array, "B S D"]:
    """Unpack tokens into one row per text; zero on padding.

    Packing is one to one on real tokens, so the custom gradient is a gather too; JAX's own would be a scatter.
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
    """Gather rows of `x` (first two dimensions flattened) at `at`; zero where that is negative."""
    rows = x.reshape(-1, x.shape[-1]).at[jnp.maximum(at, 0)].get(mode="promise_in_bounds")
    return jnp.where((at >= 0)[:, :, None], rows, jnp.zeros((), x.dtype))

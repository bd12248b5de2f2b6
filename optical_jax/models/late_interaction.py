"""A tower: an encoder and the head that turns its hidden states into unit vectors, of tokens or texts or pictures."""

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
      ConfigError: the encoder or its head cannot be.
    """
    check_head(cfg)
    head = {}
    if cfg.head.projection:
        head = {"projection": {"kernel": Spec((cfg.encoder.width, cfg.head.projection), ("embed", "vector"))}}
        if cfg.head.projection_bias:
            head["projection"]["bias"] = Spec((cfg.head.projection,), ("vector",), zeros)
    if cfg.head.masses == "learned":
        # Zeros: equal masses at the start.
        head["mass"] = {"kernel": Spec((cfg.vector_width,), ("vector",), zeros)}
    return {"encoder": encoder_specs(cfg.encoder), "head": head}


def encode_tokens(params: Params, inputs: TextInputs | PackedInputs | ImageInputs, cfg: TowerConfig) -> TokenVectors:
    """Unit vectors of a batch of texts or pictures, in float32.

    Args:
      params: a tree of `tower_specs(cfg)`.
      inputs: token ids [B, L] with their masks, or packed in rows of several texts; for a tower of pictures pixels.
      cfg: the tower's shape; static under jit.

    Returns:
      With pooling "none" a vector a token, zero where `inputs.keep` is False, and its weight: `inputs.weight` handed
      on, or as `cfg.head.masses` says. With any other pooling one vector a text, L = 1, without weight: of the mean
      over the tokens that are attended to, or of the one token that it names. Of pictures see `encode_pictures`.

    Raises:
      ConfigError: texts longer than the position table, or pictures of a size that the encoder does not read.
    """
    if isinstance(inputs, ImageInputs):
        return encode_pictures(params, inputs, cfg)
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
        if cfg.head.projection_bias:  # it shifts the mean, of which otherwise the direction alone counts
            hidden = hidden / jnp.maximum(attend.sum(axis=1), 1)[:, None, None]
    elif cfg.head.pooling == "eos":
        hidden = masked_sum(hidden, at_end_of_text(ids, attend, cfg.encoder))
    else:
        hidden = hidden[:, :1] if cfg.head.pooling == "cls" else hidden[:, -1:]
    # A row without tokens pads a batch: it has no vector.
    return where_real(to_unit_vectors(params, hidden, cfg), attend.any(axis=1, keepdims=True))


def encode_pictures(params: Params, inputs: ImageInputs, cfg: TowerConfig) -> TokenVectors:
    """Unit vectors of a batch of pictures.

    Pooled, they are the standard vectors: of CLIP's class token ("cls"), projected, and of SigLIP's attention pooling
    ("map"). With "none" every patch has a vector, row by row. SigLIP's are its last hidden states after the last norm,
    which others use too; for CLIP, whose training gives patches no vectors, they are ours: hidden states through the
    norm and the projection of the class token, without the class token itself. "mean" is the direction of the patches'
    mean before the projection, and ours as well.

    Returns:
      vectors [B, L, E], L = 1 or the patches of a picture; all masked where `inputs.keep` is False. Their weight is as
      `cfg.head.masses` says.

    Raises:
      ConfigError: the tower reads texts, or pictures of another size.
    """
    if not isinstance(cfg, ImageTowerConfig):
        raise ConfigError(f"a tower of family {cfg.encoder.family} for texts was given pictures; load part='image'")
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
        raise ConfigError(f"a tower of family {cfg.encoder.family} for pictures was given texts; load part='text'")


def where_real(vectors: Float[Array, "B 1 E"], mask: Bool[Array | np.ndarray, "B 1"]) -> TokenVectors:
    return TokenVectors(vectors=jnp.where(mask[:, :, None], vectors, 0.0), mask=mask)  # pyright: ignore


def unpack_texts(inputs: PackedInputs) -> TextInputs:
    """Packed texts a row each, for an encoder that cannot read them packed."""
    ids, attend = (unpack(x[:, :, None], inputs.place, inputs.home)[:, :, 0] for x in (inputs.ids, inputs.attend))
    return TextInputs(ids=ids, attend=attend, keep=inputs.keep, weight=inputs.weight)


def to_unit_vectors(params: Params, hidden: Float[Array, "B L D"], cfg: TowerConfig) -> Float[Array, "B L E"]:
    """The head: projected, if it has a projection, and made unit vectors, float32."""
    return unit(project(params, hidden, cfg))


def project(params: Params, hidden: Float[Array, "B L D"], cfg: TowerConfig) -> Float[Array, "B L E"]:
    """Token vectors before they are made unit vectors, float32."""
    if cfg.head.projection:
        hidden = contract("BLD,DE->BLE", hidden, params["head"]["projection"]["kernel"], "float32")
    hidden = hidden.astype(jnp.float32)
    return hidden + params["head"]["projection"]["bias"] if cfg.head.projection_bias else hidden


def vector_norms(params: Params, hidden: Float[Array, "B L D"], cfg: TowerConfig) -> Float[Array, "B L 1"]:
    """Lengths of the vectors before they are made unit vectors; a constant to differentiation."""
    return jnp.linalg.norm(jax.lax.stop_gradient(project(params, hidden, cfg)), axis=-1, keepdims=True)


def with_weights(
    params: Params,
    vectors: Float[Array, "B L E"],
    norms: Float[Array, "B L 1"] | None,
    keep: Bool[Array | np.ndarray, "B L"],
    weight: Float[Array | np.ndarray, "B L"] | None,
    cfg: TowerConfig,
) -> TokenVectors:
    """Vectors of tokens, zero where masked, with the weights that the head or the inputs (`weight`) give them."""
    vectors = jnp.where(keep[:, :, None], vectors, 0.0)
    if norms is not None:
        weight = jnp.where(keep, norms[:, :, 0], 0.0)
    elif cfg.head.masses == "learned":
        weight = mass_logits(params, vectors)
    return TokenVectors(vectors, keep, weight)  # pyright: ignore[reportArgumentType]


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

"""Post-norm Transformer text encoder: BERT, mBERT, MiniLM, RoBERTa, XLM-R."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from optical_jax.config import AnyEncoderConfig, EncoderConfig
from optical_jax.errors import ConfigError
from optical_jax.models.attention import attention, attention_specs, make_mix
from optical_jax.models.layers import feed_forward, feed_forward_specs, layer_norm, layer_norm_specs
from optical_jax.models.stack import run_layers
from optical_jax.params import Spec, SpecTree, stack_specs
from optical_jax.partitioning import constrain
from optical_jax.types import Params


def encoder_specs(cfg: EncoderConfig) -> SpecTree:
    """Shapes, logical axes and initialisers of every parameter of the encoder.

    Raises:
      ConfigError: the width does not divide into the heads.
    """
    check_heads(cfg)
    D = cfg.width
    return {
        "embeddings": {
            "word": {"embedding": Spec((cfg.vocab_size, D), ("vocab", "embed"))},
            "position": {"embedding": Spec((cfg.max_positions, D), ("position", "embed"))},
            "token_type": {"embedding": Spec((cfg.type_vocab_size, D), (None, "embed"))},
            "norm": layer_norm_specs(D),
        },
        "layers": stack_specs({"attention": attention_specs(cfg), "mlp": feed_forward_specs(cfg)}, cfg.layers),
    }


@struct.dataclass
class Packed:
    """Segment ids and positions of packed sequences."""

    text: Int[Array, "B L"]
    """Segment id, different for every text of a row; -1 on padding."""
    position: Int[Array, "B L"]
    """Position of a token in its text, from 0, below `longest`."""
    longest: int = struct.field(pytree_node=False)
    """Largest number of tokens per text."""


def encode_hidden(
    params: Params,
    ids: Int[Array | np.ndarray, "B L"],
    attend: Bool[Array | np.ndarray, "B L"],
    cfg: EncoderConfig,
    packed: Packed | None = None,
    *,
    aligned: bool = False,
) -> Float[Array, "B L D"]:
    """Hidden states of the last layer, in `cfg.dtype`.

    Args:
      params: a tree of `encoder_specs(cfg)`, float32; or the result of `unstack_layers` on one.
      ids: token ids, padded with anything.
      attend: True on tokens that may be attended to. The others get hidden states too, without effect on the rest.
      cfg: the encoder's shape; static under jit.
      packed: for rows of several texts; None for one text per row.
      aligned: promises that `attend` is True on a prefix of every row, for kernels that take lengths instead of a
        mask.

    Raises:
      ConfigError: texts longer than the position table, or a `cfg.attention` that this device or length does not
        support.
    """
    x = embed(params["embeddings"], ids, cfg, packed)
    mix = make_mix(cfg, jnp.asarray(attend), None if packed is None else packed.text, aligned=aligned)

    def layer(x: jax.Array, params: Any) -> jax.Array:
        return feed_forward(params["mlp"], attention(params["attention"], x, mix, cfg), cfg)

    return run_layers(layer, x, params["layers"], cfg)


@jax.named_scope("embeddings")
def embed(
    params: Params, ids: Int[Array | np.ndarray, "B L"], cfg: EncoderConfig, packed: Packed | None
) -> Float[Array, "B L D"]:
    """Sum of word, position and token-type embeddings (type 0 throughout), with a layer norm in float32."""
    check_length(ids.shape[1] if packed is None else packed.longest, cfg)
    word = look_up(params["word"]["embedding"], ids, "vocab")  # [B, L, D]
    summed = word + params["token_type"]["embedding"][0] + positions(params["position"]["embedding"], ids, cfg, packed)
    normed = layer_norm(params["norm"], summed, cfg.norm_eps).astype(cfg.dtype)
    return constrain(normed, ("batch", "length", None))


def check_heads(cfg: AnyEncoderConfig) -> None:
    if cfg.width % cfg.heads:
        raise ConfigError(f"encoder.width={cfg.width} does not divide into encoder.heads={cfg.heads}; use a multiple")


def check_length(longest: int, cfg: EncoderConfig) -> None:
    """Raise ConfigError for texts longer than the position table."""
    if longest > cfg.max_length:
        raise ConfigError(
            f"texts of {longest} tokens do not fit encoder.max_positions={cfg.max_positions} "
            f"({cfg.family}: at most {cfg.max_length} tokens); truncate them"
        )


def positions(
    table: Float[Array, "P D"], ids: Int[Array | np.ndarray, "B L"], cfg: EncoderConfig, packed: Packed | None
) -> Float[Array, "*B L D"]:
    """Position embeddings of all tokens."""
    if packed is not None:
        # A one-hot matmul: the gradient of a gather is a scatter, which works token by token.
        one_hot = jax.nn.one_hot(packed.position, packed.longest, dtype=jnp.float32)  # [B, L, P]
        rows = constrain(table, ("position", None))[cfg.first_position : cfg.first_position + packed.longest]
        return jnp.einsum("BLP,PD->BLD", one_hot, rows, precision=jax.lax.Precision.HIGHEST)
    if cfg.first_position == 0:
        return table[: ids.shape[1]]  # [L, D]
    return look_up(table, roberta_positions(ids, cfg.pad_id), "position")


def look_up(table: Float[Array, "V D"], ids: Int[Array | np.ndarray, "B L"], rows: str) -> Float[Array, "B L D"]:
    """Embedding lookup in a table whose first dimension has the logical axis `rows`."""
    # The table is unsharded along its width first; the partitioner's default looks up partial rows for every text on
    # every device and then gathers texts.
    return constrain(constrain(table, (rows, None))[ids], ("batch", "length", None))


def roberta_positions(ids: Int[Array | np.ndarray, "B L"], pad_id: int) -> Int[Array, "B L"]:
    """Position ids of RoBERTa and XLM-R: real tokens count from pad_id + 1, padding is pad_id."""
    real = (ids != pad_id).astype(jnp.int32)
    return jnp.cumsum(real, axis=1) * real + pad_id

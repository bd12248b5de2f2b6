"""The post-norm Transformer encoder: BERT, mBERT, MiniLM, RoBERTa, XLM-R."""

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
    """Which tokens of a row belong together, and where each stands in its text."""

    text: Int[Array, "B L"]
    """A number of its own for every text of a row; -1 on padding."""
    position: Int[Array, "B L"]
    """From 0 on, below `longest`."""
    longest: int = struct.field(pytree_node=False)
    """Tokens of a text at most."""


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
      params: a tree of `encoder_specs(cfg)`, float32; or what `unstack_layers` makes of one.
      ids: token ids, padded with anything.
      attend: True on the tokens that are read. The others get hidden states too, and touch nobody else's.
      cfg: the encoder's shape; static under jit.
      packed: where a row holds several texts; None for one a row.
      aligned: promises that `attend` is True on the first tokens of every row and on no later ones, which some
        kernels are told in fewer words than a mask.

    Raises:
      ConfigError: texts longer than the position table, or a `cfg.attention` that this device or these lengths forbid.
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
    """Sum of word, position and token-type embeddings (type 0 throughout), normalised in float32."""
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
            f"({cfg.family}: at most {cfg.max_length} tokens); cut them"
        )


def positions(
    table: Float[Array, "P D"], ids: Int[Array | np.ndarray, "B L"], cfg: EncoderConfig, packed: Packed | None
) -> Float[Array, "*B L D"]:
    """The embedding of every token's position, to be added."""
    if packed is not None:
        # A product with ones and zeros: the gradient of a look-up is a scatter, which takes one token after another.
        one_hot = jax.nn.one_hot(packed.position, packed.longest, dtype=jnp.float32)  # [B, L, P]
        rows = constrain(table, ("position", None))[cfg.first_position : cfg.first_position + packed.longest]
        return jnp.einsum("BLP,PD->BLD", one_hot, rows, precision=jax.lax.Precision.HIGHEST)
    if cfg.first_position == 0:
        return table[: ids.shape[1]]  # [L, D]
    return look_up(table, roberta_positions(ids, cfg.pad_id), "position")


def look_up(table: Float[Array, "V D"], ids: Int[Array | np.ndarray, "B L"], rows: str) -> Float[Array, "B L D"]:
    """Rows of a table whose first dimension has the logical name `rows`."""
    # Rows are made whole before the look-up; left to itself the partitioner looks up parts of rows for every text on
    # every device and then gathers texts.
    return constrain(constrain(table, (rows, None))[ids], ("batch", "length", None))


def roberta_positions(ids: Int[Array | np.ndarray, "B L"], pad_id: int) -> Int[Array, "B L"]:
    """Rows of the position table of RoBERTa and XLM-R: real tokens are counted from pad_id + 1, padding is pad_id."""
    real = (ids != pad_id).astype(jnp.int32)
    return jnp.cumsum(real, axis=1) * real + pad_id

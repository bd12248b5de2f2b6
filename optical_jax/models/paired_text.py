"""Text encoders of CLIP (causal) and SigLIP (attends to padding).

Sources: Radford et al. (ICML 2021); Zhai et al. (ICCV 2023); Tschannen et al. (arXiv 2502.14786) for SigLIP 2, whose
checkpoints of fixed resolution are SigLIP's but for the vocabulary.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from optical_jax.config import EncoderConfig
from optical_jax.models.attention import make_mix
from optical_jax.models.bert import Packed, check_heads, check_length, look_up, positions
from optical_jax.models.layers import layer_norm, layer_norm_specs
from optical_jax.models.pre_norm import pre_norm_layers, pre_norm_specs
from optical_jax.params import Spec, SpecTree
from optical_jax.partitioning import constrain
from optical_jax.types import Params

HIGHEST_ID = 2
"""An `eos_id` of 2, as in the config.json of early CLIP checkpoints, means that a text ends at its highest id."""


def paired_text_specs(cfg: EncoderConfig) -> SpecTree:
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
        },
        "layers": pre_norm_specs(cfg),
        "norm": layer_norm_specs(D),
    }


def encode_paired_text(
    params: Params,
    ids: Int[Array | np.ndarray, "B L"],
    attend: Bool[Array | np.ndarray, "B L"],
    cfg: EncoderConfig,
    packed: Packed | None = None,
) -> Float[Array, "B L D"]:
    """Hidden states after the final norm, in `cfg.dtype`; arguments and errors as of `bert.encode_hidden`.

    CLIP's attention is causal. SigLIP was trained on texts padded to `max_positions` tokens without a mask, so texts
    are padded with `pad_id` to that length here too and padding is attended to. SigLIP's texts cannot be packed.
    """
    L, siglip = ids.shape[1], cfg.family == "siglip"
    if siglip:
        assert packed is None, "SigLIP attends to padding, which packed rows do not have"
        ids, attend = fill_up(ids, attend, cfg)
    check_length(ids.shape[1] if packed is None else packed.longest, cfg)
    word = look_up(params["embeddings"]["word"]["embedding"], ids, "vocab")
    place = positions(params["embeddings"]["position"]["embedding"], ids, cfg, packed)
    x = constrain((word + place).astype(cfg.dtype), ("batch", "length", None))
    read = jnp.ones(ids.shape, bool) if siglip else jnp.asarray(attend)
    mix = make_mix(cfg, read, None if packed is None else packed.text, aligned=siglip, causal=not siglip)
    x = pre_norm_layers(params["layers"], x, mix, cfg)
    return constrain(layer_norm(params["norm"], x, cfg.norm_eps)[:, :L], ("batch", "length", None))


def fill_up(
    ids: Int[Array | np.ndarray, "B L"], attend: Bool[Array | np.ndarray, "B L"], cfg: EncoderConfig
) -> tuple[Int[Array, "B P"], Bool[Array, "B P"]]:
    """Pad texts with `pad_id` to `max_positions` tokens.

    Raises:
      ConfigError: they are longer.
    """
    check_length(ids.shape[1], cfg)
    more = ((0, 0), (0, cfg.max_positions - ids.shape[1]))
    ids = jnp.where(jnp.asarray(attend), jnp.asarray(ids), cfg.pad_id)
    return jnp.pad(ids, more, constant_values=cfg.pad_id), jnp.pad(jnp.asarray(attend), more)


def at_end_of_text(
    ids: Int[Array | np.ndarray, "B L"], attend: Bool[Array | np.ndarray, "B L"], cfg: EncoderConfig
) -> Bool[Array, "B L"]:
    """Mask of CLIP's end-of-text token, which is pooled: the first `eos_id`, or the first token of a text without one.

    With `eos_id` 2 it is the first of the text's highest id.
    """
    value = jnp.asarray(ids) if cfg.eos_id == HIGHEST_ID else (jnp.asarray(ids) == cfg.eos_id).astype(jnp.int32)
    place = jnp.where(jnp.asarray(attend), value, -1).argmax(axis=1)  # [B]
    return jnp.arange(ids.shape[1]) == place[:, None]

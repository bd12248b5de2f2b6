"""Dispatch over encoder families (BERT, CLIP, SigLIP), and the poolings each supports."""

from __future__ import annotations

import numpy as np
from jaxtyping import Array, Bool, Float, Int

from optical_jax.config import AnyEncoderConfig, EncoderConfig, HeadConfig, ImageEncoderConfig, TowerConfig
from optical_jax.errors import ConfigError
from optical_jax.models import bert
from optical_jax.models.bert import Packed
from optical_jax.models.paired_text import encode_paired_text, paired_text_specs
from optical_jax.models.vision import vision_specs
from optical_jax.params import SpecTree
from optical_jax.types import Params

TEXT_POOLINGS = {"clip": ("none", "mean", "eos"), "siglip": ("none", "mean", "last")}
IMAGE_POOLINGS = {"clip": ("none", "mean", "cls"), "siglip": ("none", "mean", "map")}
"""Encoder family -> supported values of `HeadConfig.pooling`, the last being the one it was trained with."""


def encoder_specs(cfg: AnyEncoderConfig) -> SpecTree:
    """Shapes, logical axes and initialisers of every parameter of any encoder."""
    if isinstance(cfg, ImageEncoderConfig):
        return vision_specs(cfg)
    return paired_text_specs(cfg) if is_paired(cfg) else bert.encoder_specs(cfg)


def encode_hidden(
    params: Params,
    ids: Int[Array | np.ndarray, "B L"],
    attend: Bool[Array | np.ndarray, "B L"],
    cfg: EncoderConfig,
    packed: Packed | None = None,
    *,
    aligned: bool = False,
) -> Float[Array, "B L D"]:
    """Hidden states of the last layer of any text encoder; arguments and errors as of `bert.encode_hidden`."""
    if is_paired(cfg):
        return encode_paired_text(params, ids, attend, cfg, packed)
    return bert.encode_hidden(params, ids, attend, cfg, packed, aligned=aligned)


def is_paired(cfg: EncoderConfig) -> bool:
    """True for the text encoder of an image-text dual encoder (CLIP, SigLIP)."""
    return cfg.family in TEXT_POOLINGS


def packs(cfg: EncoderConfig) -> bool:
    """True for encoders that support sequence packing: all but SigLIP, which attends to padding."""
    return cfg.family != "siglip"


def poolings(cfg: AnyEncoderConfig) -> tuple[str, ...]:
    """Values of `HeadConfig.pooling` that an encoder supports."""
    if isinstance(cfg, ImageEncoderConfig):
        return IMAGE_POOLINGS[cfg.family]
    return TEXT_POOLINGS.get(cfg.family, ("none", "mean", "cls"))


def check_head(cfg: TowerConfig) -> None:
    """Raise ConfigError if the head needs an output that this encoder family does not have."""
    head: HeadConfig = cfg.head
    known = poolings(cfg.encoder)
    if head.pooling not in known:
        raise ConfigError(
            f"head.pooling={head.pooling!r} is not valid for an encoder of family {cfg.encoder.family}; use "
            f"{', '.join(known)}"
        )
    if head.pooling == "eos" and cfg.encoder.eos_id is None:
        raise ConfigError("head.pooling='eos' needs encoder.eos_id, the id of the end-of-text token; set it")
    augmented = head.augment_queries and not head.attend_to_augmentation
    if augmented and not isinstance(cfg.encoder, ImageEncoderConfig) and not packs(cfg.encoder):
        raise ConfigError(
            f"head.augment_queries: an encoder of family {cfg.encoder.family} attends to every token; set "
            "head.attend_to_augmentation, or leave it out"
        )

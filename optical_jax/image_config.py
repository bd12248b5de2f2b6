"""The shape of a tower that reads pictures, beside config.py's of one that reads texts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from optical_jax.config import Activation, Attention, Dtype, EncoderConfig, Remat, TowerConfig


@dataclass(frozen=True)
class ImageEncoderConfig:
    """Shape of one vision transformer (ViT), as the ``vision_config`` of a Hugging Face ``config.json`` states it."""

    family: Literal["clip", "siglip"] = "clip"
    image_size: int = 224
    """Height and width in pixels of the pictures that the position table is for."""
    patch_size: int = 32
    """Height and width in pixels of a patch. What is left of a picture at its right and lower edge is not read."""
    interpolate: bool = False
    """Read pictures of other sizes too, with the position table resized to them (bicubic); else they are refused."""
    width: int = 768
    layers: int = 12
    heads: int = 12
    mlp_width: int = 3072
    activation: Activation = "quick_gelu"
    norm_eps: float = 1e-5
    dtype: Dtype = "float32"
    """As in `EncoderConfig`, with the two below."""
    attention: Attention = "auto"
    remat: Remat = "none"

    @property
    def grid(self) -> int:
        """Patches along a side of a picture of `image_size`."""
        return self.image_size // self.patch_size


AnyEncoderConfig = EncoderConfig | ImageEncoderConfig
"""What blocks, attention and heads need of an encoder both have, by the same names."""


@dataclass(frozen=True)
class ImageTowerConfig(TowerConfig):
    """A tower whose encoder reads pictures: all that is done with the vectors of a tower is done with its own."""

    encoder: ImageEncoderConfig = field(default_factory=ImageEncoderConfig)  # pyright: ignore

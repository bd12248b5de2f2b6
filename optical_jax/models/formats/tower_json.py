"""A TowerConfig from the JSON that `optical_jax.json` keeps of it."""

from __future__ import annotations

from typing import Any

from optical_jax.config import EncoderConfig, HeadConfig, ImageEncoderConfig, ImageTowerConfig, TowerConfig
from optical_jax.errors import ConfigError


def tower_config(values: dict[str, Any], source: str) -> TowerConfig:
    """A TowerConfig from its JSON; one of pictures where its encoder has a size in pixels."""
    try:
        encoder, head = dict(values["encoder"]), HeadConfig(**values["head"])
        if "image_size" in encoder:
            return ImageTowerConfig(ImageEncoderConfig(**encoder), head)
        if isinstance(encoder.get("remat"), bool):  # before it was a policy
            encoder["remat"] = "full" if encoder["remat"] else "none"
        return TowerConfig(EncoderConfig(**encoder), head)
    except (KeyError, TypeError) as error:
        raise ConfigError(f"{source} is no tower config of this version: {error}; export the tower again") from error

"""Parse optical_jax.json, the config of a tower."""

from __future__ import annotations

from typing import Any

from optical_jax.config import EncoderConfig, HeadConfig, ImageEncoderConfig, ImageTowerConfig, TowerConfig
from optical_jax.errors import ConfigError


def tower_config(values: dict[str, Any], source: str) -> TowerConfig:
    """TowerConfig from its JSON; an ImageTowerConfig if the encoder has an `image_size`."""
    try:
        encoder, head = dict(values["encoder"]), HeadConfig(**values["head"])
        if "image_size" in encoder:
            return ImageTowerConfig(ImageEncoderConfig(**encoder), head)
        if isinstance(encoder.get("remat"), bool):  # of versions before remat policies
            encoder["remat"] = "full" if encoder["remat"] else "none"
        return TowerConfig(EncoderConfig(**encoder), head)
    except (KeyError, TypeError) as error:
        raise ConfigError(f"{source} is not a tower config of this version: {error}; export the tower again") from error

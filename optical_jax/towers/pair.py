"""Dual encoders of texts and images, as one folder: text/, image/ and pair.json.

Each subfolder is a model by itself, and `load(FOLDER, part="text"|"image")` reads one of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from optical_jax.config import ImageTowerConfig
from optical_jax.data.pixels import RECIPE_FILES
from optical_jax.errors import ConfigError
from optical_jax.files import PAIR, SEEN_IMAGES, write_json
from optical_jax.models.formats.export import Dtype, save_tower
from optical_jax.models.formats.pretrained import OWN_LOGITS, open_model
from optical_jax.models.formats.replacing import check_target, replacing
from optical_jax.towers.folder import load_tower
from optical_jax.towers.tower import Tower
from optical_jax.types import Params

Interaction = Literal["pooled", "tokens"]


@dataclass(frozen=True)
class TowerPair:
    """A dual encoder: a text tower and an image tower whose vectors are compared."""

    text: Tower
    image: Tower
    interaction: Interaction
    """What is compared: mean vectors, or every token with its best patch and every patch with its best token."""
    logits: Mapping[str, float]
    """From cosines to logits: "logit_scale", the natural logarithm of the factor, and possibly "logit_bias"."""
    seen: Sequence[str] | None = None
    """Digests, in hexadecimal, of the images it is known to be trained on; None if unknown."""

    @property
    def towers(self) -> dict[Literal["text", "image"], Tower]:
        return {"text": self.text, "image": self.image}

    @property
    def image_cfg(self) -> ImageTowerConfig:
        """Config of the image tower."""
        assert isinstance(self.image.cfg, ImageTowerConfig), "an image tower"
        return self.image.cfg

    @property
    def metadata(self) -> dict[str, Any]:
        """Contents of pair.json."""
        return {"interaction": self.interaction, **self.logits}


LOSS_PARAMS = ("log_scale", "bias")
"""Parameters of `losses.image_text`, in the order of `OWN_LOGITS`."""


def save_model(model: Tower | TowerPair, folder: Path, card: str = "", *, dtype: Dtype = "float32") -> None:
    """Save a tower (`save_tower`, and its preprocessor_config.json if it has a recipe) or a dual encoder."""
    if isinstance(model, TowerPair):
        save_pair(model, folder, card, dtype=dtype)
        return
    records = {} if model.recipe is None else {RECIPE_FILES[0]: model.recipe.to_json()}
    save_tower(model.params, model.cfg, model.tokenizer, folder, card, dtype=dtype, records=records)


def save_pair(pair: TowerPair, folder: Path, card: str = "", *, dtype: Dtype = "float32") -> None:
    """Save a dual encoder: both towers, pair.json and, if known, seen_pictures.json.

    Arguments, errors and atomicity as of `save_tower`.
    """
    check_target(folder)
    with replacing(folder) as partial:
        for name, tower in pair.towers.items():
            save_model(tower, partial / name, dtype=dtype)
        write_json(partial / PAIR, pair.metadata)
        if pair.seen is not None:
            write_json(partial / SEEN_IMAGES, pair.seen)
        if card:
            (partial / "README.md").write_text(card, encoding="utf-8")


def load_pair(folder: Path) -> TowerPair:
    """Load a dual encoder that `save_pair` wrote.

    Raises:
      ConfigError: a part of it is missing or broken.
    """
    model = open_model(folder)
    if model.metadata is None:
        raise ConfigError(f"{folder} has no {PAIR}; name a folder that save_pair wrote")
    logits = {name: float(model.metadata[name]) for name in OWN_LOGITS if name in model.metadata}
    text, image = (load_tower(model, "query", part=part) for part in ("text", "image"))
    return TowerPair(text, image, model.metadata["interaction"], logits, model.seen_images)


def pair_params(pair: TowerPair, bias: float) -> Params:
    """Parameters of both towers and of the loss in one tree, as in the checkpoints of a training.

    Args:
      bias: of the loss, for a pair without logit_bias.
    """
    towers = {part: tower.params for part, tower in pair.towers.items()}
    values = (pair.logits["logit_scale"], pair.logits.get("logit_bias", bias))
    return towers | {name: np.float32(value) for name, value in zip(LOSS_PARAMS, values, strict=True)}


def logits_of(params: Params, named: Iterable[str]) -> dict[str, float]:
    """Logits from a tree of `pair_params`, those that are named."""
    found: dict[str, float] = dict(zip(OWN_LOGITS, (float(params[name]) for name in LOSS_PARAMS), strict=True))
    return {name: found[name] for name in named}

"""Initialise an image-text teacher: a pretrained text tower, an image tower pretrained or from scratch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import jax
import numpy as np

from optical_jax.config import (
    DRAWN_SIZE,
    HeadConfig,
    ImageEncoderConfig,
    ImageStageConfig,
    ImageTowerConfig,
    TowerConfig,
    expand_path,
)
from optical_jax.data.pixels import HALF, PictureRecipe
from optical_jax.errors import ConfigError
from optical_jax.models.late_interaction import tower_specs
from optical_jax.params import init_params
from optical_jax.runs.pair import Source, open_source
from optical_jax.towers.images import recipe_of
from optical_jax.towers.pair import TowerPair
from optical_jax.towers.tower import Tower
from optical_jax.training.embeddings import principal_directions
from optical_jax.types import Params


def make_pair(cfg: ImageStageConfig, captions: Sequence[str]) -> TowerPair:
    """Both towers before the first step, with vectors of one width.

    Args:
      cfg: the run's settings.
      captions: to find the principal directions of a new projection of texts.

    Raises:
      ConfigError: no weights there, widths or lengths that cannot be, or nothing is left to train.
    """
    source = image_source = open_source(expand_path(cfg.text.path, "text.path"), cfg.cache_dir or None)
    if cfg.image.path != cfg.text.path:
        path = expand_path(cfg.image.path, "image.path")
        image_source = open_source(path, cfg.cache_dir or None) if path else None
    text = make_text_side(cfg, captions, source)
    image = make_image_side(cfg, text.cfg.vector_width, image_source)
    if cfg.text.locked and not cfg.text.projection and cfg.image.locked and not image.cfg.head.projection:
        raise ConfigError(
            "text.locked=True and image.locked=True leave nothing to train, as the tower of pictures has no "
            "projection; unlock one of them"
        )
    return TowerPair(text, image, cfg.loss.interaction, start_logits(cfg, source))


def make_text_side(cfg: ImageStageConfig, captions: Sequence[str], source: Source) -> Tower:
    """The text tower at `text.path`, with a new projection if the settings have one."""
    settings, text = cfg.text, source.tower("text", cfg.text.pooling)
    if text.tokenizer is None:
        raise ConfigError(f"text.path={source.path} holds no tokenizer; copy the whole model")
    # Masses that it learned as a student are of another loss.
    head = replace(text.cfg.head, masses="none")
    params = {**text.params, "head": {k: x for k, x in text.params["head"].items() if k != "mass"}}
    encoder = replace(text.cfg.encoder, dtype=settings.dtype)
    if settings.max_length > encoder.max_length:
        raise ConfigError(
            f"text.max_length={settings.max_length} is more than the tower reads; give at most {encoder.max_length}"
        )
    text = replace(text, params=params, cfg=TowerConfig(encoder, head), side="query")
    if not settings.projection:
        return text
    if head.projection:
        raise ConfigError(
            f"text.projection={settings.projection}, and the weights at text.path come with a projection to "
            f"{head.projection}; give 0 to keep it"
        )
    if settings.projection > encoder.width:
        raise ConfigError(
            f"text.projection={settings.projection} is wider than the tower's vectors; give at most {encoder.width}, "
            "or 0 for none"
        )
    kernel = principal_directions(text, captions, captions, settings.projection)
    cut = TowerConfig(encoder, replace(head, projection=settings.projection))
    return replace(text, params={**params, "head": {"projection": {"kernel": kernel}}}, cfg=cut)


def make_image_side(cfg: ImageStageConfig, width: int, source: Source | None) -> Tower:
    """The image tower at `image.path`, or a randomly initialised one, projected to this vector width if needed.

    Raises:
      ConfigError: as `make_pair`; the checkpoint has no image preprocessing.
    """
    settings = cfg.image
    if source is not None:
        found = source.tower("image", settings.pooling)
        recipe_of(found)
        encoder, head, params = found.cfg.encoder, found.cfg.head, found.params
    else:
        size = {name: getattr(settings, name) for name in DRAWN_SIZE}
        assert settings.pooling != "auto", "refused before"
        encoder, head, params = ImageEncoderConfig(**size), HeadConfig(pooling=settings.pooling), {}
        edge = settings.image_size
        recipe = PictureRecipe((edge, edge), None, mean=HALF, std=HALF)
        found = Tower(params, ImageTowerConfig(encoder, head), recipe=recipe)
    assert isinstance(encoder, ImageEncoderConfig)
    encoder = replace(encoder, dtype=settings.dtype)
    keeps_head = bool(params) and found.cfg.vector_width == width
    if not keeps_head:
        head = replace(head, projection=width, projection_bias=False)
    tower = ImageTowerConfig(encoder, replace(head, masses="none"))
    kept: Params = {"encoder": params["encoder"]} if params else {}
    if keeps_head:
        kept["head"] = {name: value for name, value in params["head"].items() if name != "mass"}
    missing = {name: specs for name, specs in tower_specs(tower).items() if name not in kept}
    drawn = jax.tree.map(np.asarray, init_params(missing, jax.random.key(cfg.seed)))
    return replace(found, params={**drawn, **kept}, cfg=tower, side="document")


def start_logits(cfg: ImageStageConfig, source: Source) -> dict[str, float]:
    """Initial temperature and bias: from the settings, or from a pair whose two towers are both trained on."""
    found = {"logit_scale": -math.log(cfg.loss.start_temperature), "logit_bias": cfg.loss.bias}
    if cfg.text.path == cfg.image.path and not cfg.loss.temperature:
        found |= source.logits()
    return found if cfg.loss.name == "sigmoid" else {"logit_scale": found["logit_scale"]}

"""One update of an image-text teacher: captions and images through their encoders, and a loss over all pairs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from optical_jax.config import ImageStageConfig, ImageTextLossConfig, ImageTowerConfig, TowerConfig
from optical_jax.losses.image_text import image_text_loss, image_text_specs
from optical_jax.models.late_interaction import tower_specs
from optical_jax.params import SpecTree
from optical_jax.training.accumulation import encode_in_parts
from optical_jax.training.optimizer import FrozenParts
from optical_jax.training.step import TrainStep, count_tokens, make_update, with_kernels
from optical_jax.types import ImageTextBatch, LossOutput, Params, TokenVectors


def make_image_text_step(
    cfg: ImageStageConfig, text: TowerConfig, image: ImageTowerConfig, mesh: Mesh, tx: optax.GradientTransformation
) -> TrainStep:
    """Compile one update, f(state, batch). The loss sees the whole batch, which is encoded in parts."""
    parts, specs = cfg.training.accumulate, pair_specs(text, image, cfg.loss)
    text = with_kernels(text, cfg.text.attention, cfg.text.remat)
    image = with_kernels(image, cfg.image.attention, cfg.image.remat)

    def loss_of(params: Params, batch: ImageTextBatch, step: jax.Array) -> LossOutput:
        with jax.named_scope("texts"):
            texts = text_vectors(params["text"], batch.texts, text, parts)
        with jax.named_scope("images"):
            images = encode_in_parts(params["image"], batch.images, image, parts)
        with jax.named_scope("loss"):
            return image_text_loss(texts, images, batch.picture, params["log_scale"], params["bias"], cfg.loss)

    def tokens_of(batch: ImageTextBatch) -> jax.Array:
        return count_tokens(batch.texts) + float(len(batch.picture) * image.encoder.grid**2)

    return make_update(loss_of, tokens_of, specs, mesh, tx, frozen_parts(cfg))


def text_vectors(params: Params, texts: Any, text: TowerConfig, parts: int) -> TokenVectors:
    """Caption vectors, encoded here or precomputed in float16."""
    if isinstance(texts, TokenVectors):
        return replace(texts, vectors=texts.vectors.astype(jnp.float32))
    return encode_in_parts(params, texts, text, parts)


def pair_specs(text: TowerConfig, image: ImageTowerConfig, loss: ImageTextLossConfig) -> SpecTree:
    """All parameters of both towers and of the loss: "text", "image", "log_scale", "bias"."""
    return {"text": tower_specs(text), "image": tower_specs(image), **image_text_specs(loss)}


def frozen_parts(cfg: ImageStageConfig) -> FrozenParts:
    """Frozen parameters: locked towers, except a new text projection and the image projection."""
    paths: list[tuple[str, ...]] = []
    if cfg.text.locked:
        paths.append(("text", "encoder") if cfg.text.projection else ("text",))
    if cfg.image.locked:
        paths.append(("image", "encoder"))
    if cfg.loss.name == "softmax" or not cfg.loss.learn_scale:
        paths.append(("bias",))
    if not cfg.loss.learn_scale:
        paths.append(("log_scale",))
    return FrozenParts(tuple(paths))

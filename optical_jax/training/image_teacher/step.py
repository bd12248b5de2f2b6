"""One update of an image-text teacher: the captions and the pictures of the global batch, and a loss over all pairs."""

from __future__ import annotations

from collections.abc import Callable
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
from optical_jax.partitioning import named_sharding
from optical_jax.training.optimizer import FrozenParts, trained_part, with_trained
from optical_jax.training.state import TrainState, train_state_shardings, update_state
from optical_jax.training.step import count_tokens, encode_in_parts
from optical_jax.types import ImageTextBatch, Metrics, Params, Scalar, TokenVectors

ImageTextStep = Callable[[TrainState, ImageTextBatch], tuple[TrainState, Metrics]]


def make_image_text_step(
    cfg: ImageStageConfig, text: TowerConfig, image: ImageTowerConfig, mesh: Mesh, tx: optax.GradientTransformation
) -> ImageTextStep:
    """Compile one update. The function returned consumes (donates) the state it is given."""
    parts, frozen = cfg.training.accumulate, frozen_parts(cfg)
    text, image = as_trained(cfg, text, image)

    def loss_of(trained: Params, params: Params, batch: ImageTextBatch) -> tuple[Scalar, Metrics]:
        params = with_trained(params, trained, frozen)
        with jax.named_scope("texts"):
            texts = text_vectors(params["text"], batch.texts, text, parts)
        with jax.named_scope("images"):
            images = encode_in_parts(params["image"], batch.images, image, parts)
        with jax.named_scope("loss"):
            out = image_text_loss(texts, images, batch.picture, params["log_scale"], params["bias"], cfg.loss)
        return out.loss, {**out.metrics, "loss": out.loss}

    def step(state: TrainState, batch: ImageTextBatch) -> tuple[TrainState, Metrics]:
        trained = trained_part(state.params, frozen)
        grads, metrics = jax.grad(loss_of, has_aux=True)(trained, state.params, batch)
        state, norms = update_state(state, grads, tx, frozen)
        real_tokens = count_tokens(batch.texts) + float(len(batch.picture) * image.encoder.grid**2)
        return state, {**metrics, **norms, "real_tokens": real_tokens}

    states = train_state_shardings(pair_specs(text, image, cfg.loss), mesh, tx, frozen)
    ins = (states, named_sharding(mesh, ("batch",)))
    return jax.jit(step, in_shardings=ins, out_shardings=(states, named_sharding(mesh, ())), donate_argnums=0)


def text_vectors(params: Params, texts: Any, text: TowerConfig, parts: int) -> TokenVectors:
    """Captions encoded now, or before (float16)."""
    if isinstance(texts, TokenVectors):
        return replace(texts, vectors=texts.vectors.astype(jnp.float32))
    return encode_in_parts(params, texts, text, parts)


def pair_specs(text: TowerConfig, image: ImageTowerConfig, loss: ImageTextLossConfig) -> SpecTree:
    """All parameters of both towers and of the loss: "text", "image", "log_scale", "bias"."""
    return {"text": tower_specs(text), "image": tower_specs(image), **image_text_specs(loss)}


def frozen_parts(cfg: ImageStageConfig) -> FrozenParts:
    """What stays as it starts: of locked towers all, but a new projection of texts, and that of pictures."""
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


def as_trained(
    cfg: ImageStageConfig, text: TowerConfig, image: ImageTowerConfig
) -> tuple[TowerConfig, ImageTowerConfig]:
    """Both towers as the step computes them: attention and remat are of a run and its devices, not of the tower."""
    texts = replace(text.encoder, attention=cfg.text.attention, remat=cfg.text.remat)
    pictures = replace(image.encoder, attention=cfg.image.attention, remat=cfg.image.remat)
    return replace(text, encoder=texts), replace(image, encoder=pictures)

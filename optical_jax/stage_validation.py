"""Checks of both teachers' settings that need no data; `validation` has those of a student's, and what all share."""

from __future__ import annotations

from functools import partial

from optical_jax.config import (
    DEV_FIGURES,
    DEV_METRICS,
    DRAWN_SIZE,
    ImageSideConfig,
    ImageStageConfig,
    TeacherStageConfig,
)
from optical_jax.config.validation import (
    check_every_training,
    check_image_text_loss,
    check_kernel_dtype,
    check_ranges,
    check_that,
)
from optical_jax.errors import ConfigError

AT_LEAST_1 = ("data.passages", "data.row_length", "data.dev_queries", "data.dev_documents", "training.steps")
AT_LEAST_0 = ("encoder.projection", "loss.contrastive", "loss.kl", "loss.margin_mse")
ABOVE_0 = ("loss.temperature", "loss.score_scale")
IMAGE_AT_LEAST_1 = (
    "data.dev_pictures", "data.threads", "image.image_size", "image.patch_size", "image.width", "image.layers",
    "image.heads", "image.mlp_width", "training.steps",
)  # fmt: skip
IMAGE_AT_LEAST_0 = ("text.projection", "text.hold_gib")


def validate_teacher(cfg: TeacherStageConfig, *, needs_run: bool = True) -> None:
    """As `validation.validate`, for a teacher's training.

    Raises:
      ConfigError: names the field, its value and the remedy.
    """
    require = partial(check_that, cfg)
    check_every_training(cfg, DEV_METRICS, needs_run=needs_run)
    require(bool(cfg.encoder.path), "encoder.path", "name an encoder: --encoder.path FOLDER_OR_HUB_NAME")
    require(bool(cfg.data.train), "data.train", "name judgements, triples or lists: --data.train FILE")
    check_ranges(cfg, AT_LEAST_1, AT_LEAST_0, ABOVE_0)
    for name in ("query_length", "document_length"):
        length = getattr(cfg.encoder, name)
        require(length is None or length >= 4, f"encoder.{name}", "give at least 4 tokens, or none")
    length = cfg.data.passage_length
    require(length == 0 or length >= 4, "data.passage_length", "give at least 4 tokens, or 0")
    frozen = cfg.encoder.frozen_layers
    require(frozen is None or frozen >= 0, "encoder.frozen_layers", "give 0 or more, or none")
    check_kernel_dtype("encoder", cfg.encoder)
    require(0 <= cfg.data.hold_out < 1, "data.hold_out", "give a share from 0 to below 1")
    loss = cfg.loss
    if not (loss.contrastive or loss.kl or loss.margin_mse):
        raise ConfigError("loss.contrastive, loss.kl and loss.margin_mse are all 0; give one of them a weight")
    if cfg.data.passages == 1:
        require(not loss.kl and not loss.margin_mse, "data.passages", "kl and margin_mse compare two and more")
        require(loss.in_batch, "data.passages", "without loss.in_batch there is no negative; give 2 or more")
    if loss.contrastive and cfg.data.global_batch == 1 and cfg.data.passages == 1:
        raise ConfigError("data.global_batch=1 and data.passages=1 leave no negative; raise one of them")


def validate_image_teacher(cfg: ImageStageConfig, *, needs_run: bool = True) -> None:
    """As `validation.validate`, for an image-text teacher's training.

    Raises:
      ConfigError: names the field, its value and the remedy.
    """
    require = partial(check_that, cfg)
    check_every_training(cfg, DEV_FIGURES, needs_run=needs_run)
    require(bool(cfg.text.path), "text.path", "name a tower of texts: --text.path FOLDER_OR_HUB_NAME")
    require(bool(cfg.data.images), "data.images", "name sets of pictures with captions: --data.images FOLDER")
    require(bool(cfg.data.splits), "data.splits", "name a split, such as train")
    for name in ("images", "splits"):
        named = getattr(cfg.data, name)
        require(len(set(named)) == len(named) and all(named), f"data.{name}", "name each once")
    check_ranges(cfg, IMAGE_AT_LEAST_1, IMAGE_AT_LEAST_0, ())
    length = cfg.text.max_length
    require(length == 0 or length >= 4, "text.max_length", "give at least 4 tokens, or 0")
    require(cfg.data.global_batch >= 2, "data.global_batch", "the loss compares the pairs of a batch; give 2 or more")
    for name, side in (("text", cfg.text), ("image", cfg.image)):
        check_kernel_dtype(name, side)
    check_size(cfg.image)
    check_image_text_loss(cfg.loss)


def check_size(image: ImageSideConfig) -> None:
    """Refuse a drawn tower that cannot be, and a size beside weights that have their own."""
    if image.path:
        changed = [name for name in DRAWN_SIZE if getattr(image, name) != getattr(ImageSideConfig(), name)]
        if changed:
            raise ConfigError(
                f"image.{changed[0]}={getattr(image, changed[0])} is of a drawn tower, and image.path={image.path} "
                "brings its own; leave one of the two out"
            )
        return
    if image.locked:
        raise ConfigError("image.locked=True leaves a drawn tower as it is drawn; name image.path, or leave it out")
    if image.pooling == "auto":
        raise ConfigError("image.pooling='auto' does as files say, and a drawn tower has none; take none, mean or cls")
    if image.width % image.heads:
        raise ConfigError(f"image.width={image.width} does not divide into image.heads={image.heads}; take a multiple")
    if image.image_size % image.patch_size:
        raise ConfigError(
            f"image.image_size={image.image_size} does not divide into patches of image.patch_size="
            f"{image.patch_size}; take a multiple"
        )

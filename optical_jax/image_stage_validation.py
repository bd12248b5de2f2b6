"""Checks of an image-text teacher's settings that need no data; `validation` has those of other runs."""

from __future__ import annotations

from functools import partial

from optical_jax.errors import ConfigError
from optical_jax.image_stage_config import DEV_FIGURES, DRAWN_SIZE, ImageSideConfig, ImageStageConfig
from optical_jax.validation import (
    check_choices,
    check_image_text_loss,
    check_kernel_dtype,
    check_ranges,
    check_that,
    parse_licences,
)

AT_LEAST_1 = (
    "data.global_batch", "data.dev_pictures", "data.threads", "image.image_size", "image.patch_size", "image.width",
    "image.layers", "image.heads", "image.mlp_width", "training.steps", "training.accumulate", "training.log_every",
    "checkpoint.every", "checkpoint.keep",
)  # fmt: skip
AT_LEAST_0 = (
    "seed", "text.projection", "text.hold_gib", "training.dev_every", "optimizer.warmup_steps",
    "optimizer.weight_decay", "optimizer.clip_norm", "optimizer.final_lr_fraction",
)  # fmt: skip
ABOVE_0 = ("optimizer.peak_lr", "optimizer.eps")


def validate_image_teacher(cfg: ImageStageConfig, *, needs_run: bool = True) -> None:
    """As `validation.validate`, for an image-text teacher's training.

    Raises:
      ConfigError: names the field, its value and the remedy.
    """
    fine = partial(check_that, cfg)
    check_choices(cfg)
    fine(bool(cfg.run) or not needs_run, "run", "name a run folder: --run runs/x")
    fine(bool(cfg.text.path), "text.path", "name a tower of texts: --text.path FOLDER_OR_HUB_NAME")
    fine(bool(cfg.data.images), "data.images", "name sets of pictures with captions: --data.images FOLDER")
    fine(bool(cfg.data.splits), "data.splits", "name a split, such as train")
    for name in ("images", "splits"):
        named = getattr(cfg.data, name)
        fine(len(set(named)) == len(named) and all(named), f"data.{name}", "name each once")
    check_ranges(cfg, AT_LEAST_1, AT_LEAST_0, ABOVE_0)
    length = cfg.text.max_length
    fine(length == 0 or length >= 4, "text.max_length", "give at least 4 tokens, or 0")
    fine(cfg.data.global_batch >= 2, "data.global_batch", "the loss compares the pairs of a batch; give 2 or more")
    for name, side in (("text", cfg.text), ("image", cfg.image)):
        check_kernel_dtype(name, side)
    check_size(cfg.image)
    check_image_text_loss(cfg.loss)
    fine(cfg.checkpoint.best_metric in DEV_FIGURES, "checkpoint.best_metric", f"take one of {', '.join(DEV_FIGURES)}")
    parse_licences(cfg.licences)


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

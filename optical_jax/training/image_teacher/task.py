"""The training of an image-text teacher on captioned images: data, both towers, step and dev retrieval."""

from __future__ import annotations

import shlex
from dataclasses import fields, replace
from typing import TYPE_CHECKING

import jax

from optical_jax.config import DataConfig, ImageStageConfig, expand_path
from optical_jax.data.batches.images import captions_in_order, make_image_loader
from optical_jax.data.coverage import check_coverage
from optical_jax.data.pixels import Augmentation
from optical_jax.invocation import program
from optical_jax.runs.pair import open_source
from optical_jax.towers.images import recipe_of
from optical_jax.towers.pair import load_pair, pair_params
from optical_jax.training.estimate import CacheFill, RunCost, image_text_flops
from optical_jax.training.image_teacher.data import (
    as_if_held,
    held_bytes,
    hold_texts,
    make_dev_metrics,
    read_stage_data,
)
from optical_jax.training.image_teacher.start import make_pair
from optical_jax.training.image_teacher.step import frozen_parts, make_image_text_step, pair_specs
from optical_jax.training.optimizer import make_optimizer
from optical_jax.training.step import check_attention, with_kernels
from optical_jax.training.task import Prepared, checked_mesh, model_inputs, say
from optical_jax.types import ImageTextBatch

if TYPE_CHECKING:
    from optical_jax.data.batches.images import ImageLoader
    from optical_jax.runs.folder import RunFolder
    from optical_jax.towers.pair import TowerPair

GIB = 2**30


def prepare(cfg: ImageStageConfig, folder: RunFolder | None) -> Prepared:
    """Read data and towers; those of a resumed run come from its folder. Nothing is written.

    Raises:
      ConfigError, DataError: what is wrong, by name.
    """
    mesh, augmentation = checked_mesh(cfg, "text", "image"), augmentation_of(cfg)
    # A run that is resumed knows which images were seen before it, wherever that tower is now.
    before = str(folder.path) if folder is not None else expand_path(cfg.image.path, "image.path")
    seen_before = open_source(before, cfg.cache_dir or None).seen_images if before else None
    data = read_stage_data(cfg.data, seen_before or ())
    captions = captions_in_order(data.train)
    inputs = data.inputs | model_inputs(cfg, folder, "text", "image")
    start = load_pair(folder.model) if folder is not None else make_pair(cfg, captions)
    start = replace(start, text=replace(start.text, side="query"), seen=data.seen)
    text, image = start.text.cfg, start.image_cfg
    loader = make_image_loader(
        data.train,
        start.text.tokenizer,
        text.head,
        recipe_of(start.image),
        DataConfig(global_batch=cfg.data.global_batch),
        cfg.seed,
        max_length=cfg.text.max_length or None,
        augmentation=augmentation,
        threads=cfg.data.threads,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    check_attention("text", with_kernels(text, cfg.text.attention), [loader.text_length])
    patches = image.encoder.grid**2 + (image.encoder.family == "clip")
    check_attention("image", with_kernels(image, cfg.image.attention), [patches])
    for line in data.lines():
        say(line)
    counts = loader.texts.counts
    if counts.truncated:
        say(f"cut: {counts.truncated:,} captions at {loader.text_length} tokens")
    say(f"unknown tokens: {counts.unknown_share:.1%} in captions")
    check_coverage(
        counts,
        f"{cfg.data.language} captions",
        captions,
        start.text.tokenizer,
        # What a resumed run has begun, it ends.
        at_most=cfg.data.max_unknown if folder is None else None,
        flag="--data.max-unknown",
        remedy="name a text tower that reads them: --text.path",
        say=say,
    )

    tx, specs, run = make_optimizer(cfg.optimizer, cfg.training.steps), pair_specs(text, image, cfg.loss), cfg.run
    held = holds_texts(cfg, start, loader)

    def fill_caches(first_step: int) -> None:
        if held:
            pooled = start.interaction == "pooled"
            loader.read_texts_from(hold_texts(start.text, captions, cfg.text.max_length, pooled=pooled))

    student = shlex.quote(f"LANG=captions:{cfg.data.images[0]}")
    return Prepared(
        mesh=mesh,
        loader=loader,
        epoch_size=loader.epoch_size,
        params=pair_params(start, cfg.loss.bias),
        specs=specs,
        tx=tx,
        frozen=frozen_parts(cfg),
        step=make_image_text_step(cfg, text, image, mesh, tx),
        constants=(),
        evaluate=make_dev_metrics(data.dev, without_weights(start), cfg.data.language),
        models={"model": start},
        inputs=inputs,
        records={"images.json": data.report | {"unknown_captions": counts.unknown_share}},
        cost=lambda: RunCost(
            {"text": text, "image": image},
            trained={part: lambda params, part=part: params.get(part, {}) for part in ("text", "image")},
            unit="pair",
            columns="images, tokens of a caption",
            shape=lambda batch: shape_of(batch, loader.text_length),
            flops=lambda batch: {"step": image_text_flops(cfg, text, image, batch)},
            upper_bound=True,
            fill=fill_of(start, loader) if held else None,
        ),
        next_commands=[
            f"{program('export')} --run {shlex.quote(run)} --out FOLDER",
            f"{program('train')} --teacher.path {shlex.quote(run)} --data.bitext {student} --run STUDENT",
        ],
        fill_caches=fill_caches,
    )


def augmentation_of(cfg: ImageStageConfig) -> Augmentation | None:
    """The augmentation of training images; None if it is switched off.

    Raises:
      ConfigError: a range or a share is not valid.
    """
    settings = {each.name: getattr(cfg.augmentation, each.name) for each in fields(Augmentation)}
    found = Augmentation(**settings)
    return found if cfg.augmentation.enabled else None


def holds_texts(cfg: ImageStageConfig, start: TowerPair, loader: ImageLoader) -> bool:
    """Whether captions are encoded once, before the first step."""
    if not cfg.text.locked or cfg.text.projection:
        return False
    needed = held_bytes(start, loader.texts)
    if needed > cfg.text.hold_gib * GIB:
        say(
            f"captions: their vectors would take {needed / GIB:.1f} GiB, and text.hold_gib={cfg.text.hold_gib:g}; "
            "the text tower runs in every step"
        )
        return False
    return True


def without_weights(pair: TowerPair) -> TowerPair:
    return replace(pair, text=replace(pair.text, params={}), image=replace(pair.image, params={}))


def fill_of(start: TowerPair, loader: ImageLoader) -> CacheFill:
    """The captions that a dry run counts as encoded before the first step."""
    return CacheFill(
        "captions",
        len(loader.texts),
        start.text.cfg,
        start.text.params,
        side=lambda batch: batch.texts,
        filled=lambda batch: as_if_held(batch, start),
        kept=False,
    )


def shape_of(batch: ImageTextBatch, length: int) -> str:
    height, width = batch.images.pixels.shape[1:3]
    return f"{len(batch.picture)} of {height} x {width} pixels, {length}"

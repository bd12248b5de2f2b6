"""Every setting of an image-text teacher's training, as frozen dataclasses. Imports the standard library alone.

An English tower of texts and a tower of pictures learn to agree. Students are then taught by its texts, as by any other
teacher, and find pictures. Optimizer, steps, mesh and checkpoints have the settings of every run.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from optical_jax.config.losses import ImageTextLossConfig
from optical_jax.config.run import CheckpointConfig, MeshConfig, OptimizerConfig, TrainingConfig
from optical_jax.config.towers import Attention, Dtype, Remat

DEV_FIGURES = ("t2i R@1", "t2i R@5", "t2i R@10", "i2t R@1", "i2t R@5", "i2t R@10")
"""Figures of a dev line, captions asking for pictures (t2i) and pictures for captions; any may be
`checkpoint.best_metric`."""


@dataclass(frozen=True)
class TextSideConfig:
    path: str = ""
    """Folder, run or hub name of the tower of texts: an encoder of texts, or CLIP's, SigLIP's or a pair's."""
    locked: bool = True
    """Leave it as it is, so that its vectors of texts stay those that students learn from (LiT); the pictures learn to
    meet them. A new projection is trained all the same."""
    projection: int = 0
    """Width of a new projection, which starts at the principal directions of its vectors; 0 takes its own width."""
    pooling: Literal["none", "auto"] = "none"
    """`none`: a vector a token; `auto`: as its files say, such as one a text of CLIP. Runs and exports stay as they
    are."""
    max_length: int = 0
    """Captions are cut to so many tokens in training; 0 cuts them as the tower cuts queries."""
    hold_gib: float = 2.0
    """The captions' vectors of a locked tower are computed once, and held in memory if they take no more; else the
    tower runs in every step."""
    dtype: Dtype = "float32"
    attention: Attention = "auto"
    remat: Remat = "none"
    """What the backward pass computes again, to save memory: nothing, all but dense maps (dots), or layers (full)."""


@dataclass(frozen=True)
class ImageSideConfig:
    path: str = ""
    """Folder, run or hub name whose tower of pictures goes on; empty draws one of the size below."""
    locked: bool = False
    """Leave its encoder as it is; its projection is trained."""
    pooling: Literal["none", "auto", "mean", "cls"] = "none"
    """`none`: a vector a patch; `auto`: as its files say; else one a picture."""
    image_size: int = 96
    """Height and width in pixels that pictures are brought to; this and the next five are of a drawn tower."""
    patch_size: int = 12
    width: int = 192
    layers: int = 6
    heads: int = 3
    mlp_width: int = 768
    dtype: Dtype = "float32"
    attention: Attention = "auto"
    remat: Remat = "none"


DRAWN_SIZE = ("image_size", "patch_size", "width", "layers", "heads", "mlp_width")
"""Settings of `ImageSideConfig` that weights at its `path` bring along."""


@dataclass(frozen=True)
class ImageDataConfig:
    images: tuple[str, ...] = ()
    """Sets of pictures with captions: folders, or NAME:FOLDER (docs/images.md); all are learned from together."""
    splits: tuple[str, ...] = ("train",)
    """Of every set. With the dev split among them the teacher has seen the pictures that are asked for later, though
    never with another language's captions."""
    language: str = "en"
    """Of the captions."""
    dev_split: str = "dev"
    """Split of every set that dev figures are of; empty for none."""
    dev_pictures: int = 1000
    """At most so many pictures of each set, evenly spaced."""
    global_batch: int = 64
    """Pairs of a picture and a caption a step, over all devices."""
    threads: int = 4
    """Batches that are decoded at a time; each takes its memory."""
    check_pictures: bool = True
    """Decode every picture once before training, so that broken ones are all named then and not met on the way. Of
    millions it takes a while."""


@dataclass(frozen=True)
class AugmentationConfig:
    """How far pictures are changed in training; `data.pixels.Augmentation` from settings."""

    enabled: bool = True
    area: tuple[float, float] = (0.8, 1.0)
    """Least and most of the picture that a random part of it has; the part is stretched to the tower's size."""
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Width over height of that part."""
    flip: bool = False
    """Exchange left and right in every other picture. Captions say left and right."""
    brightness: float = 0.1
    """A factor between 1 - this and 1 + this; likewise the others."""
    contrast: float = 0.1
    saturation: float = 0.1


@dataclass(frozen=True)
class ImageStageConfig:
    """One training of an image-text teacher: python -m optical_jax image_teacher --config configs/images/teacher.py."""

    run: str = ""
    """Run folder; everything the run writes goes there."""
    seed: int = 0
    resume: Literal["never", "auto", "must"] = "auto"
    """What to do with an unfinished run in the folder."""
    text: TextSideConfig = field(default_factory=TextSideConfig)
    image: ImageSideConfig = field(default_factory=ImageSideConfig)
    data: ImageDataConfig = field(default_factory=ImageDataConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    loss: ImageTextLossConfig = field(default_factory=ImageTextLossConfig)
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(peak_lr=1e-3, weight_decay=0.05))
    training: TrainingConfig = field(default_factory=TrainingConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    checkpoint: CheckpointConfig = field(default_factory=lambda: CheckpointConfig(best_metric="t2i R@5"))
    licences: tuple[str, ...] = ()
    """Licence of each part the weights are made of, for the model card: NAME=LICENCE."""
    cache_dir: str = ""
    """Folder for downloads from the hub; empty leaves it to HF_HOME."""

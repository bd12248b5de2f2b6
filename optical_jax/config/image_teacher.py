"""Settings of an image-text teacher's training (contrastive, CLIP-style), as frozen dataclasses; standard library only.

An English text tower and an image tower are trained to agree. Students distilled from its text tower then also
retrieve images. Optimizer, steps, mesh and checkpoints have the settings of every run.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from optical_jax.config.losses import ImageTextLossConfig
from optical_jax.config.run import CheckpointConfig, MeshConfig, OptimizerConfig, TrainingConfig
from optical_jax.config.towers import Attention, Dtype, Remat
from optical_jax.config.vocabulary import MAX_UNKNOWN

IMAGE_DEV_METRICS = ("t2i R@1", "t2i R@5", "t2i R@10", "i2t R@1", "i2t R@5", "i2t R@10")
"""Dev metrics, text-to-image (t2i) and image-to-text (i2t) recall; each may be `checkpoint.best_metric`."""


@dataclass(frozen=True)
class TextSideConfig:
    path: str = ""
    """Folder, run or hub name of the text tower: a text encoder, or that of CLIP, SigLIP or a dual encoder."""
    locked: bool = True
    """Freeze it, so that its text vectors stay those that students learn from (LiT) and only the image tower adapts. A
    new projection is trained all the same."""
    projection: int = 0
    """Width of a new projection, initialised with the principal directions of the tower's vectors; 0 keeps the tower's
    own width."""
    pooling: Literal["none", "auto"] = "none"
    """`none`: one vector per token; `auto`: as the checkpoint says, such as one per text for CLIP. Runs and exports
    keep their own pooling."""
    max_length: int = 0
    """Truncate captions to this many tokens in training; 0 uses the tower's query length."""
    hold_gib: float = 2.0
    """The caption vectors of a frozen tower are computed once and kept in memory up to this size in GiB; above it, the
    tower runs in every step."""
    dtype: Dtype = "float32"
    attention: Attention = "auto"
    remat: Remat = "none"
    """What the backward pass recomputes to save memory: nothing, all but dense layers (dots), or all layers (full)."""


@dataclass(frozen=True)
class ImageSideConfig:
    path: str = ""
    """Folder, run or hub name of the image tower to start from; empty initialises one of the size below at random."""
    locked: bool = False
    """Freeze its encoder; its projection is trained."""
    pooling: Literal["none", "auto", "mean", "cls"] = "none"
    """`none`: one vector per patch; `auto`: as the checkpoint says; else one per image."""
    image_size: int = 96
    """Height and width in pixels that images are resized to; this and the next five are for random initialisation."""
    patch_size: int = 12
    width: int = 192
    layers: int = 6
    heads: int = 3
    mlp_width: int = 768
    dtype: Dtype = "float32"
    attention: Attention = "auto"
    remat: Remat = "none"


DRAWN_SIZE = ("image_size", "patch_size", "width", "layers", "heads", "mlp_width")
"""Settings of `ImageSideConfig` that a checkpoint at its `path` defines itself."""


@dataclass(frozen=True)
class ImageDataConfig:
    images: tuple[str, ...] = ()
    """Sets of captioned images: folders, or NAME:FOLDER (docs/images.md); training uses all of them together."""
    splits: tuple[str, ...] = ("train",)
    """Training splits, of every set. If the dev split is among them, the teacher has seen the images that are searched
    later, though never with captions in another language."""
    language: str = "en"
    """Language of the captions."""
    dev_split: str = "dev"
    """Split of every set used for dev metrics; empty for none."""
    dev_pictures: int = 1000
    """Largest number of dev images per set, evenly spaced."""
    global_batch: int = 64
    """Image-caption pairs per step, over all devices."""
    threads: int = 4
    """Batches decoded in parallel; each takes its own memory."""
    max_unknown: float = MAX_UNKNOWN
    """Largest share (0 to 1) of the captions' tokens that the text tower's tokenizer may not know ([UNK]);
    more is an error before the first step. Above 0.02 there is a warning."""
    check_pictures: bool = True
    """Decode every image once before training, so that all broken files are reported at the start. Slow for millions of
    images."""


@dataclass(frozen=True)
class AugmentationConfig:
    """Image augmentation in training: random crop, flip and colour jitter (see `data.pixels.Augmentation`)."""

    enabled: bool = True
    area: tuple[float, float] = (0.8, 1.0)
    """Smallest and largest share of the image's area in a random crop, which is resized to the tower's input size."""
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Smallest and largest aspect ratio (width over height) of that crop."""
    flip: bool = False
    """Flip images horizontally with probability 1/2. Wrong for captions that mention left and right."""
    brightness: float = 0.1
    """Random factor between 1 - this and 1 + this; likewise contrast and saturation."""
    contrast: float = 0.1
    saturation: float = 0.1


@dataclass(frozen=True)
class ImageStageConfig:
    """Train an image-text teacher: python -m optical_jax image_teacher --config configs/images/teacher.py."""

    run: str = ""
    """Run folder for everything the run writes."""
    seed: int = 0
    resume: Literal["never", "auto", "must"] = "auto"
    """Whether to resume an unfinished run in the folder."""
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
    """Licence of each source of the weights, for the model card: NAME=LICENCE."""
    cache_dir: str = ""
    """Folder for downloads from the hub; empty uses HF_HOME."""

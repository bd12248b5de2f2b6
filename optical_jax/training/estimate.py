"""Cost estimates of a training: parameters, FLOPs a step, memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optical_jax.config import (
    AnyEncoderConfig,
    Config,
    ImageStageConfig,
    ImageTowerConfig,
    LossConfig,
    Remat,
    TowerConfig,
)
from optical_jax.config.validation import parse_added_losses
from optical_jax.losses.batch_scores import KEPT_NUMBERS
from optical_jax.models.encoders import packs
from optical_jax.models.late_interaction import tower_specs
from optical_jax.ot.gromov import LINEARISATIONS
from optical_jax.params import count_params
from optical_jax.types import Batch, ImageTextBatch, PackedInputs, Params, TextInputs, TokenVectors


@dataclass(frozen=True)
class Cost:
    """FLOPs of one step on a batch, padding included; a multiply and add counts 2."""

    student_flops: float
    """Forward and backward (twice the forward)."""
    teacher_flops: float
    transport_flops: float

    @property
    def flops(self) -> float:
        return self.student_flops + self.teacher_flops + self.transport_flops


@dataclass
class RunCost:
    """What a dry run cannot measure: names, shapes and FLOPs of one training."""

    towers: Mapping[str, TowerConfig]
    trained: Mapping[str, Callable[[Params], Params]]
    """By tower, its part of the trained parameters; none for a frozen teacher, which is not in them."""
    unit: str
    """What a batch counts: "pair" or "query"."""
    columns: str
    """Heading of `shape`."""
    shape: Callable[[Any], str]
    """f(batch): the sizes that a compiled step is for."""
    flops: Callable[[Any], Mapping[str, float]]
    """f(batch): FLOPs of one step, by part."""
    upper_bound: bool = False
    """True if `flops` does not subtract what frozen layers save."""
    sampled: int = 1
    """Batches looked at to learn how often each shape occurs."""
    fill: CacheFill | None = None
    stand_in: Callable[[], None] = lambda: None
    """Called first: gives the loader made-up vectors for a cache that only a training fills."""
    notes: Sequence[str] = ()
    """Lines printed as they are."""


@dataclass
class CacheFill:
    """Texts that are encoded once, before the first step."""

    name: str
    """Of the cache."""
    texts: int
    tower: TowerConfig
    params: Params
    """Of the tower."""
    side: Callable[[Any], Any]
    """f(batch): what is encoded of it; TokenVectors where that is done."""
    filled: Callable[[Any], Any]
    """f(batch): the batch with vectors of the same shapes instead."""
    kept: bool = True
    """True for a cache on disk, which the next run finds."""


def encoder_forward_flops(cfg: TowerConfig, length: int) -> float:
    """Forward FLOPs of one row of `length` tokens: encoder, and projection if it is applied per token.

    Embedding look-ups and norms are not counted.
    """
    e: AnyEncoderConfig = cfg.encoder
    projected = cfg.head.projection if cfg.head.pooling == "none" else 0
    matrices = e.layers * (4 * e.width * e.width + 2 * e.width * e.mlp_width) + e.width * projected
    return 2.0 * length * matrices + attention_flops(e, length)


def attention_flops(cfg: AnyEncoderConfig, length: int) -> float:
    """FLOPs of attention scores and of the weighted sum of values."""
    return 2.0 * length * cfg.layers * 2 * length * cfg.width


def recomputed_flops(cfg: TowerConfig, length: int, remat: Remat) -> float:
    """FLOPs recomputed in the backward pass of one row (rematerialisation)."""
    forward = {"none": 0.0, "dots": attention_flops(cfg.encoder, length), "full": encoder_forward_flops(cfg, length)}
    return forward[remat]


def side_forward_flops(side: TextInputs | PackedInputs | TokenVectors, cfg: TowerConfig) -> float:
    """Forward FLOPs of one side of a batch; 0 if its vectors are precomputed."""
    if isinstance(side, TokenVectors):
        return 0.0
    rows, length = side.ids.shape
    if not packs(cfg.encoder):
        rows, length = len(side.keep), cfg.encoder.max_length
    pooled = 2.0 * len(side.keep) * cfg.encoder.width * cfg.head.projection if cfg.head.pooling != "none" else 0.0
    return rows * encoder_forward_flops(cfg, length) + pooled


def image_forward_flops(cfg: ImageTowerConfig) -> float:
    """Forward FLOPs of one image of the tower's native size, patch embedding included."""
    e = cfg.encoder
    patches = 2.0 * e.grid**2 * e.patch_size**2 * 3 * e.width
    pooled = 2.0 * e.width * cfg.head.projection if cfg.head.pooling != "none" else 0.0
    return patches + encoder_forward_flops(cfg, e.grid**2 + (e.family == "clip")) + pooled


def image_text_flops(cfg: ImageStageConfig, text: TowerConfig, image: ImageTowerConfig, batch: ImageTextBatch) -> float:
    """FLOPs of one step of an image-text teacher; frozen towers run forward only."""
    B, texts = len(batch.picture), batch.texts
    of_texts = side_forward_flops(texts, text) * (1 if cfg.text.locked else 3)
    of_images = B * image_forward_flops(image) * (1 if cfg.image.locked else 3)
    again = 0.0 if cfg.image.locked else B * recomputed_flops(image, image.encoder.grid**2, cfg.image.remat)
    S = (texts.mask if isinstance(texts, TokenVectors) else texts.keep).shape[1] if text.head.pooling == "none" else 1
    T = image.encoder.grid**2 if image.head.pooling == "none" else 1
    cells = B * B * (S * T if cfg.loss.interaction == "tokens" else 1)
    return of_texts + of_images + again + 3 * 2.0 * cells * text.vector_width


def step_cost(cfg: Config, student: TowerConfig, teacher: TowerConfig, batch: Batch) -> Cost:
    """FLOPs of one step of the student on a batch of this shape."""
    of_student, of_teacher = side_forward_flops(batch.student, student), side_forward_flops(batch.teacher, teacher)
    held = batch.teacher.mask if isinstance(batch.teacher, TokenVectors) else batch.teacher.keep
    S = batch.student.keep.shape[1] if student.head.pooling == "none" else 1
    T = held.shape[1] if teacher.head.pooling == "none" else 1
    # Every loss reports greedy_cosine of its tokens.
    told = 2.0 * len(held) * S * T * student.vector_width
    names = (cfg.loss.name, *parse_added_losses(cfg.loss))
    of_losses = sum(loss_flops(name, cfg.loss, len(held), S, T, student.vector_width) for name in names)
    rows, length = batch.student.ids.shape
    again = rows * recomputed_flops(student, length, cfg.student.remat)
    return Cost(3 * of_student + again, of_teacher, told + of_losses)


def loss_flops(name: str, cfg: LossConfig, B: int, S: int, T: int, E: int) -> float:
    """FLOPs that one loss adds on a batch of B pairs: matrix products, forward and backward, and the solver."""
    cells = float(B * S * T)
    # An iteration multiplies and adds every cell twice, for rows and for columns.
    iterations = 4.0 * cells * cfg.ot.iterations
    if name == "transport":
        iterates = cfg.ot.plan in ("sinkhorn", "unbalanced", "partial", "ipot")
        return 2 * 2.0 * cells * E + (iterations if iterates else 0.0)
    if name == "ot_contrastive":
        return B * loss_flops("transport", cfg, B, S, T, E)
    if name == "gromov_wasserstein":
        crossed = 2.0 * cells * (S + T)
        inner = 3 * 2.0 * B * S * S * E + 2.0 * B * T * T * E
        return 2 * 2.0 * cells * E + inner + LINEARISATIONS * (iterations + crossed) + 2 * crossed
    # Between all texts: there, back, and where the blocks were not kept, there again.
    of_texts = 2 + (B * cells > KEPT_NUMBERS)
    return {
        "greedy": 2 * 2.0 * cells * E,
        "contrastive": of_texts * 2.0 * B * cells * E,
        "pooled_contrastive": 2 * 2.0 * B * B * E,
        "score_kl": 2.0 * B * (of_texts * cells + B * T * T) * E,
        "relational": 6 * 2.0 * B * B * B * E,
        "pooled_cosine": 0.0,
        "pooled_mse": 0.0,
    }[name]


def model_flops(student: TowerConfig, teacher: TowerConfig, student_tokens: float, teacher_tokens: float) -> float:
    """Model FLOPs as MFU counts them: 6 N a student token, 2 N a teacher token, N without embeddings."""
    return 6.0 * parameter_counts(student)["body"] * student_tokens + (
        2.0 * parameter_counts(teacher)["body"] * teacher_tokens
    )


def parameter_counts(cfg: TowerConfig) -> dict[str, int]:
    """Parameters: all, and those outside the embedding tables, which are what costs FLOPs."""
    specs = tower_specs(cfg)
    return {
        "all": count_params(specs),
        "body": count_params({**specs, "encoder": {"layers": specs["encoder"]["layers"]}}),
    }


def compiled_memory_bytes(compiled: Any) -> dict[str, int] | None:
    """Bytes per device of a compiled step, from XLA's memory analysis; None if there is none."""
    analysis = compiled.memory_analysis()
    if analysis is None:
        return None
    arguments, temporary = analysis.argument_size_in_bytes, analysis.temp_size_in_bytes
    output, shared = analysis.output_size_in_bytes, analysis.alias_size_in_bytes
    return {"arguments": arguments, "temporary": temporary, "peak": arguments + temporary + output - shared}

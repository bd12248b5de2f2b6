"""What a run will cost, told before any is spent: parameters, FLOPs a step, memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from optical_jax.config import Config, EncoderConfig, Remat, TowerConfig
from optical_jax.models.late_interaction import tower_specs
from optical_jax.params import count_params
from optical_jax.types import Batch, PackedInputs, TextInputs, TokenVectors


@dataclass(frozen=True)
class Cost:
    """Of one step on a batch of some shape, padding included; FLOPs counted by hand, 2 for a multiply and add."""

    student_flops: float
    """Forward and backward (twice the forward)."""
    teacher_flops: float
    transport_flops: float

    @property
    def flops(self) -> float:
        return self.student_flops + self.teacher_flops + self.transport_flops


def encoder_forward_flops(cfg: TowerConfig, length: int) -> float:
    """One row of `length` tokens through the encoder, and through the projection where every token has its own.

    Embedding look-ups and norms count nothing.
    """
    e: EncoderConfig = cfg.encoder
    projected = cfg.head.projection if cfg.head.pooling == "none" else 0
    matrices = e.layers * (4 * e.width * e.width + 2 * e.width * e.mlp_width) + e.width * projected
    return 2.0 * length * matrices + attention_flops(e, length)


def attention_flops(cfg: EncoderConfig, length: int) -> float:
    """Of that, scores and what is read by them."""
    return 2.0 * length * cfg.layers * 2 * length * cfg.width


def recomputed_flops(cfg: TowerConfig, length: int, remat: Remat) -> float:
    """What the backward pass of one row computes again."""
    forward = {"none": 0.0, "dots": attention_flops(cfg.encoder, length), "full": encoder_forward_flops(cfg, length)}
    return forward[remat]


def side_forward_flops(side: TextInputs | PackedInputs | TokenVectors, cfg: TowerConfig) -> float:
    """One side of a batch through its tower; nothing where its vectors are there already."""
    if isinstance(side, TokenVectors):
        return 0.0
    rows, length = side.ids.shape
    pooled = 2.0 * len(side.keep) * cfg.encoder.width * cfg.head.projection if cfg.head.pooling != "none" else 0.0
    return rows * encoder_forward_flops(cfg, length) + pooled


def step_cost(cfg: Config, student: TowerConfig, teacher: TowerConfig, batch: Batch) -> Cost:
    """What one step on a batch of this shape takes."""
    of_student, of_teacher = side_forward_flops(batch.student, student), side_forward_flops(batch.teacher, teacher)
    held = batch.teacher.mask if isinstance(batch.teacher, TokenVectors) else batch.teacher.keep
    S = batch.student.keep.shape[1] if student.head.pooling == "none" else 1
    T = held.shape[1] if teacher.head.pooling == "none" else 1
    cells = float(len(held) * S * T)
    # Every loss tells greedy_cosine of its tokens; that of pooled vectors is not differentiated through them.
    similarity = (1 if cfg.loss.name == "pooled_cosine" else 3) * 2.0 * cells * student.vector_width
    # An iteration multiplies and adds every cell twice, for rows and for columns.
    iterates = cfg.loss.name == "transport" and cfg.loss.ot.plan == "sinkhorn"
    solver = 4.0 * cells * cfg.loss.ot.iterations if iterates else 0.0
    rows, length = batch.student.ids.shape
    again = rows * recomputed_flops(student, length, cfg.student.remat)
    return Cost(3 * of_student + again, of_teacher, similarity + solver)


def model_flops(student: TowerConfig, teacher: TowerConfig, student_tokens: float, teacher_tokens: float) -> float:
    """The usual count that MFU is stated in: 6 N a student token and 2 N a teacher token, N without embeddings."""
    return 6.0 * parameter_counts(student)["body"] * student_tokens + (
        2.0 * parameter_counts(teacher)["body"] * teacher_tokens
    )


def parameter_counts(cfg: TowerConfig) -> dict[str, int]:
    """All parameters, and those outside the embedding tables (they are what costs FLOPs)."""
    specs = tower_specs(cfg)
    return {
        "all": count_params(specs),
        "body": count_params({**specs, "encoder": {"layers": specs["encoder"]["layers"]}}),
    }


def compiled_memory_bytes(compiled: Any) -> dict[str, int] | None:
    """Bytes one device needs for a compiled step, as the compiler planned them; None where it does not tell."""
    analysis = compiled.memory_analysis()
    if analysis is None:
        return None
    arguments, temporary = analysis.argument_size_in_bytes, analysis.temp_size_in_bytes
    output, shared = analysis.output_size_in_bytes, analysis.alias_size_in_bytes
    return {"arguments": arguments, "temporary": temporary, "peak": arguments + temporary + output - shared}

"""What a run will cost, told before any is spent: parameters, FLOPs a step, memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from optical_jax.config import Config, EncoderConfig, Remat, TowerConfig
from optical_jax.models.late_interaction import tower_specs
from optical_jax.params import count_params
from optical_jax.types import Batch, TokenVectors


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
    """One text of `length` tokens through encoder and projection; embedding look-ups and norms count nothing."""
    e: EncoderConfig = cfg.encoder
    matrices = e.layers * (4 * e.width * e.width + 2 * e.width * e.mlp_width) + e.width * cfg.head.projection
    return 2.0 * length * matrices + attention_flops(e, length)


def attention_flops(cfg: EncoderConfig, length: int) -> float:
    """Of that, scores and what is read by them."""
    return 2.0 * length * cfg.layers * 2 * length * cfg.width


def recomputed_flops(cfg: TowerConfig, length: int, remat: Remat) -> float:
    """What the backward pass of one text computes again."""
    forward = {"none": 0.0, "dots": attention_flops(cfg.encoder, length), "full": encoder_forward_flops(cfg, length)}
    return forward[remat]


def step_cost(cfg: Config, student: TowerConfig, teacher: TowerConfig, batch: Batch) -> Cost:
    """What one step on a batch of this shape takes."""
    forward = [
        0.0 if isinstance(side, TokenVectors) else len(side.ids) * encoder_forward_flops(tower, side.ids.shape[1])
        for side, tower in ((batch.student, student), (batch.teacher, teacher))
    ]
    of_teacher = batch.teacher.mask if isinstance(batch.teacher, TokenVectors) else batch.teacher.keep
    cells = float(batch.student.keep.size * of_teacher.shape[1])
    similarity = 3 * 2.0 * cells * student.vector_width
    # An iteration multiplies and adds every cell twice, for rows and for columns.
    solver = 4.0 * cells * cfg.loss.ot.iterations if cfg.loss.name == "transport" else 0.0
    rows, length = batch.student.ids.shape
    again = rows * recomputed_flops(student, length, cfg.student.remat)
    return Cost(3 * forward[0] + again, forward[1], similarity + solver)


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

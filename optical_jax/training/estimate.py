"""What a run will cost, told before any is spent: parameters, FLOPs a pair, memory, time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from optical_jax.config import Config, EncoderConfig, TowerConfig
from optical_jax.models.late_interaction import tower_specs
from optical_jax.params import count_params


@dataclass(frozen=True)
class Cost:
    """Per pair at one padded length; FLOPs counted by hand, 2 for a multiply and add."""

    length: int
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
    attention = e.layers * 2 * length * e.width
    return 2.0 * length * (matrices + attention)


def cost_per_pair(cfg: Config, student: TowerConfig, teacher: TowerConfig, length: int) -> Cost:
    cells = float(length * length)
    similarity = 3 * 2.0 * cells * student.vector_width
    # An iteration in the log domain reads every cell twice: add, exp and sum, for rows and for columns.
    solver = 6.0 * cells * cfg.loss.ot.iterations if cfg.loss.name == "transport" else 0.0
    remat = 1 if student.encoder.remat else 0
    return Cost(
        length,
        (3 + remat) * encoder_forward_flops(student, length),
        encoder_forward_flops(teacher, length),
        similarity + solver,
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

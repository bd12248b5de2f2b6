"""Optimizer, training, mesh and checkpoint settings that every training has; config to JSON."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from dataclasses import dataclass
from typing import Any, Literal

from optical_jax.errors import ConfigError


@dataclass(frozen=True)
class OptimizerConfig:
    peak_lr: float = 5e-4
    warmup_steps: int = 100
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """Decay of the learning rate after warm-up."""
    final_lr_fraction: float = 0.0
    """Learning rate at the end of the decay, one step after the last, as a share of peak_lr."""
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.01
    """Decoupled weight decay (AdamW) of kernels and embeddings; biases and norms are exempt."""
    clip_norm: float = 1.0
    """Gradient clipping by this global norm; 0 for none."""


@dataclass(frozen=True)
class TrainingConfig:
    steps: int = 1000
    """Optimizer steps; 0 trains nothing, for student.head=fitted alone."""
    accumulate: int = 1
    """Gradient accumulation: number of parts a batch is split into, to save memory."""
    log_every: int = 20
    """Steps between lines of metrics.jsonl."""
    tracker: Literal["none", "tensorboard", "wandb"] = "none"
    """Mirror metrics.jsonl to TensorBoard files in the run folder or to W&B (extra `tracking`)."""
    dev_every: int = 200
    """Steps between evaluations on the dev split; 0 for the end only."""
    deterministic: bool = False
    """Use deterministic XLA operations on GPU, for bit-identical results at lower speed."""


@dataclass(frozen=True)
class MeshConfig:
    data: int = -1
    """Devices for data parallelism; -1 takes those that fsdp and tensor leave."""
    fsdp: int = 1
    """Devices that shard parameters and optimizer state, and the batch too."""
    tensor: int = 1
    """Devices for tensor parallelism: attention heads and feed-forward widths are split."""


@dataclass(frozen=True)
class CheckpointConfig:
    every: int = 200
    """Steps between checkpoints; the last step is always saved."""
    keep: int = 2
    """Number of newest checkpoints to keep."""
    keep_best: bool = True
    """Also keep the checkpoint with the best dev metric."""
    best_metric: str = "RR@10"
    """Dev metric (mean over languages) that decides which is best."""
    copy_teacher: bool = True
    """Copy the teacher's weights into the run; false records their path and sha256 and refuses another file."""


def expand_variables(value: str, name: str) -> str:
    """Expand environment variables, $NAME or ${NAME}, in `value`; in the name of a file that exists, $ is a character.

    Raises:
      ConfigError: a variable is not set, or empty.
    """
    if "$" not in value or _names_a_file(value):
        return value
    expanded = os.path.expandvars(value)
    for variable in re.findall(r"\$\{?(\w+)", value):
        # A file may have the rest in its name: $DATA/us$5.tsv.
        if not os.environ.get(variable) and not _names_a_file(expanded):
            raise ConfigError(f"{name}={value}: ${variable} is not set; export {variable}=FOLDER")
    return expanded


def _names_a_file(value: str) -> bool:
    """Whether a path exists: a value, the folder of NAME:FOLDER, or the file of FILE#PART."""
    paths = value, value.partition(":")[2], value.rpartition("#")[0]
    return any(path and os.path.lexists(os.path.expanduser(path)) for path in paths)


def expand_path(path: str, name: str) -> str:
    """Expand environment variables and ``~`` in a path; raises as `expand_variables` does."""
    return os.path.expanduser(expand_variables(path, name))


def to_json(cfg: Any) -> dict[str, Any]:
    """A config dataclass as plain JSON values."""
    return json.loads(json.dumps(dataclasses.asdict(cfg)))

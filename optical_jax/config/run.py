"""Settings that every training has, and a config as JSON."""

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
    """How the learning rate falls after warm-up."""
    final_lr_fraction: float = 0.0
    """Where the decay ends, one step after the last, as a share of peak_lr."""
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.01
    """On kernels and embeddings; biases and norms are left out."""
    clip_norm: float = 1.0
    """Gradients are scaled down to this global norm; 0 for no clipping."""


@dataclass(frozen=True)
class TrainingConfig:
    steps: int = 1000
    """0, for student.head=fitted alone, trains nothing."""
    accumulate: int = 1
    """Parts a batch is worked through in, for memory."""
    log_every: int = 20
    """Steps between lines of metrics.jsonl."""
    tracker: Literal["none", "tensorboard", "wandb"] = "none"
    """Mirror metrics.jsonl to TensorBoard files in the run folder or to W&B (extra `tracking`)."""
    dev_every: int = 200
    """Steps between retrievals over the dev split; 0 for the end only."""
    deterministic: bool = False
    """Ask XLA for bit-identical results on GPU, at a cost in speed."""


@dataclass(frozen=True)
class MeshConfig:
    data: int = -1
    """Devices along the batch; -1 takes what fsdp and tensor leave."""
    fsdp: int = 1
    """Devices that share parameters and optimizer state, and split the batch too."""
    tensor: int = 1
    """Devices that split heads and feed-forward widths."""


@dataclass(frozen=True)
class CheckpointConfig:
    every: int = 200
    """Steps between checkpoints; the last step is always saved."""
    keep: int = 2
    """Newest checkpoints that stay."""
    keep_best: bool = True
    """Also keep the checkpoint with the best dev figure."""
    best_metric: str = "RR@10"
    """Dev figure (mean over languages) that decides which is best."""
    copy_teacher: bool = True
    """Copy the teacher's weights into the run; false keeps its path and sha256 and refuses another file."""


def expand_variables(value: str, name: str) -> str:
    """`value` with every $NAME or ${NAME} from the environment.

    Raises:
      ConfigError: a variable is not set, or empty.
    """
    for variable in re.findall(r"\$\{?(\w+)", value):
        if not os.environ.get(variable):
            raise ConfigError(f"{name}={value}: ${variable} is not set; export {variable}=FOLDER")
    return os.path.expandvars(value)


def expand_path(path: str, name: str) -> str:
    """A path with its variables and ``~`` filled in; raises as `expand_variables` does."""
    return os.path.expanduser(expand_variables(path, name))


def to_json(cfg: Any) -> dict[str, Any]:
    """A config dataclass as plain JSON values."""
    return json.loads(json.dumps(dataclasses.asdict(cfg)))

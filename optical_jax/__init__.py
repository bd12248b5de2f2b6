"""optical_jax: an English late-interaction retriever learns a new language from bitext, by optimal transport.

The public names are imported on first use, so that ``import optical_jax.config`` and ``--help`` stay fast:

- `load(path, side)`: a tower from a run, a checkpoint folder or a hub name
- `encode(tower, texts)`: texts, or images, to `TokenVectors`
- `encode_images(tower, images, ids)`: many image files, batch by batch
- `hidden_states(tower, ids, mask)`: the encoder's last layer
- `maxsim(queries, documents)`: late-interaction scores
- `load_pair(folder)`, `save_pair(pair, folder)`: a dual encoder of texts and images
- `read_metrics(path)`: the records of a run's metrics.jsonl
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optical_jax.retrieval.scoring import maxsim
    from optical_jax.runs.load import load
    from optical_jax.runs.metrics import read_metrics
    from optical_jax.towers.images import encode_images
    from optical_jax.towers.pair import load_pair, save_pair
    from optical_jax.towers.tower import Tower, encode, hidden_states
    from optical_jax.types import TokenVectors

__version__ = "0.1.0"

_HOMES = {
    "load": "optical_jax.runs.load",
    "encode": "optical_jax.towers.tower",
    "encode_images": "optical_jax.towers.images",
    "hidden_states": "optical_jax.towers.tower",
    "load_pair": "optical_jax.towers.pair",
    "maxsim": "optical_jax.retrieval.scoring",
    "read_metrics": "optical_jax.runs.metrics",
    "save_pair": "optical_jax.towers.pair",
    "Tower": "optical_jax.towers.tower",
    "TokenVectors": "optical_jax.types",
}

__all__ = [
    "TokenVectors",
    "Tower",
    "encode",
    "encode_images",
    "hidden_states",
    "load",
    "load_pair",
    "maxsim",
    "read_metrics",
    "save_pair",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        # Otherwise transformers warns at its import that PyTorch is missing, which is not needed here.
        os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'optical_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])

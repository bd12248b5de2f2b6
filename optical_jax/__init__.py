"""optical_jax: an English late-interaction retriever learns a new language from bitext, by optimal transport.

The public names are imported on first use, so that ``import optical_jax.config`` and ``--help`` stay fast:

- `load(path, side)`: a tower from a run, a checkpoint folder or a hub name
- `encode(tower, texts)`: texts, or pictures, to `TokenVectors`
- `hidden_states(tower, ids, mask)`: the encoder's last layer
- `maxsim(queries, documents)`: late-interaction scores
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optical_jax.retrieval.scoring import maxsim as maxsim
    from optical_jax.runs.load import load as load
    from optical_jax.towers.tower import Tower as Tower
    from optical_jax.towers.tower import encode as encode
    from optical_jax.towers.tower import hidden_states as hidden_states
    from optical_jax.types import TokenVectors as TokenVectors

__version__ = "0.1.0"

_HOMES = {
    "load": "optical_jax.towers.tower",
    "encode": "optical_jax.towers.tower",
    "hidden_states": "optical_jax.towers.tower",
    "Tower": "optical_jax.towers.tower",
    "maxsim": "optical_jax.retrieval.scoring",
    "TokenVectors": "optical_jax.types",
}

__all__ = ["TokenVectors", "Tower", "encode", "hidden_states", "load", "maxsim"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'optical_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])

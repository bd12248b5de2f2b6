"""Load a tower from a model folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from optical_jax.config import EncoderConfig, ImageTowerConfig
from optical_jax.errors import ConfigError
from optical_jax.models.formats.pretrained import Model
from optical_jax.towers.tower import Tower

if TYPE_CHECKING:
    from optical_jax.towers.tower import Side


Part = Literal["auto", "student", "teacher", "text", "image"]
Pooling = Literal["none", "auto", "mean", "cls"]


def load_tower(model: Model, side: Side, pooling: Pooling = "none", part: Part = "auto") -> Tower:
    """Load one tower of a model, with its tokenizer or its image preprocessing; arguments as of `optical_jax.load`.

    Raises:
      ConfigError: as `Model.tower`; or the tokenizer is of another model.
    """
    from optical_jax.data.pixels import find_recipe
    from optical_jax.data.tokenization import load_tokenizer

    if part not in ("text", "image"):
        part = model.parts[-1] if side == "document" else model.parts[0]
    found = model.tower(part, pooling)
    tokenizer = None if found.tokenizer_path is None else load_tokenizer(found.tokenizer_path)
    if tokenizer is not None:
        check_vocabulary(tokenizer, found.cfg.encoder, model.path)
    recipe = find_recipe(found.folder) if isinstance(found.cfg, ImageTowerConfig) else None
    return Tower(params=found.params, cfg=found.cfg, tokenizer=tokenizer, side=side, recipe=recipe)


def check_vocabulary(tokenizer: Any, cfg: EncoderConfig, source: str) -> None:
    """Refuse a tokenizer with ids beyond the embedding table, which JAX would clamp silently.

    Raises:
      ConfigError: with both sizes.
    """
    most = max(tokenizer.get_vocab().values())
    if most >= cfg.vocab_size:
        raise ConfigError(
            f"{source}: the tokenizer has ids up to {most}, the embedding table {cfg.vocab_size} rows; "
            "they belong to different models"
        )

"""Load a tower from a checkpoint folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from optical_jax.config import EncoderConfig, ImageTowerConfig
from optical_jax.errors import ConfigError
from optical_jax.towers.tower import Tower

if TYPE_CHECKING:
    from optical_jax.towers.tower import Side


Part = Literal["auto", "student", "teacher", "text", "image"]
Pooling = Literal["none", "auto", "mean", "cls"]


def load_from_folder(
    path: str | Path, side: Side, cache_dir: str | None = None, pooling: Pooling = "none", part: Part = "auto"
) -> Tower:
    from optical_jax.data.pixels import find_recipe
    from optical_jax.data.tokenization import load_tokenizer
    from optical_jax.models.formats.pretrained import load_pretrained, parts_of

    if part not in ("text", "image"):
        there = parts_of(str(path), cache_dir)
        part = there[-1] if side == "document" else there[0]
    found = load_pretrained(str(path), pooling=pooling, part=part, cache_dir=cache_dir)
    tokenizer = None if found.tokenizer_path is None else load_tokenizer(found.tokenizer_path)
    if tokenizer is not None:
        check_vocabulary(tokenizer, found.cfg.encoder, str(path))
    recipe = find_recipe(found.folder) if isinstance(found.cfg, ImageTowerConfig) else None
    return Tower(params=found.params, cfg=found.cfg, tokenizer=tokenizer, side=side, recipe=recipe)


def check_vocabulary(tokenizer: Any, cfg: EncoderConfig, source: str) -> None:
    """Refuse a tokenizer with ids beyond the embedding table: look-ups under jit would be clamped in silence.

    Raises:
      ConfigError: names both sizes.
    """
    most = max(tokenizer.get_vocab().values())
    if most >= cfg.vocab_size:
        raise ConfigError(
            f"{source}: the tokenizer has ids up to {most}, the embedding table {cfg.vocab_size} rows; "
            "they belong to different models"
        )

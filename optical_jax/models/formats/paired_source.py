"""CLIP and SigLIP checkpoints, of one tower or both: Hugging Face folders and big_vision's .npz files."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from optical_jax.config import TowerConfig
from optical_jax.errors import ConfigError
from optical_jax.files import OWN_CONFIG
from optical_jax.models.encoders import poolings
from optical_jax.models.formats.big_vision import BigVision
from optical_jax.models.formats.hf_heads import PieceIds, Pooling
from optical_jax.models.formats.hf_weights import Weights, read_json
from optical_jax.models.formats.pair_configs import MODEL_TYPES, Part, paired_configs, part_of
from optical_jax.models.formats.pair_names import DROPPED, LOGITS, match_paired, projection_name, read_paired
from optical_jax.models.formats.tower_json import tower_config
from optical_jax.types import Params

log = logging.getLogger(__name__)


class PairedSource(NamedTuple):
    """Towers of one checkpoint; weights are read by `read`."""

    name: str
    towers: dict[Part, TowerConfig]
    """Configs as trained, or as exported."""
    read: Callable[[TowerConfig], Params]
    """Reads the parameters of one of `towers`."""
    read_logits: Callable[[], dict[str, np.ndarray]]
    """Reads logit_scale and, for SigLIP, logit_bias; empty for a single tower."""
    folder: Path
    """Folder of the tokenizer, if there is one."""
    exported: bool
    """Written by `export_pair`, so that its own settings hold."""


def open_paired(path: Path) -> PairedSource | None:
    """Open a CLIP or SigLIP checkpoint; None for any other model, such as a BERT.

    Raises:
      ConfigError: tensors are missing or unexpected, or something that a tower cannot express.
    """
    if path.suffix == ".npz" and path.is_file():
        return open_big_vision(path)
    config_file, own_file = path / "config.json", path / OWN_CONFIG
    if not config_file.is_file():
        return None
    config = read_json(config_file)
    if config.get("model_type") not in MODEL_TYPES:
        return None
    if not own_file.is_file():
        return open_folder(path, paired_configs(config, str(config_file)), exported=False)
    own = read_json(own_file)
    if "encoder" in own:  # one tower, of `save_tower`
        return None
    towers: dict[Part, TowerConfig] = {
        part: tower_config(own.get(part, {}), str(own_file)) for part in ("text", "image")
    }
    return open_folder(path, towers, exported=True)


def open_folder(folder: Path, towers: dict[Part, TowerConfig], *, exported: bool) -> PairedSource:
    """Open a Hugging Face folder."""
    weights = Weights(folder)
    if len(towers) == 1:
        towers = {part: without_projection(cfg, weights) for part, cfg in towers.items()}
    logits = LOGITS[next(iter(towers.values())).encoder.family] if len(towers) == 2 else ()
    names = match_paired(weights.names, towers, logits, str(folder))
    dropped = [name for name in weights.names if DROPPED.fullmatch(name)]
    if dropped:
        log.info("%s: dropped %s", folder, ", ".join(dropped))
    return PairedSource(
        name=str(folder),
        towers=towers,
        read=lambda cfg: read_paired(weights.read, names, cfg, str(folder)),
        read_logits=lambda: {name: weights.read(names[name]) for name in logits},
        folder=folder,
        exported=exported,
    )


def without_projection(cfg: TowerConfig, weights: Weights) -> TowerConfig:
    """Set projection=0 for CLIPTextModel and CLIPVisionModel, whose config states one that they do not have."""
    has_one = f"{projection_name(cfg)}.weight" in weights.names
    if cfg.encoder.family == "clip" and not has_one:
        return replace(cfg, head=replace(cfg.head, projection=0))
    return cfg


def open_big_vision(path: Path) -> PairedSource:
    """Open an .npz checkpoint of big_vision; a tokenizer may be in the same folder."""
    file = BigVision(path)
    return PairedSource(str(path), file.towers, file.read, file.read_logits, path.parent, exported=False)


def choose_tower(source: PairedSource, part: Part, pooling: Pooling) -> TowerConfig:
    """Config of one tower with the pooling asked for.

    Raises:
      ConfigError: no such tower, or a pooling that it does not support.
    """
    if part not in source.towers:
        (there,) = source.towers
        raise ConfigError(f"{source.name} has only the {there} tower, not the {part} tower")
    cfg = source.towers[part]
    if source.exported:
        return cfg
    if pooling not in ("auto", *poolings(cfg.encoder)):
        raise ConfigError(
            f"pooling={pooling}: {source.name} was not trained with it; use auto (as it was trained), none or mean"
        )
    if pooling != "auto":
        cfg = replace(cfg, head=replace(cfg.head, pooling=pooling))
    if part == "text" and cfg.encoder.family == "siglip":
        # The padding id of its training is missing from config.json, or wrong there.
        cfg = replace(cfg, encoder=replace(cfg.encoder, pad_id=padding_id(source.folder, cfg.encoder.pad_id)))
    return cfg


def padding_id(folder: Path, stated: int) -> int:
    """Id of the tokenizer's padding token; `stated` if the folder has no tokenizer.json."""
    config = folder / "tokenizer_config.json"
    if not config.is_file() or not (folder / "tokenizer.json").is_file():
        return stated
    piece = read_json(config).get("pad_token")
    piece = piece.get("content") if isinstance(piece, dict) else piece
    found = PieceIds(folder).marker(piece, "pad_token") if piece else None
    return stated if found is None else found


def read_own_tower(weights: Weights, cfg: TowerConfig) -> Params:
    """Parameters of a tower that `save_tower` wrote, except a projection in a folder of its own."""
    names = match_paired(weights.names, {part_of(cfg): cfg}, (), str(weights.folder))
    return read_paired(weights.read, names, cfg, str(weights.folder))

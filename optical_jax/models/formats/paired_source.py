"""A file or folder that holds towers of CLIP or SigLIP, one or a pair: what is in it, read tower by tower."""

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

PLURAL: dict[Part, str] = {"text": "texts", "image": "pictures"}


class PairedSource(NamedTuple):
    """The towers of one source; nothing of their weights is read before it is asked for."""

    name: str
    towers: dict[Part, TowerConfig]
    """As they were trained, or as they were exported."""
    read: Callable[[TowerConfig], Params]
    """The parameters of one of `towers`."""
    read_logits: Callable[[], dict[str, np.ndarray]]
    """logit_scale and, of SigLIP, logit_bias; empty where there is one tower."""
    folder: Path
    """Where a tokenizer may be."""
    exported: bool
    """Written by `save_pair`, so that settings of its own count."""


def open_paired(path: Path) -> PairedSource | None:
    """What a folder or an .npz file holds; None where it is something else, such as a plain encoder of texts.

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
    """Safetensors with a config.json of Hugging Face's."""
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
    """CLIP's bare towers state the width of a projection that they do not have."""
    has_one = f"{projection_name(cfg)}.weight" in weights.names
    if cfg.encoder.family == "clip" and not has_one:
        return replace(cfg, head=replace(cfg.head, projection=0))
    return cfg


def open_big_vision(path: Path) -> PairedSource:
    """An .npz checkpoint of big_vision, with a tokenizer beside it if there is one."""
    file = BigVision(path)
    return PairedSource(str(path), file.towers, file.read, file.read_logits, path.parent, exported=False)


def choose_tower(source: PairedSource, part: Part, pooling: Pooling) -> TowerConfig:
    """One tower of a source as it is to be used.

    Raises:
      ConfigError: it is not there, or does not pool so.
    """
    if part not in source.towers:
        (there,) = source.towers
        raise ConfigError(f"{source.name} holds a tower of {PLURAL[there]} alone, and none of {PLURAL[part]}")
    cfg = source.towers[part]
    if source.exported:
        return cfg
    if pooling not in ("auto", *poolings(cfg.encoder)):
        raise ConfigError(
            f"pooling={pooling}: {source.name} was not trained with it; take auto (as it was trained), none or mean"
        )
    if pooling != "auto":
        cfg = replace(cfg, head=replace(cfg.head, pooling=pooling))
    if part == "text" and cfg.encoder.family == "siglip":
        # What it was padded with while it was trained is in no config.json, or a wrong one.
        cfg = replace(cfg, encoder=replace(cfg.encoder, pad_id=padding_id(source.folder, cfg.encoder.pad_id)))
    return cfg


def padding_id(folder: Path, stated: int) -> int:
    """The id of the tokenizer's padding token; `stated` where the folder has no tokenizer.json."""
    config = folder / "tokenizer_config.json"
    if not config.is_file() or not (folder / "tokenizer.json").is_file():
        return stated
    piece = read_json(config).get("pad_token")
    piece = piece.get("content") if isinstance(piece, dict) else piece
    found = PieceIds(folder).marker(piece, "pad_token") if piece else None
    return stated if found is None else found


def read_own_tower(weights: Weights, cfg: TowerConfig) -> Params:
    """The parameters of a tower that `save_tower` wrote, but for a projection that lies in a folder of its own."""
    names = match_paired(weights.names, {part_of(cfg): cfg}, (), str(weights.folder))
    return read_paired(weights.read, names, cfg, str(weights.folder))

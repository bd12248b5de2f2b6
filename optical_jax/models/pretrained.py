"""Checkpoints from outside: a local folder or a hub name, in any of the forms retrieval models come in."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import optical_jax
from optical_jax.config import EncoderConfig, HeadConfig, TowerConfig
from optical_jax.errors import ConfigError
from optical_jax.files import OWN_CONFIG, TOKENIZER_FILES
from optical_jax.models.hf_heads import Head, Pooling, Projection, cut_lengths, read_head
from optical_jax.models.hf_names import encoder_config, match_names, shorten, to_tree
from optical_jax.models.hf_weights import Weights, read_json
from optical_jax.types import Params

log = logging.getLogger(__name__)

HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "artifact.metadata"]
SHIPPED = "optical_jax/english_teacher"
"""A small English teacher that comes along with the package; its card is in the folder."""
HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w.-]+")


class Pretrained(NamedTuple):
    params: Params
    """The tower's parameters, NumPy, float32."""
    cfg: TowerConfig
    tokenizer_path: Path | None
    """Folder of the tokenizer; None where there is none."""


def load_pretrained(path: str, *, pooling: Pooling = "none", cache_dir: str | None = None) -> Pretrained:
    """Read a tower.

    Forms: Hugging Face BERT, RoBERTa and XLM-R; Stanford ColBERT; PyLate; Sentence Transformers, dense and
    multi-vector; and what `save_tower` wrote (optical_jax.json), which is always read as it was.

    Args:
      path: a local folder, or a hub name (org/name) where there is no such folder.
      pooling: "none" takes a vector a token whatever the folder says, "auto" does as it says.
      cache_dir: folder for downloads; None leaves it to HF_HOME.

    Raises:
      ConfigError: no such folder or model, no weights, or something in it that a tower cannot express.
    """
    folder = find_folder(path, cache_dir)
    own = folder / OWN_CONFIG
    if own.is_file():
        cfg = tower_config(read_json(own), str(own))
        head = Head(cfg.head, Projection(folder / dense_folder(cfg.head)) if cfg.head.projection else None, folder)
        encoder = cfg.encoder
    else:
        head = read_head(folder, pooling)
        config_file = head.encoder_folder / "config.json"
        encoder = encoder_config(read_json(config_file), str(config_file))
    params = {"encoder": read_encoder(head, encoder), "head": {}}
    head_cfg = cut_lengths(head.cfg, encoder)
    if head.projection is not None:
        kernel = read_projection(head.projection, encoder.width, head_cfg.projection)
        params["head"] = {"projection": {"kernel": kernel}}
        head_cfg = replace(head_cfg, projection=kernel.shape[1])
    if head_cfg.masses == "learned":
        kernel = Weights(folder / MASSES).read("kernel")
        params["head"] = {**params["head"], "mass": {"kernel": kernel}}
    has_tokenizer = any((head.encoder_folder / name).is_file() for name in TOKENIZER_FILES)
    return Pretrained(params, TowerConfig(encoder, head_cfg), head.encoder_folder if has_tokenizer else None)


def read_encoder(head: Head, cfg: EncoderConfig) -> Params:
    """The encoder's parameters. What else is in the file must be a head its family is known to carry.

    Raises:
      ConfigError: tensors are missing, unexpected or of another shape.
    """
    folder = head.encoder_folder
    weights = Weights(folder)
    names = match_names(weights.names, cfg, str(folder))
    inline = head.projection.tensor if head.projection and head.projection.folder == folder else None
    unexpected = [name for name in names.unexpected if name != inline]
    if unexpected:
        raise ConfigError(
            f"{folder}: unexpected tensors {shorten(unexpected)}; with them it is not the {cfg.family} encoder of "
            f"{cfg.layers} layers that config.json states"
        )
    if names.dropped:
        log.info("%s: dropped %s", folder, ", ".join(names.dropped))
    return to_tree(weights.read, names.encoder, cfg, str(folder))


def read_projection(projection: Projection, width: int, stated: int) -> np.ndarray:
    """The kernel [D, E] of the head's projection; `stated` is E where the config says it, else 0."""
    weights = Weights(projection.folder)
    if projection.tensor not in weights.names:
        raise ConfigError(f"{projection.folder}: {projection.tensor}, the projection, is missing; copy the whole model")
    kernel = weights.read(projection.tensor)
    if kernel.ndim != 2 or kernel.shape[1] != width or stated not in (0, kernel.shape[0]):
        raise ConfigError(
            f"{projection.folder}: {projection.tensor} has shape {list(kernel.shape)}, "
            f"not [{stated or 'any'}, {width}]; projection and encoder belong to different models"
        )
    return np.ascontiguousarray(kernel.T)


def tower_config(values: dict[str, Any], source: str) -> TowerConfig:
    """A TowerConfig from its JSON."""
    try:
        encoder = dict(values["encoder"])
        if isinstance(encoder.get("remat"), bool):  # before it was a policy
            encoder["remat"] = "full" if encoder["remat"] else "none"
        return TowerConfig(EncoderConfig(**encoder), HeadConfig(**values["head"]))
    except (KeyError, TypeError) as error:
        raise ConfigError(f"{source} is no tower config of this version: {error}; export the tower again") from error


MASSES = "token_masses"
"""Subfolder of the map that learned masses come from."""


def dense_folder(head: HeadConfig) -> str:
    """Subfolder of the projection; a pooled tower's comes after its pooling."""
    return "1_Dense" if head.pooling == "none" else "2_Dense"


def find_folder(path: str, cache_dir: str | None) -> Path:
    """The local folder of a model: `path` itself, the shipped teacher's, or a download if `path` is a hub name.

    Raises:
      ConfigError: there is neither.
    """
    if path == SHIPPED:
        return Path(optical_jax.__file__).parent / "english_teacher"
    folder = Path(path)
    if folder.is_dir():
        # Stanford's trainer leaves its newest model here in the folder of its experiment.
        newest = folder / "checkpoints" / "colbert"
        return newest if not (folder / "config.json").exists() and (newest / "config.json").is_file() else folder
    if folder.exists() or not HUB_NAME.fullmatch(path):
        raise ConfigError(f"{path}: no such folder; name a folder with config.json and model.safetensors, or org/name")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(path, allow_patterns=HUB_FILES, cache_dir=cache_dir))
    except (OSError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"{path}: no such folder, and it cannot be had from the hub: {reason}") from error

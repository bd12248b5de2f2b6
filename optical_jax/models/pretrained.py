"""Checkpoints from outside: a local folder or a hub name, in any of the forms retrieval models come in."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from optical_jax.config import EncoderConfig, HeadConfig, TowerConfig
from optical_jax.errors import ConfigError
from optical_jax.models.hf_names import encoder_config, match_names, shorten, to_tree
from optical_jax.models.hf_weights import Weights, read_json
from optical_jax.types import Params

log = logging.getLogger(__name__)

Pooling = Literal["auto", "none", "mean", "cls"]

OWN_CONFIG = "optical_jax.json"
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "sentencepiece.bpe.model", "tokenizer.model")
HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "artifact.metadata"]
HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w.-]+")


class Pretrained(NamedTuple):
    params: Params
    """The tower's parameters, NumPy, float32."""
    cfg: TowerConfig
    tokenizer_path: Path | None
    """Folder of the tokenizer; None where there is none."""


def load_pretrained(path: str, *, pooling: Pooling = "none", cache_dir: str | None = None) -> Pretrained:
    """Read a tower.

    Args:
      path: a local folder, or a hub name (org/name) where there is no such folder.
      pooling: "none" takes token vectors whatever the folder says, "auto" does as it says. A folder that this package
        wrote (optical_jax.json) is always read as it was.
      cache_dir: folder for downloads; None leaves it to HF_HOME.

    Raises:
      ConfigError: no such folder or model, no weights, or something in it that a tower cannot express.
    """
    folder = find_folder(path, cache_dir)
    own = folder / OWN_CONFIG
    if own.is_file():
        cfg = tower_config(read_json(own), str(own))
    else:
        config = read_json(folder / "config.json")
        encoder = encoder_config(config, str(folder / "config.json"))
        cfg = TowerConfig(encoder, cut_lengths(HeadConfig(), encoder))
    weights = Weights(folder)
    names = match_names(weights.names, cfg.encoder, str(folder))
    if names.unexpected:
        raise ConfigError(f"{folder}: unexpected tensors {shorten(names.unexpected)}; a {cfg.encoder.family} has none")
    if names.dropped:
        log.info("%s: dropped %s", folder, ", ".join(names.dropped))
    encoder_params = to_tree(weights.read, names.encoder, cfg.encoder, str(folder))
    head = {}
    if cfg.head.projection:
        head = {"projection": {"kernel": np.ascontiguousarray(Weights(folder / "1_Dense").read("linear.weight").T)}}
    tokenizer_path = folder if any((folder / name).is_file() for name in TOKENIZER_FILES) else None
    return Pretrained({"encoder": encoder_params, "head": head}, cfg, tokenizer_path)


def tower_config(values: dict[str, Any], source: str) -> TowerConfig:
    """A TowerConfig from its JSON."""
    try:
        return TowerConfig(EncoderConfig(**values["encoder"]), HeadConfig(**values["head"]))
    except (KeyError, TypeError) as error:
        raise ConfigError(f"{source} is no tower config of this version: {error}; export the tower again") from error


def cut_lengths(head: HeadConfig, encoder: EncoderConfig) -> HeadConfig:
    """No text may be longer than the position table."""
    limit = encoder.max_length
    return replace(head, query_length=min(head.query_length, limit), document_length=min(head.document_length, limit))


def find_folder(path: str, cache_dir: str | None) -> Path:
    """The local folder of a model, downloaded if `path` is a hub name."""
    folder = Path(path)
    if folder.is_dir():
        return folder
    if not HUB_NAME.fullmatch(path) or folder.exists():
        raise ConfigError(f"{path}: no such folder; name a folder with config.json and model.safetensors, or org/name")
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    try:
        return Path(snapshot_download(path, allow_patterns=HUB_FILES, cache_dir=cache_dir))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: no such folder, and the hub does not give it ({first_line(error)})") from error


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]

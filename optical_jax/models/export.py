"""A tower as a folder that `transformers` loads, and that `load_pretrained` reads back bit for bit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from optical_jax.config import TowerConfig, to_json
from optical_jax.errors import ConfigError, MachineError
from optical_jax.models.hf_names import from_tree, hf_config
from optical_jax.models.pretrained import OWN_CONFIG
from optical_jax.types import Params


def save_tower(params: Params, cfg: TowerConfig, tokenizer: Any, folder: Path) -> None:
    """Write config.json, model.safetensors (Hugging Face names), tokenizer files and optical_jax.json.

    Written beside `folder` and renamed at the end: a crash leaves nothing that looks whole. A folder that an earlier
    call wrote is replaced; any other that holds files is refused.

    Args:
      params: a tree of `tower_specs(cfg)`.
      tokenizer: a fast tokenizer of transformers, or None for a folder without.

    Raises:
      ConfigError: `folder` holds something else.
      MachineError: it cannot be written.
    """
    if folder.exists() and not (folder / OWN_CONFIG).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} exists and holds no exported tower; name a new folder")
    partial = folder.with_name(f".{folder.name}.partial")
    try:
        if partial.exists():
            shutil.rmtree(partial)
        partial.mkdir(parents=True)
        write_tower(params, cfg, tokenizer, partial)
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
    except (OSError, SafetensorError) as error:
        raise MachineError(f"{folder} cannot be written: {error}; free space, or name another folder") from error


def write_tower(params: Params, cfg: TowerConfig, tokenizer: Any, folder: Path) -> None:
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    write_json(folder / "config.json", hf_config(cfg.encoder))
    write_json(folder / OWN_CONFIG, to_json(cfg))
    if cfg.head.projection:
        kernel = np.asarray(params["head"]["projection"]["kernel"], np.float32)
        (folder / "1_Dense").mkdir()
        save_tensors(folder / "1_Dense", {"linear.weight": np.ascontiguousarray(kernel.T)})
    save_tensors(folder, dict(from_tree(params["encoder"], cfg.encoder)))


def save_tensors(folder: Path, tensors: dict[str, np.ndarray]) -> None:
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

"""A tower as a folder that `transformers` and Sentence Transformers load, and `load_pretrained` reads back exactly."""

from __future__ import annotations

import logging
import shutil
import string
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from optical_jax.config import HeadConfig, TowerConfig, to_json
from optical_jax.errors import ConfigError, MachineError
from optical_jax.files import OWN_CONFIG, write_json
from optical_jax.models.hf_heads import IDENTITY
from optical_jax.models.hf_names import from_tree, hf_config
from optical_jax.models.pretrained import MASSES, dense_folder
from optical_jax.types import Params

log = logging.getLogger(__name__)

Dtype = Literal["float32", "float16"]


def save_tower(
    params: Params, cfg: TowerConfig, tokenizer: Any, folder: Path, card: str = "", *, dtype: Dtype = "float32"
) -> None:
    """Write config.json, model.safetensors (Hugging Face names), tokenizer files and optical_jax.json.

    With a tokenizer the folder is also one of Sentence Transformers: in PyLate's form for token vectors (which
    Sentence Transformers 6 reads too), or dense for a pooled tower.

    Written beside `folder` and renamed at the end: a crash leaves nothing that looks whole. A folder that an earlier
    call wrote is replaced; any other that holds files is refused.

    Args:
      params: a tree of `tower_specs(cfg)`.
      cfg: its shape.
      tokenizer: a fast tokenizer of transformers, or None for a folder without.
      folder: where to.
      card: the text of a README.md, if there is to be one.
      dtype: type of the tensors in the files; they are read back as float32.

    Raises:
      ConfigError: `folder` holds something else.
      MachineError: it cannot be written.
    """
    check_target(folder)
    partial = folder.with_name(f".{folder.name}.partial")
    try:
        if partial.exists():
            shutil.rmtree(partial)
        partial.mkdir(parents=True)
        _write_tower(params, cfg, tokenizer, partial, np.dtype(dtype))
        if card:
            (partial / "README.md").write_text(card, encoding="utf-8")
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise MachineError(f"{folder} cannot be written: {error}; free space, or name another folder") from error


def check_target(folder: Path) -> None:
    """Refuse to write over anything but an earlier export.

    Raises:
      ConfigError: `folder` is a file, or holds files and no optical_jax.json.
    """
    if folder.is_dir() and ((folder / OWN_CONFIG).is_file() or not any(folder.iterdir())):
        return
    if folder.exists():
        raise ConfigError(f"{folder} exists and is no exported tower; name a new folder")


def _write_tower(params: Params, cfg: TowerConfig, tokenizer: Any, folder: Path, dtype: np.dtype) -> None:
    write_json(folder / "config.json", hf_config(cfg.encoder))
    write_json(folder / OWN_CONFIG, to_json(cfg))
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
        for name, value in sentence_transformers_files(cfg, tokenizer).items():
            write_json(folder / name, value)
    if cfg.head.projection:
        kernel = np.asarray(params["head"]["projection"]["kernel"], np.float32)
        _save_tensors(folder / dense_folder(cfg.head), {"linear.weight": np.ascontiguousarray(kernel.T)}, dtype)
    if cfg.head.masses == "learned":
        # For us alone: modules.json does not name it, and scores do not depend on it.
        _save_tensors(folder / MASSES, {"kernel": np.asarray(params["head"]["mass"]["kernel"], np.float32)}, dtype)
    _save_tensors(folder, dict(from_tree(params["encoder"], cfg.encoder)), dtype)


def sentence_transformers_files(cfg: TowerConfig, tokenizer: Any) -> dict[str, Any]:
    """The JSON files that make the folder one of Sentence Transformers, by path."""
    head = cfg.head
    modules = [("", "sentence_transformers.models.Transformer")]
    files: dict[str, Any] = {
        "sentence_bert_config.json": {
            "max_seq_length": max(head.query_length, head.document_length),
            "do_lower_case": False,
        }
    }
    if head.pooling != "none":
        modules.append(("1_Pooling", "sentence_transformers.models.Pooling"))
        files["1_Pooling/config.json"] = {
            "word_embedding_dimension": cfg.encoder.width,
            "pooling_mode_cls_token": head.pooling == "cls",
            "pooling_mode_mean_tokens": head.pooling == "mean",
        }
    if head.projection:
        path = dense_folder(head)
        kind = "pylate.models.Dense.Dense" if head.pooling == "none" else "sentence_transformers.models.Dense"
        modules.append((path, kind))
        files[f"{path}/config.json"] = {
            "in_features": cfg.encoder.width,
            "out_features": head.projection,
            "bias": False,
            "activation_function": IDENTITY,
        }
    if head.pooling == "none":
        files["config_sentence_transformers.json"] = pylate_config(head, tokenizer)
    else:
        modules.append((f"{len(modules)}_Normalize", "sentence_transformers.models.Normalize"))
    files["modules.json"] = [
        {"idx": i, "name": str(i), "path": path, "type": kind} for i, (path, kind) in enumerate(modules)
    ]
    return files


def pylate_config(head: HeadConfig, tokenizer: Any) -> dict[str, Any]:
    """PyLate's top-level fields."""
    if not head.special_tokens:
        log.warning("Sentence Transformers and PyLate will keep the vectors of special tokens, which this tower drops")

    def piece(marker: int | None) -> str:
        return "" if marker is None else tokenizer.convert_ids_to_tokens(marker)

    return {
        "model_type": "ColBERT",
        "similarity_fn_name": "MaxSim",
        "query_prefix": piece(head.query_marker_id),
        "document_prefix": piece(head.document_marker_id),
        "query_length": head.query_length,
        "document_length": head.document_length,
        "do_query_expansion": head.augment_queries,
        "attend_to_expansion_tokens": head.attend_to_augmentation,
        "skiplist_words": list(string.punctuation) if head.skip_punctuation else [],
    }


def _save_tensors(folder: Path, tensors: dict[str, np.ndarray], dtype: np.dtype) -> None:
    folder.mkdir(exist_ok=True)
    tensors = {name: np.asarray(tensor).astype(dtype, copy=False) for name, tensor in tensors.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

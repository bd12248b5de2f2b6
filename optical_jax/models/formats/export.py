"""Export towers to folders that `transformers` and Sentence Transformers load; `open_model` reads them back exactly."""

from __future__ import annotations

import contextlib
import logging
import shutil
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from optical_jax.config import HeadConfig, TowerConfig, to_json
from optical_jax.errors import ConfigError, MachineError
from optical_jax.files import OWN_CONFIG, PAIR, write_json
from optical_jax.models.formats.hf_heads import IDENTITY
from optical_jax.models.formats.hf_names import from_tree, hf_config
from optical_jax.models.formats.pair_configs import (
    inline_projection,
    is_pair_family,
    pair_config,
    paired_config,
    part_of,
)
from optical_jax.models.formats.pair_names import LOGITS, write_paired
from optical_jax.models.formats.pretrained import MASSES, Pair, dense_folder
from optical_jax.types import Params

log = logging.getLogger(__name__)

Dtype = Literal["float32", "float16"]


def save_tower(
    params: Params, cfg: TowerConfig, tokenizer: Any, folder: Path, card: str = "", *, dtype: Dtype = "float32"
) -> None:
    """Save a tower in Hugging Face format: config.json, model.safetensors, tokenizer files and optical_jax.json.

    With a tokenizer the folder also loads in Sentence Transformers: in PyLate's format for token vectors (which
    Sentence Transformers 6 reads too), or dense for a pooled tower. CLIP and SigLIP towers load in transformers only
    (CLIPTextModelWithProjection, SiglipVisionModel and so on).

    Atomic: written beside `folder` and renamed at the end. A folder that an earlier call wrote is replaced; any other
    that holds files is refused.

    Args:
      params: a tree of `tower_specs(cfg)`.
      cfg: the tower's config.
      tokenizer: a fast tokenizer of transformers; None to write none.
      folder: where to write.
      card: the text of a README.md; empty to write none.
      dtype: type of the tensors in the files; they are read back as float32.

    Raises:
      ConfigError: `folder` holds something else.
      MachineError: it cannot be written.
    """
    check_target(folder)
    with replacing(folder) as partial:
        _write_tower(params, cfg, tokenizer, partial, np.dtype(dtype))
        if card:
            (partial / "README.md").write_text(card, encoding="utf-8")


@contextlib.contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """Replace a folder atomically: yields an empty one that takes the place of `folder` at the end.

    Raises:
      MachineError: it cannot be written; `folder` is unchanged.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    try:
        if partial.exists():
            shutil.rmtree(partial)
        partial.mkdir(parents=True)
        yield partial
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise MachineError(f"{folder} cannot be written: {error}; free space, or name another folder") from error


def check_target(folder: Path) -> None:
    """Refuse to overwrite anything but an earlier export.

    Raises:
      ConfigError: `folder` is a file, or holds files and neither optical_jax.json nor pair.json.
    """
    ours = any((folder / name).is_file() for name in (OWN_CONFIG, PAIR))
    if folder.is_dir() and (ours or not any(folder.iterdir())):
        return
    if folder.exists():
        raise ConfigError(f"{folder} exists and is not an exported tower; name a new folder")


def _write_tower(params: Params, cfg: TowerConfig, tokenizer: Any, folder: Path, dtype: np.dtype) -> None:
    paired = is_pair_family(cfg)
    write_json(folder / "config.json", paired_config(cfg) if paired else hf_config(cfg.encoder))
    write_json(folder / OWN_CONFIG, to_json(cfg))
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    if tokenizer is not None and not paired:
        for name, value in sentence_transformers_files(cfg, tokenizer).items():
            write_json(folder / name, value)
    if cfg.head.projection and not (paired and inline_projection(cfg)):
        kernel = np.asarray(params["head"]["projection"]["kernel"], np.float32)
        _save_tensors(folder / dense_folder(cfg.head), {"linear.weight": np.ascontiguousarray(kernel.T)}, dtype)
    if cfg.head.masses == "learned":
        # Not in modules.json: other libraries ignore it, and scores do not depend on it.
        _save_tensors(folder / MASSES, {"kernel": np.asarray(params["head"]["mass"]["kernel"], np.float32)}, dtype)
    tensors = write_paired(params, cfg) if paired else from_tree(params["encoder"], cfg.encoder)
    _save_tensors(folder, dict(tensors), dtype)


def export_pair(pair: Pair, tokenizer: Any, folder: Path, card: str = "", *, dtype: Dtype = "float32") -> None:
    """Save a dual encoder as transformers' CLIPModel or SiglipModel, with tokenizer files and optical_jax.json.

    `open_model` reads it back exactly. Arguments and errors as of `save_tower`.

    Raises:
      ConfigError: the towers are of different families, or one has a head that the family's format lacks.
    """
    check_pair(pair)
    check_target(folder)
    family = pair.text.cfg.encoder.family
    with replacing(folder) as partial:
        write_json(partial / "config.json", pair_config(pair.text.cfg, pair.image.cfg))
        write_json(partial / OWN_CONFIG, {"text": to_json(pair.text.cfg), "image": to_json(pair.image.cfg)})
        if tokenizer is not None:
            tokenizer.save_pretrained(partial)
        # transformers keeps CLIP's scale as a scalar, and SigLIP's two as vectors of one.
        logits = {name: value.reshape(() if family == "clip" else (1,)) for name, value in pair.logits.items()}
        towers = [*write_paired(pair.text.params, pair.text.cfg), *write_paired(pair.image.params, pair.image.cfg)]
        _save_tensors(partial, {**dict(towers), **logits}, np.dtype(dtype))
        if card:
            (partial / "README.md").write_text(card, encoding="utf-8")


def check_pair(pair: Pair) -> None:
    """Raise ConfigError for two towers that do not form a CLIPModel or SiglipModel."""
    text, image = pair.text.cfg, pair.image.cfg
    if part_of(text) != "text" or part_of(image) != "image" or text.encoder.family != image.encoder.family:
        raise ConfigError(
            f"{text.encoder.family} for {part_of(text)} and {image.encoder.family} for {part_of(image)} do not form a "
            "CLIPModel or SiglipModel; save each with save_tower"
        )
    family, expected = text.encoder.family, set(LOGITS[text.encoder.family])
    for cfg in (text, image):
        own = inline_projection(cfg) or (family == "siglip" and part_of(cfg) == "image" and not cfg.head.projection)
        if not own or cfg.head.masses != "none" or text.vector_width != image.vector_width:
            raise ConfigError(
                f"the {part_of(cfg)} tower has a head (projection={cfg.head.projection}, masses={cfg.head.masses}) "
                f"that the format of {family} lacks; save each tower with save_tower"
            )
    if set(pair.logits) != expected:
        raise ConfigError(f"a {family} pair has {', '.join(sorted(expected))}, not {', '.join(sorted(pair.logits))}")


def sentence_transformers_files(cfg: TowerConfig, tokenizer: Any) -> dict[str, Any]:
    """The JSON files of a Sentence Transformers model, by path."""
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
    """PyLate's fields of config_sentence_transformers.json."""
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

"""Export towers to folders that `transformers` and Sentence Transformers load; `open_model` reads them back exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors.numpy import save_file

from optical_jax.config import HeadConfig, TowerConfig, to_json
from optical_jax.errors import ConfigError
from optical_jax.files import OWN_CONFIG, read_json, write_json
from optical_jax.models.formats.hf_heads import IDENTITY, cut_lengths
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
from optical_jax.models.formats.replacing import check_target, replacing
from optical_jax.types import Params

Dtype = Literal["float32", "float16"]


def save_tower(
    params: Params,
    cfg: TowerConfig,
    tokenizer: Any,
    folder: Path,
    card: str = "",
    *,
    dtype: Dtype = "float32",
    records: Mapping[str, Any] | None = None,
) -> None:
    """Save a tower in Hugging Face format: config.json, model.safetensors, tokenizer files and optical_jax.json.

    With a tokenizer the folder also loads in Sentence Transformers: in PyLate's format for token vectors, which PyLate
    and Sentence Transformers 6 (MultiVectorEncoder) read and SentenceTransformer refuses; or dense for a pooled tower.
    CLIP and SigLIP towers load in transformers only (CLIPTextModelWithProjection, SiglipVisionModel and so on).

    Atomic: written beside `folder` and renamed at the end. Of a folder that an earlier call wrote, what that call wrote
    is replaced and all else stays; any other folder that holds files is refused.

    Args:
      params: a tree of `tower_specs(cfg)`.
      cfg: the tower's config.
      tokenizer: a fast tokenizer of transformers; None to write none.
      folder: where to write.
      card: the text of a README.md; empty to write none.
      dtype: type of the tensors in the files; they are read back as float32.
      records: further JSON files, by name.

    Raises:
      ConfigError: `folder` holds something else.
      MachineError: it cannot be written.
    """
    check_target(folder)
    with replacing(folder) as partial:
        _write_tower(params, cfg, tokenizer, partial, np.dtype(dtype))
        for name, value in (records or {}).items():
            write_json(partial / name, value)
        if card:
            (partial / "README.md").write_text(card, encoding="utf-8")


def _write_tower(params: Params, cfg: TowerConfig, tokenizer: Any, folder: Path, dtype: np.dtype) -> None:
    paired = is_pair_family(cfg)
    write_json(folder / "config.json", paired_config(cfg) if paired else hf_config(cfg.encoder))
    write_json(folder / OWN_CONFIG, to_json(cfg))
    if tokenizer is not None:
        save_tokenizer(tokenizer, folder)
    if tokenizer is not None and not paired:
        read = replace(cfg, head=cut_lengths(cfg.head, cfg.encoder))
        for name, value in sentence_transformers_files(read, tokenizer).items():
            write_json(folder / name, value)
    if cfg.head.projection and not (paired and inline_projection(cfg)):
        kernel = np.asarray(params["head"]["projection"]["kernel"], np.float32)
        _save_tensors(folder / dense_folder(cfg.head), {"linear.weight": np.ascontiguousarray(kernel.T)}, dtype)
    elif tokenizer is not None and not paired and cfg.head.pooling == "none":
        # Here no projection is read; PyLate and Sentence Transformers would add a random one.
        _save_tensors(folder / dense_folder(cfg.head), {"linear.weight": np.eye(cfg.vector_width)}, dtype)
    if cfg.head.masses == "learned":
        # Not in modules.json: other libraries ignore it, and scores do not depend on it.
        _save_tensors(folder / MASSES, {"kernel": np.asarray(params["head"]["mass"]["kernel"], np.float32)}, dtype)
    tensors = write_paired(params, cfg) if paired else from_tree(params["encoder"], cfg.encoder)
    _save_tensors(folder, dict(tensors), dtype)


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Save a fast tokenizer so that transformers 4 and 5 read it.

    Version 5 names a class that version 4 lacks, and keeps further special tokens in a list where 4 expects an object.
    """
    tokenizer.save_pretrained(folder)
    file = folder / "tokenizer_config.json"
    config = read_json(file)
    if config.get("tokenizer_class") == "TokenizersBackend":
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
    if isinstance(config.get("extra_special_tokens"), list):
        config["additional_special_tokens"] = config.pop("extra_special_tokens")
    write_json(file, config)


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
            save_tokenizer(tokenizer, partial)
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
    if head.projection or head.pooling == "none":
        path = dense_folder(head)
        kind = "pylate.models.Dense.Dense" if head.pooling == "none" else "sentence_transformers.models.Dense"
        modules.append((path, kind))
        files[f"{path}/config.json"] = {
            "in_features": cfg.encoder.width,
            "out_features": cfg.vector_width,
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


def differences(head: HeadConfig) -> list[str]:
    """What Sentence Transformers and PyLate do otherwise with an exported text tower, a sentence each."""
    found = []
    if head.pooling == "none":
        if not head.special_tokens:
            found.append("Sentence Transformers and PyLate keep the vectors of special tokens, which this model drops.")
        return found
    if head.query_length != head.document_length:
        found.append(
            f"Sentence Transformers cuts texts after {max(head.query_length, head.document_length)} tokens; this model "
            f"cuts queries after {head.query_length} and documents after {head.document_length}."
        )
    if head.query_marker_id is not None or head.document_marker_id is not None or head.augment_queries:
        found.append("Sentence Transformers adds no markers or [MASK]s, which this model reads.")
    return found


def pylate_config(head: HeadConfig, tokenizer: Any) -> dict[str, Any]:
    """PyLate's fields of config_sentence_transformers.json.

    Without `model_type`: SentenceTransformer then reads modules.json, and refuses PyLate's Dense in it. With another
    type than its own it would pool silently without the projection. PyLate and MultiVectorEncoder read both.
    """
    from optical_jax.data.tokenization import skipped_ids

    def piece(marker: int | None) -> str:
        return "" if marker is None else tokenizer.convert_ids_to_tokens(marker)

    # Pieces of this vocabulary alone: PyLate would drop unknown tokens for the others, and for an empty list
    # versions before 1.2 the punctuation. Padding has no vector anyway.
    punctuation = skipped_ids(tokenizer, replace(head, special_tokens=True), "document", None)
    skipped = sorted(punctuation) or [tokenizer.pad_token_id]
    return {
        "similarity_fn_name": "MaxSim",
        "query_prefix": piece(head.query_marker_id),
        "document_prefix": piece(head.document_marker_id),
        "query_length": head.query_length,
        "document_length": head.document_length,
        "do_query_expansion": head.augment_queries,
        "attend_to_expansion_tokens": head.attend_to_augmentation,
        "skiplist_words": [piece(i) for i in skipped],
    }


def _save_tensors(folder: Path, tensors: dict[str, np.ndarray], dtype: np.dtype) -> None:
    folder.mkdir(exist_ok=True)
    tensors = {name: np.asarray(tensor).astype(dtype, copy=False) for name, tensor in tensors.items()}
    path = folder / "model.safetensors"
    path.touch()
    mode = path.stat().st_mode
    save_file(tensors, path, metadata={"format": "pt"})
    # safetensors makes a file that its owner alone can read.
    path.chmod(mode)

"""Retrieval heads of third-party models: markers, lengths, masks, pooling and projection.

Supported are Stanford ColBERT (artifact.metadata), PyLate, Sentence Transformers dense, and Sentence Transformers 6
multi-vector models (modules.json). What `HeadConfig` cannot express is refused by name rather than ignored.
"""

from __future__ import annotations

import logging
import string
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

from optical_jax.config import EncoderConfig, HeadConfig
from optical_jax.errors import ConfigError
from optical_jax.models.formats.hf_weights import read_json, read_json_list

log = logging.getLogger(__name__)

Pooling = Literal["auto", "none", "mean", "cls"]

PYLATE_KEYS = ("query_prefix", "document_prefix", "do_query_expansion", "attend_to_expansion_tokens", "skiplist_words")
MULTI_VECTOR_TYPES = ("ColBERT", "MultiVectorEncoder")
IDENTITY = "torch.nn.modules.linear.Identity"
MASK_TOKENS = (None, "[MASK]", "<mask>")
PADDING_TOKENS = ("[PAD]", "<pad>")


class Projection(NamedTuple):
    folder: Path
    tensor: str = "linear.weight"


class Head(NamedTuple):
    cfg: HeadConfig
    """Its `projection` is still 0: the width is known from the tensor."""
    projection: Projection | None
    encoder_folder: Path
    """Where config.json, the encoder's weights and the tokenizer are."""


def read_head(folder: Path, pooling: Pooling) -> Head:
    """Detect the format of a model folder and read its head; a plain encoder has the default head.

    Raises:
      ConfigError: something a `HeadConfig` cannot express.
    """
    config = read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
    if "HF_ColBERT" in (config.get("architectures") or []) or (folder / "artifact.metadata").is_file():
        head = stanford_head(folder)
    elif (folder / "modules.json").is_file():
        head = modules_head(folder, pooling)
    else:
        head = Head(HeadConfig(), None, folder)
    return head if pooling == "auto" else head._replace(cfg=replace(head.cfg, pooling=pooling))


def cut_lengths(head: HeadConfig, encoder: EncoderConfig) -> HeadConfig:
    """Cap the query and document length at the size of the position table."""
    limit = encoder.max_length
    return replace(head, query_length=min(head.query_length, limit), document_length=min(head.document_length, limit))


# ---- Stanford ColBERT --------------------------------------------------------------------------------------------


def stanford_head(folder: Path) -> Head:
    """Head of a Stanford ColBERT checkpoint; defaults as in its ColBERTConfig."""
    path = folder / "artifact.metadata"
    metadata = read_json(path) if path.is_file() else {}
    similarity = metadata.get("similarity", "cosine")
    if similarity != "cosine":
        raise ConfigError(f"{path}: similarity={similarity!r} is not supported; only 'cosine' is")
    pieces = PieceIds(folder)
    cfg = HeadConfig(
        query_marker_id=pieces.marker(metadata.get("query_token_id", "[unused0]"), "query_token_id"),
        document_marker_id=pieces.marker(metadata.get("doc_token_id", "[unused1]"), "doc_token_id"),
        query_length=metadata.get("query_maxlen", 32),
        document_length=metadata.get("doc_maxlen", 220),
        augment_queries=True,
        attend_to_augmentation=bool(metadata.get("attend_to_mask_tokens", False)),
        skip_punctuation=bool(metadata.get("mask_punctuation", True)),
    )
    return Head(cfg, Projection(folder), folder)


# ---- PyLate and Sentence Transformers ------------------------------------------------------------------------------


def modules_head(folder: Path, pooling: Pooling) -> Head:
    """Head of a Sentence Transformers or PyLate model, from its modules.json."""
    modules: dict[str, Path] = {}
    for module in read_json_list(folder / "modules.json"):
        kind = str(module.get("type", "")).rpartition(".")[2]
        if kind not in ("Transformer", "Pooling", "Dense", "MultiVectorMask", "Normalize") or kind in modules:
            again = "a second " if kind in modules else ""
            raise ConfigError(
                f"{folder / 'modules.json'}: {again}module {kind} is not supported; a tower is one Transformer, "
                "Pooling or MultiVectorMask, Dense and Normalize"
            )
        modules[kind] = folder / str(module.get("path", ""))
    if next(iter(modules), None) != "Transformer":
        raise ConfigError(f"{folder / 'modules.json'} does not begin with a Transformer module, which is required")
    encoder_folder = modules["Transformer"]
    top = _optional_json(folder / "config_sentence_transformers.json")
    text = _optional_json(encoder_folder / "sentence_bert_config.json")
    limit = _max_length(encoder_folder, text)
    lengths = dict.fromkeys(("query_length", "document_length"), limit) if limit else {}
    mask = modules.get("MultiVectorMask")
    pylate = top.get("model_type") in MULTI_VECTOR_TYPES or any(key in top for key in PYLATE_KEYS)
    if "Pooling" not in modules and (mask is not None or pylate):
        cfg = multi_vector_head(folder, encoder_folder, top, text, mask, HeadConfig(**lengths))
    else:
        kind = _pooling_mode(modules.get("Pooling")) if pooling == "auto" else "none"
        cfg = HeadConfig(pooling=kind, **lengths)
    if [kind for kind in modules if kind in ("Pooling", "Normalize")] == ["Normalize", "Pooling"]:
        raise ConfigError(f"{folder / 'modules.json'}: Normalize before Pooling is not supported; only after it is")
    for line in not_applied(top, text, encoder_folder, normalized="Normalize" in modules or (pylate and mask is None)):
        log.info("%s: %s", folder, line)
    dense = modules.get("Dense")
    if dense is not None:
        _check_dense(dense)
    return Head(cfg, Projection(dense) if dense is not None else None, encoder_folder)


def not_applied(top: dict[str, Any], text: dict[str, Any], encoder_folder: Path, *, normalized: bool) -> list[str]:
    """Settings of a Sentence Transformers model by which its vectors there are others than here, a line each."""
    lines = []
    prompts = {name: prompt for name, prompt in (top.get("prompts") or {}).items() if prompt}
    if prompts and not any(f"{side}_prefix" in top for side in ("query", "document")):
        default = top.get("default_prompt_name")
        always = f" (Sentence Transformers puts that of {default!r} before every text)" if default in prompts else ""
        lines.append(f"prompts {prompts} are not put before texts{always}; put them there yourself")
    if not normalized:
        lines.append(
            "it has no Normalize module, but vectors are scaled to length one here: rankings are those by cosine, "
            "not by dot product"
        )
    if top.get("truncate_dim"):
        lines.append(f"truncate_dim={top['truncate_dim']} is not applied; vectors keep their width")
    if text.get("do_lower_case") and not _lowers(encoder_folder):
        lines.append("do_lower_case=true is not applied; put texts in lower case yourself")
    return lines


def _lowers(folder: Path) -> bool:
    """True if the tokenizer itself puts texts in lower case."""
    from tokenizers import Tokenizer

    file = folder / "tokenizer.json"
    normalizer = Tokenizer.from_file(str(file)).normalizer if file.is_file() else None
    return normalizer is not None and normalizer.normalize_str("A") == "a"


def multi_vector_head(
    folder: Path, encoder_folder: Path, top: dict[str, Any], text: dict[str, Any], mask: Path | None, start: HeadConfig
) -> HeadConfig:
    """Markers, lengths, query expansion and skiplist, from PyLate's top-level fields or the modules' configs."""
    source = str(folder / "config_sentence_transformers.json")
    pieces = PieceIds(encoder_folder)
    markers = {}
    for side in ("query", "document"):
        # A save may carry both; PyLate puts the prefix ahead of the prompt.
        prefix = top.get(f"{side}_prefix") or ""
        prompt = prefix + ((top.get("prompts") or {}).get(side) or "").removeprefix(prefix)
        markers[f"{side}_marker_id"] = pieces.marker(prompt, f"{side} prompt")

    lengths = {}
    for key in ("query_length", "document_length"):
        lengths[key] = text.get(key) or top.get(key) or getattr(start, key)
    expansion = _expansion(top, text, source)
    if expansion is not None:
        ceiling = text.get("query_length") or top.get("query_length")
        if expansion.get("strategy") == "min" and ceiling != expansion["length"]:
            raise ConfigError(f"{source}: query_expansion strategy='min' is not supported; only 'fixed' is")
        if expansion.get("token") not in MASK_TOKENS:
            raise ConfigError(
                f"{source}: query_expansion token={expansion['token']!r} is not supported; only [MASK] is"
            )
        lengths["query_length"] = expansion["length"]
    return replace(
        start,
        **markers,
        **lengths,
        augment_queries=expansion is not None,
        attend_to_augmentation=bool(expansion and expansion.get("attend")),
        skip_punctuation=_skips_punctuation(top, mask, pieces, source),
    )


def _expansion(top: dict[str, Any], text: dict[str, Any], source: str) -> dict[str, Any] | None:
    for config in (text, top):
        if "query_expansion" in config:
            expansion = config["query_expansion"]
            if expansion is not None and not isinstance(expansion.get("length"), int):
                raise ConfigError(f"{source}: query_expansion={expansion!r} has no length; state it")
            return expansion
    if top.get("do_query_expansion") is False or not any(key in top for key in PYLATE_KEYS):
        return None
    # PyLate expands by default.
    return {"length": top.get("query_length") or 32, "attend": top.get("attend_to_expansion_tokens")}


def _skips_punctuation(top: dict[str, Any], mask: Path | None, pieces: PieceIds, source: str) -> bool:
    if mask is not None:
        config = read_json(mask / "config.json")
        words, source = config.get("skiplist_words") or [], str(mask / "config.json")
        if config.get("keep_only_token_ids"):
            raise ConfigError(f"{source}: keep_only_token_ids is not supported; only null is")
        tasks = config.get("skiplist_tasks") or ["document"]
        if words and tasks != ["document"]:
            raise ConfigError(f"{source}: skiplist_tasks={tasks!r} is not supported; only ['document'] is")
    else:
        # PyLate's default is the punctuation.
        words = top.get("skiplist_words")
        words = list(string.punctuation) if words is None else words
    # SentencePiece has symbols as words too, and padding has no vector anyway.
    words = {word.removeprefix("\u2581") or word for word in words if word not in PADDING_TOKENS}
    symbols = set(string.punctuation)
    # Symbols that the vocabulary lacks may be left out.
    if words and words != symbols and not (words < symbols and (symbols - words).isdisjoint(pieces.vocab)):
        raise ConfigError(f"{source}: skiplist_words other than all of string.punctuation, or none, are not supported")
    return bool(words)


def _pooling_mode(pooling: Path | None) -> Literal["none", "mean", "cls"]:
    if pooling is None:
        return "none"
    config = read_json(pooling / "config.json")
    mode = config.get("pooling_mode")
    if mode is None:
        names = {"pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean"}
        on = [names.get(k, k) for k, v in config.items() if k.startswith("pooling_mode_") and v]
        mode = on[0] if len(on) == 1 else on or "mean"
    if mode not in ("mean", "cls"):
        raise ConfigError(f"{pooling / 'config.json'}: pooling {mode!r} is not supported; only mean and cls are")
    return mode


def _check_dense(dense: Path) -> None:
    config = read_json(dense / "config.json")
    activation = config.get("activation_function", IDENTITY)
    # Where a field is missing, Sentence Transformers adds a bias and no residual.
    wrong = [f"{key}=True" for key, default in (("bias", True), ("use_residual", False)) if config.get(key, default)]
    if not activation.endswith(".Identity"):
        wrong.append(f"activation_function={activation}")
    if wrong:
        raise ConfigError(
            f"{dense / 'config.json'}: {', '.join(wrong)} is not supported; a projection has no bias and no activation "
            "(without modules.json the folder is read as a plain encoder)"
        )


def _max_length(folder: Path, text: dict[str, Any]) -> int | None:
    stated = text.get("max_seq_length") or _optional_json(folder / "tokenizer_config.json").get("model_max_length")
    # transformers writes 1e30 for "no limit".
    return int(stated) if stated and stated < 1e9 else None


def _optional_json(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


# ---- markers -----------------------------------------------------------------------------------------------------


class PieceIds:
    """Token ids, from a folder's tokenizer.json or vocab.txt, which is read at the first lookup."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def marker(self, prompt: str, name: str) -> int | None:
        """Id of a query or document marker: one token, with or without a trailing space in the vocabulary.

        Raises:
          ConfigError: the prompt is not one token of the tokenizer.
        """
        if not prompt:
            return None
        for piece in (prompt, prompt.strip()):
            if piece in self.vocab:
                return self.vocab[piece]
        raise ConfigError(
            f"{self.folder}: {name} {prompt!r} is not one token of the tokenizer; add it as a special one"
        )

    @cached_property
    def vocab(self) -> dict[str, int]:
        file, words = self.folder / "tokenizer.json", self.folder / "vocab.txt"
        if file.is_file():
            from tokenizers import Tokenizer

            return Tokenizer.from_file(str(file)).get_vocab(with_added_tokens=True)
        if words.is_file():
            pieces = words.read_text(encoding="utf-8").splitlines()
            added = _optional_json(self.folder / "added_tokens.json")
            return {piece: i for i, piece in enumerate(pieces)} | added
        raise ConfigError(f"{self.folder} has markers but no tokenizer.json or vocab.txt; copy the tokenizer too")

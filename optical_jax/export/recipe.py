"""Python code for model cards: encoding with an exported tower in transformers, Sentence Transformers, optical_jax."""

from __future__ import annotations

import json
from typing import Any

from optical_jax.config import TowerConfig
from optical_jax.models.formats.pair_configs import inline_projection, is_pair_family
from optical_jax.models.formats.pair_names import projection_name
from optical_jax.models.formats.pretrained import dense_folder
from optical_jax.models.paired_text import HIGHEST_ID


def recipes(cfg: TowerConfig, folder: str, special_ids: tuple[int, ...] = ()) -> dict[str, str]:
    """Python code that encodes queries: library name -> code, for every library that loads the exported tower."""
    found = {"transformers alone": transformers_recipe(cfg, folder, special_ids)}
    if not is_pair_family(cfg):
        found["Sentence Transformers 6"] = sentence_transformers_recipe(cfg, folder)
    return found


def transformers_recipe(cfg: TowerConfig, folder: str, special_ids: tuple[int, ...] = ()) -> str:
    """Code of `encode(texts)`, queries to unit vectors, with PyTorch, transformers and safetensors alone.

    Args:
      cfg: config of the tower.
      folder: model folder in the code.
      special_ids: special token ids of the tokenizer; used only if the head drops their vectors.
    """
    head, family = cfg.head, cfg.encoder.family
    marked, augmented = head.query_marker_id is not None, head.augment_queries
    by_rows = marked or augmented or family == "siglip"
    model = {"clip": "CLIPTextModel", "siglip": "SiglipTextModel"}.get(family, "AutoModel")
    inside = is_pair_family(cfg) and inline_projection(cfg)
    lines = ["import torch"]
    if head.projection and not head.projection_bias:
        lines.append("from safetensors.torch import load_file")
    lines += [
        f"from transformers import {', '.join(sorted((model, 'AutoTokenizer')))}",
        "",
        f"folder = {quoted(folder)}",
        "tokenizer = AutoTokenizer.from_pretrained(folder)",
        f"model = {model}.from_pretrained(folder, dtype=torch.float32"
        f"{', add_pooling_layer=False' if model == 'AutoModel' else ''}).eval()",
    ]
    if head.projection and not head.projection_bias:
        file = quoted("/model.safetensors" if inside else f"/{dense_folder(head)}/model.safetensors")
        # [vector, encoder], as torch.nn.Linear keeps it.
        name = f"{projection_name(cfg)}.weight" if inside else "linear.weight"
        lines.append(f"projection = load_file(folder + {file})[{quoted(name)}].float()")
    lines += ["", "", "def encode(texts):", f'    """{_what_it_gives(cfg)}"""']
    lines.append(
        f"    batch = tokenizer(texts, truncation=True, max_length={head.query_length - marked}"
        + (")" if by_rows else ', padding=True, return_tensors="pt")')
    )
    if by_rows:
        lines += _with_markers(cfg)
        ids, attend = "ids", "attend"
    else:
        ids, attend = 'batch["input_ids"]', 'batch["attention_mask"]'
    lines += [
        "    with torch.no_grad():",
        f"        hidden = model({ids}).last_hidden_state  # padding is read too"
        if family == "siglip"
        else f"        hidden = model({ids}, attention_mask={attend}).last_hidden_state",
    ]
    if head.pooling == "mean":
        lines.append(f"    hidden = (hidden * {attend}[:, :, None]).sum(1)  # the mean's direction")
        if head.projection_bias:
            lines.append(f"    hidden = hidden / {attend}.sum(1, keepdim=True)")
    elif head.pooling in ("cls", "last"):
        lines.append(f"    hidden = hidden[:, {0 if head.pooling == 'cls' else -1}]")
    elif head.pooling == "eos":
        by = ids if cfg.encoder.eos_id == HIGHEST_ID else f"({ids} == {cfg.encoder.eos_id}).int()"
        lines.append(f"    hidden = hidden[torch.arange(len(hidden)), {by}.argmax(1)]  # where the text ends")
    product = "hidden @ projection.T" if head.projection else "hidden"
    if head.projection_bias:
        product = "model.head(hidden)"
    lines.append(f"    vectors = torch.nn.functional.normalize({product}, dim=-1)")
    if head.pooling != "none":
        lines.append("    return vectors")
        return "\n".join(lines) + "\n"
    if augmented:
        # Every [MASK] has a vector that counts.
        lines.append("    kept = torch.ones_like(ids, dtype=torch.bool)")
    else:
        lines.append(f"    kept = {attend}.bool()")
    if not head.special_tokens:
        dropped = sorted({*special_ids, *([head.query_marker_id] if head.query_marker_id is not None else [])})
        lines += [
            f"    text = kept & ~torch.isin({ids}, torch.tensor({dropped}))  # special tokens have no vectors",
            "    kept = torch.where(text.any(1, keepdim=True), text, kept)",
        ]
    lines.append("    return [one[real] for one, real in zip(vectors, kept)]")
    return "\n".join(lines) + "\n"


def _what_it_gives(cfg: TowerConfig) -> str:
    shape = f"[tokens, {cfg.vector_width}]" if cfg.head.pooling == "none" else f"[texts, {cfg.vector_width}]"
    return f"Unit vectors {shape}" + (" of each query." if cfg.head.pooling == "none" else ", one a query.")


def _with_markers(cfg: TowerConfig) -> list[str]:
    """Code that makes `ids` and `attend` from `batch`: marker after the first token, [MASK] or padding at the end.

    SigLIP texts are padded to its training length.
    """
    head = cfg.head
    lines = ['    rows = batch["input_ids"]']
    if head.query_marker_id is not None:
        lines.append(f"    rows = [row[:1] + [{head.query_marker_id}] + row[1:] for row in rows]  # the query marker")
    if head.augment_queries:
        length, filler, ones = str(head.query_length), "tokenizer.mask_token_id", head.attend_to_augmentation
    else:
        longest = cfg.encoder.max_length if cfg.encoder.family == "siglip" else "max(map(len, rows))"
        lines.append(f"    length = {longest}")
        length, filler, ones = "length", "tokenizer.pad_token_id", False
    lines += [
        f"    ids = torch.tensor([row + [{filler}] * ({length} - len(row)) for row in rows])",
        "    attend = torch.ones_like(ids)"
        if ones
        else f"    attend = torch.tensor([[1] * len(row) + [0] * ({length} - len(row)) for row in rows])",
    ]
    return lines


def sentence_transformers_recipe(cfg: TowerConfig, folder: str) -> str:
    """Code that encodes queries with Sentence Transformers 6."""
    if cfg.head.pooling != "none":
        name, call = "SentenceTransformer", "encode"
    else:
        name, call = "MultiVectorEncoder", "encode_query"
    return (
        f"from sentence_transformers import {name}\n\n"
        f"model = {name}({quoted(folder)})\n"
        f'vectors = model.{call}(["..."])\n'
    )


def own_recipe(folder: str, teacher: str) -> str:
    """Code that scores queries against documents with optical_jax."""
    return (
        "import optical_jax\n\n"
        f'queries = optical_jax.load({quoted(folder)}, side="query")\n'
        f'documents = optical_jax.load({quoted(teacher)}, side="document")\n'
        'found, texts = optical_jax.encode(queries, ["..."]), optical_jax.encode(documents, ["...", "..."])\n'
        "scores = optical_jax.maxsim(found, texts)  # [queries, documents]\n"
    )


def special_token_ids(tokenizer: Any) -> tuple[int, ...]:
    """Ids of the special tokens whose vectors a head may drop, as in `tokenize`."""
    ids = (tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id)
    return tuple(sorted({i for i in ids if isinstance(i, int)}))


def quoted(text: str) -> str:
    """Quote a Python string literal; JSON strings are valid Python."""
    return json.dumps(text, ensure_ascii=False)

"""Convert CLIP and SigLIP tensors between Hugging Face's names and layout and ours."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, NamedTuple

import numpy as np

from optical_jax.config import TowerConfig
from optical_jax.errors import ConfigError
from optical_jax.models.formats.hf_names import shorten
from optical_jax.models.formats.pair_configs import Part, inline_projection, part_of
from optical_jax.models.late_interaction import tower_specs
from optical_jax.types import Params

PREFIXES: dict[Part, str] = {"text": "text_model.", "image": "vision_model."}
LOGITS = {"clip": ("logit_scale",), "siglip": ("logit_scale", "logit_bias")}
DROPPED = re.compile(r"(.*\.)?position_ids$")
"""Buffers in older files."""


class Leaf(NamedTuple):
    """Path of a Hugging Face tensor, or a third of one, in our parameter tree, and its layout there and here."""

    name: str
    path: tuple[str, ...]
    layer: int | None
    shape: tuple[int, ...]
    """Our shape, of one layer."""
    hf_shape: tuple[int, ...]
    layout: Literal["linear", "patches", "plain"]
    """Torch keeps a linear map as [out, in] and a convolution as [out, in, height, width]; ours are reversed."""
    third: int | None
    """Its index in a stack of query, key and value."""

    def ours(self, value: np.ndarray) -> np.ndarray:
        value = value if self.third is None else np.split(value, 3)[self.third]
        if self.layout == "patches":
            return value.transpose(2, 3, 1, 0)
        return (value.T if self.layout == "linear" else value).reshape(self.shape)

    def theirs(self, value: np.ndarray) -> np.ndarray:
        part = (self.hf_shape[0] // (1 if self.third is None else 3), *self.hf_shape[1:])
        if self.layout == "patches":
            return value.transpose(3, 2, 0, 1)
        return value.reshape(part[::-1]).T if self.layout == "linear" else value.reshape(part)


def paired_leaves(cfg: TowerConfig) -> list[Leaf]:
    """All tensors of one tower, under their names in CLIPModel or SiglipModel."""
    specs, prefix, clip = tower_specs(cfg), PREFIXES[part_of(cfg)], cfg.encoder.family == "clip"
    leaves: list[Leaf] = []

    def add(
        name: str, path: str, layer: int | None = None, layout: Literal["linear", "patches", "plain"] = "plain",
        third: int | None = None, inputs: int = 1, lead: int = 0,
    ) -> None:  # fmt: skip
        spec: Any = specs
        keys = tuple(path.split("/"))
        for key in keys:
            spec = spec[key]
        shape = spec.shape if layer is None else spec.shape[1:]
        if layout == "linear":
            hf_shape = (math.prod(shape[inputs:]), math.prod(shape[:inputs]))
        elif layout == "patches":
            hf_shape = (shape[3], shape[2], shape[0], shape[1])
        else:
            # A bias by head is one row to them, and a table a table to both.
            hf_shape = shape if keys[-1] == "embedding" else (math.prod(shape),)
        if third is not None:
            hf_shape = (3 * hf_shape[0], *hf_shape[1:])
        leaves.append(Leaf(name, keys, layer, shape, (1,) * lead + hf_shape, layout, third))

    def linear(name: str, path: str, layer: int | None = None, inputs: int = 1) -> None:
        add(f"{name}.weight", f"{path}/kernel", layer, "linear", inputs=inputs)
        add(f"{name}.bias", f"{path}/bias", layer)

    def norm(name: str, path: str, layer: int | None = None) -> None:
        add(f"{name}.weight", f"{path}/scale", layer)
        add(f"{name}.bias", f"{path}/bias", layer)

    embeddings = "encoder/embeddings"
    add(f"{prefix}embeddings.position_embedding.weight", f"{embeddings}/position/embedding")
    for i in range(cfg.encoder.layers):
        layer, attention, mlp = f"{prefix}encoder.layers.{i}", "encoder/layers/attention", "encoder/layers/mlp"
        for part in ("query", "key", "value"):
            linear(f"{layer}.self_attn.{part[0]}_proj", f"{attention}/{part}", i)
        linear(f"{layer}.self_attn.out_proj", f"{attention}/out", i, inputs=2)
        norm(f"{layer}.layer_norm1", f"{attention}/norm", i)
        linear(f"{layer}.mlp.fc1", f"{mlp}/up", i)
        linear(f"{layer}.mlp.fc2", f"{mlp}/down", i)
        norm(f"{layer}.layer_norm2", f"{mlp}/norm", i)
    if part_of(cfg) == "text":
        add(f"{prefix}embeddings.token_embedding.weight", f"{embeddings}/word/embedding")
        norm(f"{prefix}final_layer_norm", "encoder/norm")
    else:
        add(f"{prefix}embeddings.patch_embedding.weight", f"{embeddings}/patch/kernel", layout="patches")
        norm(f"{prefix}post_layernorm", "encoder/norm")
        if clip:
            add(f"{prefix}embeddings.class_embedding", f"{embeddings}/class/embedding")
            norm(f"{prefix}pre_layrnorm", f"{embeddings}/norm")
        else:
            add(f"{prefix}embeddings.patch_embedding.bias", f"{embeddings}/patch/bias")
            add(f"{prefix}head.probe", "encoder/pool/probe/embedding", lead=2)
            for third, part in enumerate(("query", "key", "value")):
                path = f"encoder/pool/attention/{part}"
                add(f"{prefix}head.attention.in_proj_weight", f"{path}/kernel", layout="linear", third=third)
                add(f"{prefix}head.attention.in_proj_bias", f"{path}/bias", third=third)
            linear(f"{prefix}head.attention.out_proj", "encoder/pool/attention/out", inputs=2)
            norm(f"{prefix}head.layernorm", "encoder/pool/mlp/norm")
            linear(f"{prefix}head.mlp.fc1", "encoder/pool/mlp/up")
            linear(f"{prefix}head.mlp.fc2", "encoder/pool/mlp/down")
    if inline_projection(cfg):
        name = projection_name(cfg)
        add(f"{name}.weight", "head/projection/kernel", layout="linear")
        if cfg.head.projection_bias:
            add(f"{name}.bias", "head/projection/bias")
    return leaves


def projection_name(cfg: TowerConfig) -> str:
    """Name of the projection in CLIPModel or SiglipModel."""
    if cfg.encoder.family == "siglip":
        return "text_model.head"
    return "text_projection" if part_of(cfg) == "text" else "visual_projection"


def read_paired(read: Callable[[str], np.ndarray], names: dict[str, str], cfg: TowerConfig, source: str) -> Params:
    """Parameters of one tower from a checkpoint, float32, layers stacked.

    Args:
      read: gives a tensor by the checkpoint's name.
      names: a pair's name of a tensor -> the checkpoint's.
      cfg: the tower's shape.
      source: what errors name.

    Raises:
      ConfigError: a tensor has another shape than config.json says.
    """
    tree: Params = {"encoder": {}, "head": {}}
    for leaf in paired_leaves(cfg):
        value = read(names[leaf.name])
        if value.shape != leaf.hf_shape:
            raise ConfigError(
                f"{source}: {names[leaf.name]} has shape {list(value.shape)}, config.json says {list(leaf.hf_shape)}; "
                "weights and config belong to different models"
            )
        put(tree, leaf.path, leaf.ours(value), leaf.layer, cfg.encoder.layers)
    return tree


def put(tree: Params, path: tuple[str, ...], value: np.ndarray, layer: int | None, layers: int) -> None:
    """Put a tensor, or that of one layer, into a parameter tree."""
    node = tree
    for key in path[:-1]:
        node = node.setdefault(key, {})
    if layer is None:
        node[path[-1]] = np.ascontiguousarray(value)
    else:
        node.setdefault(path[-1], np.empty((layers, *value.shape), np.float32))[layer] = value


def write_paired(params: Params, cfg: TowerConfig) -> Iterator[tuple[str, np.ndarray]]:
    """Parameters of one tower as Hugging Face tensors: names and layout, float32."""
    stacks: dict[str, list[np.ndarray]] = {}
    for leaf in paired_leaves(cfg):
        value = params
        for key in leaf.path:
            value = value[key]
        value = np.asarray(value if leaf.layer is None else value[leaf.layer], np.float32)
        if value.shape != leaf.shape:
            raise ValueError(f"{'/'.join(leaf.path)} has shape {value.shape}, its config says {leaf.shape}")
        value = np.ascontiguousarray(leaf.theirs(value))
        if leaf.third is None:
            yield leaf.name, value
        else:
            stacks.setdefault(leaf.name, []).append(value)
    yield from ((name, np.concatenate(thirds)) for name, thirds in stacks.items())


def match_paired(
    names: Iterable[str], towers: dict[Part, TowerConfig], logits: Iterable[str], source: str
) -> dict[str, str]:
    """Match a checkpoint's tensor names with those of CLIPModel or SiglipModel: name there -> name in the checkpoint.

    A file of one tower may omit the tower's prefix.

    Raises:
      ConfigError: a tensor is missing, or unexpected.
    """
    wanted = {leaf.name for cfg in towers.values() for leaf in paired_leaves(cfg)} | set(logits)
    prefixes = tuple(PREFIXES[part] for part in towers)
    names = [name for name in names if not DROPPED.fullmatch(name)]
    bare = len(towers) == 1 and not any(name.startswith(prefixes) for name in names)
    found: dict[str, str] = {}
    unexpected = []
    for name in names:
        whole = prefixes[0] + name if bare and prefixes[0] + name in wanted else name
        if whole in wanted:
            found[whole] = name
        else:
            unexpected.append(name)
    missing = sorted(wanted - found.keys())
    family = next(iter(towers.values())).encoder.family
    if missing:
        raise ConfigError(f"{source}: {shorten(missing)} missing; the {family} model of config.json needs them")
    if unexpected:
        raise ConfigError(
            f"{source}: unexpected tensors {shorten(unexpected)}; with them it is not the {family} that config.json "
            "states"
        )
    return found

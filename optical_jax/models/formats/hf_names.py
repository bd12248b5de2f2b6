"""Convert BERT, RoBERTa and XLM-R between Hugging Face's format and ours: config.json and tensors."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from optical_jax.config import EncoderConfig
from optical_jax.errors import ConfigError
from optical_jax.types import Params

ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
}
"""Hugging Face's `hidden_act` -> our name. Its tanh approximations of GELU are the same function."""

HF_ACTIVATIONS = {"gelu": "gelu", "gelu_tanh": "gelu_new", "quick_gelu": "quick_gelu", "relu": "relu"}

PAD_IDS = {"bert": 0, "roberta": 1, "xlm-roberta": 1}
"""Supported `model_type`s, with the default padding id."""

ONLY = {
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
    "quantization_config": None,
}
"""Fields of config.json of which only one value is supported."""

ARCHITECTURES = {"bert": "BertModel", "roberta": "RobertaModel", "xlm-roberta": "XLMRobertaModel"}

WORD_EMBEDDING = "embeddings.word_embeddings.weight"
HEADS = re.compile(r"(pooler|cls|lm_head)\.|(.*\.)?position_ids$")
"""Tensors of these families that a tower does not use."""


# ---- config.json -------------------------------------------------------------------------------------------------


def encoder_config(config: dict[str, Any], source: str) -> EncoderConfig:
    """EncoderConfig of a Hugging Face config.json.

    Raises:
      ConfigError: a model, activation or position embedding that is not supported, or a size that is missing.
    """
    family = config.get("model_type")
    if family not in PAD_IDS:
        raise ConfigError(
            f"{source}: model_type={family!r} is not supported; supported are {', '.join(PAD_IDS)}, clip and siglip"
        )
    activation = config.get("hidden_act", "gelu")
    if activation not in ACTIVATIONS:
        raise ConfigError(
            f"{source}: hidden_act={activation!r} is not supported; supported are {', '.join(ACTIVATIONS)}"
        )
    for key, supported in ONLY.items():
        if config.get(key, supported) != supported:
            raise ConfigError(f"{source}: {key}={config[key]!r} is not supported; only {supported!r} is")

    def size(key: str) -> int:
        value = config.get(key)
        if not isinstance(value, int) or value < 1:
            raise ConfigError(f"{source}: {key}={value!r} is not a positive integer; {family} models need one")
        return value

    pad_id = config.get("pad_token_id")
    return EncoderConfig(
        family=family,
        vocab_size=size("vocab_size"),
        width=size("hidden_size"),
        layers=size("num_hidden_layers"),
        heads=size("num_attention_heads"),
        mlp_width=size("intermediate_size"),
        max_positions=size("max_position_embeddings"),
        type_vocab_size=config.get("type_vocab_size", 2),
        activation=ACTIVATIONS[activation],  # pyright: ignore[reportArgumentType]
        norm_eps=config.get("layer_norm_eps", 1e-12),
        pad_id=PAD_IDS[family] if pad_id is None else pad_id,
    )


def hf_config(cfg: EncoderConfig) -> dict[str, Any]:
    """Hugging Face config.json of an encoder."""
    return {
        "architectures": [ARCHITECTURES[cfg.family]],
        "model_type": cfg.family,
        "vocab_size": cfg.vocab_size,
        "hidden_size": cfg.width,
        "num_hidden_layers": cfg.layers,
        "num_attention_heads": cfg.heads,
        "intermediate_size": cfg.mlp_width,
        "max_position_embeddings": cfg.max_positions,
        "type_vocab_size": cfg.type_vocab_size,
        "hidden_act": HF_ACTIVATIONS[cfg.activation],
        "layer_norm_eps": cfg.norm_eps,
        "pad_token_id": cfg.pad_id,
        "position_embedding_type": "absolute",
        "dtype": "float32",
    }


# ---- tensors -----------------------------------------------------------------------------------------------------


class Tensor(NamedTuple):
    """Path of a Hugging Face tensor in our parameter tree, and its shape there and here."""

    path: tuple[str, ...]
    layer: int | None
    hf_shape: tuple[int, ...]
    shape: tuple[int, ...]
    transposed: bool
    """A torch linear layer keeps [out, in]; our kernels are [in, out]."""


def encoder_tensors(cfg: EncoderConfig) -> dict[str, Tensor]:
    """Every tensor of an encoder, by its Hugging Face name without prefix."""
    D, F, H = cfg.width, cfg.mlp_width, cfg.heads
    K = D // H
    table: dict[str, Tensor] = {}

    def linear(name: str, path: tuple[str, ...], layer: int, out: int, into: int, kernel: Any, bias: Any) -> None:
        table[f"{name}.weight"] = Tensor((*path, "kernel"), layer, (out, into), kernel, True)
        table[f"{name}.bias"] = Tensor((*path, "bias"), layer, (out,), bias, False)

    def norm(name: str, path: tuple[str, ...], layer: int | None) -> None:
        table[f"{name}.weight"] = Tensor((*path, "scale"), layer, (D,), (D,), False)
        table[f"{name}.bias"] = Tensor((*path, "bias"), layer, (D,), (D,), False)

    rows = {"word": cfg.vocab_size, "position": cfg.max_positions, "token_type": cfg.type_vocab_size}
    for kind, count in rows.items():
        path = ("embeddings", kind, "embedding")
        table[f"embeddings.{kind}_embeddings.weight"] = Tensor(path, None, (count, D), (count, D), False)
    norm("embeddings.LayerNorm", ("embeddings", "norm"), None)
    for i in range(cfg.layers):
        layer, attention, mlp = f"encoder.layer.{i}", ("layers", "attention"), ("layers", "mlp")
        for part in ("query", "key", "value"):
            linear(f"{layer}.attention.self.{part}", (*attention, part), i, D, D, (D, H, K), (H, K))
        linear(f"{layer}.attention.output.dense", (*attention, "out"), i, D, D, (H, K, D), (D,))
        norm(f"{layer}.attention.output.LayerNorm", (*attention, "norm"), i)
        linear(f"{layer}.intermediate.dense", (*mlp, "up"), i, F, D, (D, F), (F,))
        linear(f"{layer}.output.dense", (*mlp, "down"), i, D, F, (F, D), (D,))
        norm(f"{layer}.output.LayerNorm", (*mlp, "norm"), i)
    return table


class Names(NamedTuple):
    """Names of a checkpoint's tensors: the encoder's, those dropped, and unexpected ones."""

    encoder: dict[str, str]
    """Our table's name -> the checkpoint's."""
    dropped: list[str]
    unexpected: list[str]


def match_names(names: Iterable[str], cfg: EncoderConfig, source: str) -> Names:
    """Match a checkpoint's tensor names with the encoder's, under any prefix (`bert.`, `roberta.`, ...).

    Raises:
      ConfigError: a tensor is missing, or there is not exactly one encoder.
    """
    names = sorted(names)
    prefixes = [name.removesuffix(WORD_EMBEDDING) for name in names if name.endswith(WORD_EMBEDDING)]
    if len(prefixes) != 1:
        found = f"{len(prefixes)} encoders ({', '.join(prefixes)})" if prefixes else "no encoder"
        raise ConfigError(f"{source}: {found} in it; exactly one tensor may end in {WORD_EMBEDDING}")
    prefix, wanted = prefixes[0], encoder_tensors(cfg)
    encoder: dict[str, str] = {}
    dropped, unexpected = [], []
    for name in names:
        short = name.removeprefix(prefix)
        # Checkpoints converted from TensorFlow call a norm's parameters gamma and beta.
        modern = short.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
        if name.startswith(prefix) and modern in wanted:
            encoder[modern] = name
        elif HEADS.match(short):
            dropped.append(name)
        else:
            unexpected.append(name)
    missing = [prefix + name for name in wanted if name not in encoder]
    if missing:
        raise ConfigError(f"{source}: {shorten(missing)} missing; the {cfg.layers} layers of config.json need them")
    return Names(encoder, dropped, unexpected)


def to_tree(read: Callable[[str], np.ndarray], names: dict[str, str], cfg: EncoderConfig, source: str) -> Params:
    """Encoder parameters from a checkpoint, float32, layers stacked; `read` gives a tensor by the checkpoint's name.

    Raises:
      ConfigError: a tensor has another shape than config.json says.
    """
    tree: Params = {}
    for name, tensor in encoder_tensors(cfg).items():
        value = read(names[name])
        if value.shape != tensor.hf_shape:
            raise ConfigError(
                f"{source}: {names[name]} has shape {list(value.shape)}, config.json says {list(tensor.hf_shape)}; "
                "weights and config belong to different models"
            )
        value = (value.T if tensor.transposed else value).reshape(tensor.shape)
        node = tree
        for key in tensor.path[:-1]:
            node = node.setdefault(key, {})
        if tensor.layer is None:
            node[tensor.path[-1]] = np.ascontiguousarray(value)
        else:
            stack = node.setdefault(tensor.path[-1], np.empty((cfg.layers, *tensor.shape), np.float32))
            stack[tensor.layer] = value
    return tree


def from_tree(params: Params, cfg: EncoderConfig) -> Iterator[tuple[str, np.ndarray]]:
    """Encoder parameters as Hugging Face tensors: names and layout, float32."""
    for name, tensor in encoder_tensors(cfg).items():
        value = params
        for key in tensor.path:
            value = value[key]
        value = np.asarray(value if tensor.layer is None else value[tensor.layer], np.float32)
        if value.shape != tensor.shape:
            raise ValueError(f"{'/'.join(tensor.path)} has shape {value.shape}, its config says {tensor.shape}")
        value = value.reshape(tensor.hf_shape[::-1]).T if tensor.transposed else value.reshape(tensor.hf_shape)
        yield name, np.ascontiguousarray(value)


def shorten(names: list[str], at_most: int = 4) -> str:
    """The first names, and how many more there are."""
    more = len(names) - at_most
    return ", ".join(names[:at_most]) + (f" and {more} more" if more > 0 else "")

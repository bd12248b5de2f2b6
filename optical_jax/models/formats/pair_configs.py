"""Convert CLIP and SigLIP configs between Hugging Face's config.json and ours."""

from __future__ import annotations

from typing import Any, Literal

from optical_jax.config import EncoderConfig, HeadConfig, ImageEncoderConfig, ImageTowerConfig, TowerConfig
from optical_jax.errors import ConfigError
from optical_jax.models.formats.hf_names import ACTIVATIONS, HF_ACTIVATIONS

Part = Literal["text", "image"]

SHAPE = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "hidden_act", "layer_norm_eps")
DEFAULTS: dict[str, dict[str, Any]] = {
    "clip_text_model": dict(zip(SHAPE, (512, 2048, 12, 8, "quick_gelu", 1e-5), strict=True))
    | {"vocab_size": 49408, "max_position_embeddings": 77, "pad_token_id": 1, "eos_token_id": 49407},
    "clip_vision_model": dict(zip(SHAPE, (768, 3072, 12, 12, "quick_gelu", 1e-5), strict=True))
    | {"image_size": 224, "patch_size": 32},
    "siglip_text_model": dict(zip(SHAPE, (768, 3072, 12, 12, "gelu_pytorch_tanh", 1e-6), strict=True))
    | {"vocab_size": 32000, "max_position_embeddings": 64, "pad_token_id": 1},
    "siglip_vision_model": dict(zip(SHAPE, (768, 3072, 12, 12, "gelu_pytorch_tanh", 1e-6), strict=True))
    | {"image_size": 224, "patch_size": 16},
}
"""Defaults of config.json: files on the hub state only what differs from them."""
PROJECTION = 512
"""Default of CLIP's `projection_dim`."""

MODEL_TYPES: dict[str, tuple[Part, ...]] = {
    "clip": ("text", "image"),
    "siglip": ("text", "image"),
    "clip_text_model": ("text",),
    "clip_vision_model": ("image",),
    "siglip_text_model": ("text",),
    "siglip_vision_model": ("image",),
}
"""Supported `model_type`s, and the towers in each."""
SECTIONS: dict[Part, str] = {"text": "text_config", "image": "vision_config"}
ARCHITECTURES = {
    ("clip", "text"): "CLIPTextModel",
    ("clip", "image"): "CLIPVisionModel",
    ("siglip", "text"): "SiglipTextModel",
    ("siglip", "image"): "SiglipVisionModel",
}


def part_of(cfg: TowerConfig) -> Part:
    """Modality of a tower: "text" or "image"."""
    return "image" if isinstance(cfg, ImageTowerConfig) else "text"


def is_pair_family(cfg: TowerConfig) -> bool:
    """True for a tower of CLIP or SigLIP, of either modality."""
    return cfg.encoder.family in ("clip", "siglip")


def paired_configs(config: dict[str, Any], source: str) -> dict[Part, TowerConfig]:
    """Tower configs of a CLIP or SigLIP config.json, pooled as in training: one vector per text or image.

    Raises:
      ConfigError: an activation or a shape that is not supported.
    """
    model_type = config["model_type"]
    family, parts = model_type.partition("_")[0], MODEL_TYPES[model_type]
    if config.get("quantization_config") is not None:
        raise ConfigError(f"{source}: quantization_config is not supported; take the model as it was trained")
    found: dict[Part, TowerConfig] = {}
    for part in parts:
        stated, kind = config, model_type
        if len(parts) == 2:
            kind = f"{family}_{'text' if part == 'text' else 'vision'}_model"
            # Where the first versions of transformers left both, it is the _dict that counts, with its own defaults.
            stated = config.get(f"{SECTIONS[part]}_dict") or config.get(SECTIONS[part]) or {}
            if family == "clip":
                stated = {**stated, "projection_dim": config.get("projection_dim", PROJECTION)}
        stated = {**DEFAULTS[kind], **{key: value for key, value in stated.items() if value is not None}}
        make = text_tower if part == "text" else image_tower
        found[part] = make(family, stated, f"{source} ({SECTIONS[part]})" if len(parts) == 2 else source)
    return found


def shape_of(stated: dict[str, Any], source: str) -> dict[str, Any]:
    """The fields that text and image encoders have in common."""
    activation = stated["hidden_act"]
    if activation not in ACTIVATIONS:
        raise ConfigError(
            f"{source}: hidden_act={activation!r} is not supported; supported are {', '.join(ACTIVATIONS)}"
        )
    names = {
        "width": "hidden_size",
        "layers": "num_hidden_layers",
        "heads": "num_attention_heads",
        "mlp_width": "intermediate_size",
    }
    shape: dict[str, Any] = {ours: size(stated, key, source) for ours, key in names.items()}
    return shape | {"activation": ACTIVATIONS[activation], "norm_eps": float(stated["layer_norm_eps"])}


def size(stated: dict[str, Any], key: str, source: str) -> int:
    value = stated.get(key)
    if not isinstance(value, int) or value < 1:
        raise ConfigError(f"{source}: {key}={value!r} is not a positive integer, and nothing else is supported")
    return value


def text_tower(family: str, stated: dict[str, Any], source: str) -> TowerConfig:
    longest, clip = size(stated, "max_position_embeddings", source), family == "clip"
    eos = stated.get("eos_token_id")
    if clip and not isinstance(eos, int):
        raise ConfigError(f"{source}: eos_token_id={eos!r} is not supported; only one id is")
    encoder = EncoderConfig(
        family=family,  # pyright: ignore[reportArgumentType]
        vocab_size=size(stated, "vocab_size", source),
        max_positions=longest,
        type_vocab_size=0,
        pad_id=stated["pad_token_id"],
        eos_id=eos if clip else None,
        **shape_of(stated, source),
    )
    head = HeadConfig(
        projection=stated.get("projection_dim", PROJECTION) if clip else stated.get("projection_size", encoder.width),
        projection_bias=not clip,
        pooling="eos" if clip else "last",
        query_length=longest,
        document_length=longest,
    )
    return TowerConfig(encoder, head)


def image_tower(family: str, stated: dict[str, Any], source: str) -> TowerConfig:
    for key, supported in (("num_channels", 3), ("vision_use_head", True)):
        if stated.get(key, supported) != supported:
            raise ConfigError(f"{source}: {key}={stated[key]!r} is not supported; only {supported!r} is")
    encoder = ImageEncoderConfig(
        family=family,  # pyright: ignore[reportArgumentType]
        image_size=size(stated, "image_size", source),
        patch_size=size(stated, "patch_size", source),
        **shape_of(stated, source),
    )
    if family == "siglip":
        return ImageTowerConfig(encoder, HeadConfig(pooling="map"))
    return ImageTowerConfig(encoder, HeadConfig(projection=stated.get("projection_dim", PROJECTION), pooling="cls"))


def paired_config(cfg: TowerConfig) -> dict[str, Any]:
    """Hugging Face config.json of one tower."""
    encoder, part = cfg.encoder, part_of(cfg)
    family = encoder.family
    activation = {"gelu_tanh": "gelu_pytorch_tanh"}.get(encoder.activation) or HF_ACTIVATIONS[encoder.activation]
    shape = (encoder.width, encoder.mlp_width, encoder.layers, encoder.heads, activation, encoder.norm_eps)
    projected = inline_projection(cfg)
    config: dict[str, Any] = {
        "architectures": [ARCHITECTURES[family, part] + ("WithProjection" if family == "clip" and projected else "")],
        "model_type": f"{family}_{'text' if part == 'text' else 'vision'}_model",
        **dict(zip(SHAPE, shape, strict=True)),
        "dtype": "float32",
    }
    if isinstance(encoder, ImageEncoderConfig):
        config |= {"image_size": encoder.image_size, "patch_size": encoder.patch_size, "num_channels": 3}
    else:
        config |= {
            "vocab_size": encoder.vocab_size,
            "max_position_embeddings": encoder.max_positions,
            "pad_token_id": encoder.pad_id,
            "eos_token_id": encoder.eos_id,
        }
    if projected:
        config["projection_dim" if family == "clip" else "projection_size"] = cfg.head.projection
    return config


def pair_config(text: TowerConfig, image: TowerConfig) -> dict[str, Any]:
    """Hugging Face config.json of a CLIPModel or SiglipModel."""
    family = text.encoder.family
    config: dict[str, Any] = {
        "architectures": [{"clip": "CLIPModel", "siglip": "SiglipModel"}[family]],
        "model_type": family,
        "dtype": "float32",
    }
    for cfg in (text, image):
        config[SECTIONS[part_of(cfg)]] = {
            k: x for k, x in paired_config(cfg).items() if k not in ("architectures", "dtype")
        }
    return config | ({"projection_dim": text.head.projection} if family == "clip" else {})


def inline_projection(cfg: TowerConfig) -> bool:
    """True if the family's format includes the projection: without bias in CLIP, with bias in SigLIP's text tower."""
    return cfg.head.projection > 0 and cfg.head.projection_bias == (cfg.encoder.family == "siglip")

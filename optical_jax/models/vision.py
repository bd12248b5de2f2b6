"""Vision transformers (ViT): CLIP's and SigLIP's image encoders of fixed resolution.

CLIP: patches without bias, a class token before them, a norm before the first layer, and one after the last. SigLIP:
patches with bias, no class token, a norm after the last layer, and attention pooling by a learned query.
Sources: Dosovitskiy et al. (ICLR 2021); Radford et al. (ICML 2021); Zhai et al. (CVPR 2022) for the pooling.
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from optical_jax.config import ImageEncoderConfig
from optical_jax.errors import ConfigError
from optical_jax.models.attention import attention_specs, make_mix, mix
from optical_jax.models.bert import check_heads
from optical_jax.models.layers import contract, dense, feed_forward_specs, layer_norm, layer_norm_specs
from optical_jax.models.pre_norm import pre_norm_feed_forward, pre_norm_layers, pre_norm_specs
from optical_jax.params import Spec, SpecTree, zeros
from optical_jax.partitioning import constrain
from optical_jax.types import Params

CUBIC = -0.75
"""Parameter a of PyTorch's bicubic kernel, its slope at distance one; others take -0.5."""


def vision_specs(cfg: ImageEncoderConfig) -> SpecTree:
    """Shapes, logical axes and initialisers of every parameter of the encoder.

    Raises:
      ConfigError: the width does not divide into the heads, or an image is smaller than a patch.
    """
    check_heads(cfg)
    if cfg.grid < 1:
        raise ConfigError(f"encoder.image_size={cfg.image_size} is less than encoder.patch_size={cfg.patch_size}")
    D, P, clip = cfg.width, cfg.patch_size, cfg.family == "clip"
    patch: dict[str, Spec] = {"kernel": Spec((P, P, 3, D), (None, None, None, "embed"))}
    embeddings: dict[str, SpecTree] = {
        "patch": patch,
        "position": {"embedding": Spec((cfg.grid**2 + clip, D), ("position", "embed"))},
    }
    specs: dict[str, SpecTree] = {
        "embeddings": embeddings,
        "layers": pre_norm_specs(cfg),
        "norm": layer_norm_specs(D),
    }
    if clip:
        embeddings["class"] = {"embedding": Spec((D,), ("embed",))}
        embeddings["norm"] = layer_norm_specs(D)
    else:
        patch["bias"] = Spec((D,), ("embed",), zeros)
        reading = {name: attention_specs(cfg)[name] for name in ("query", "key", "value", "out")}
        probe = {"embedding": Spec((D,), ("embed",))}
        specs["pool"] = {"probe": probe, "attention": reading, "mlp": feed_forward_specs(cfg)}
    return specs


def encode_patches(
    params: Params, pixels: Float[Array | np.ndarray, "B height width 3"], cfg: ImageEncoderConfig
) -> Float[Array, "B L D"]:
    """Hidden states after the final norm, in `cfg.dtype`: of every patch, row by row; CLIP's class token first.

    Args:
      params: a tree of `vision_specs(cfg)`, float32; or the result of `unstack_layers` on one.
      pixels: normalised images.
      cfg: the encoder's shape; static under jit.

    Raises:
      ConfigError: images of another size than `cfg.image_size`, without `cfg.interpolate`.
    """
    x = embed_patches(params["embeddings"], pixels, cfg)
    everything = jnp.ones(x.shape[:2], bool)
    x = pre_norm_layers(params["layers"], x, make_mix(cfg, everything, None, aligned=True), cfg)
    return constrain(layer_norm(params["norm"], x, cfg.norm_eps), ("batch", "length", None))


@jax.named_scope("embeddings")
def embed_patches(
    params: Params, pixels: Float[Array | np.ndarray, "B height width 3"], cfg: ImageEncoderConfig
) -> Float[Array, "B L D"]:
    """Patch and position embeddings; for CLIP with the class token and norm."""
    B, height, width, _ = pixels.shape
    check_size(height, width, cfg)
    P, clip = cfg.patch_size, cfg.family == "clip"
    rows, columns = height // P, width // P
    cut = jnp.asarray(pixels)[:, : rows * P, : columns * P].reshape(B, rows, P, columns, P, 3)
    patches = cut.transpose(0, 1, 3, 2, 4, 5).reshape(B * rows * columns, P * P * 3).astype(cfg.dtype)
    kernel = params["patch"]["kernel"].reshape(P * P * 3, cfg.width)
    x = contract("MI,IO->MO", patches, kernel, "float32").reshape(B, rows * columns, cfg.width).astype(jnp.float32)
    table = constrain(params["position"]["embedding"], ("position", None))
    x = x + resize_positions(table[clip:], cfg.grid, rows, columns)
    if clip:
        first = jnp.broadcast_to(params["class"]["embedding"] + table[0], (B, 1, cfg.width))
        x = layer_norm(params["norm"], jnp.concatenate([first, x], axis=1), cfg.norm_eps)
    else:
        x = x + params["patch"]["bias"]
    return constrain(x.astype(cfg.dtype), ("batch", "length", None))


def check_size(height: int, width: int, cfg: ImageEncoderConfig) -> None:
    """Raise ConfigError for an image size in pixels that the encoder does not accept."""
    if min(height, width) < cfg.patch_size:
        raise ConfigError(
            f"images of {height} x {width} pixels are smaller than a patch of {cfg.patch_size}; enlarge them"
        )
    if not cfg.interpolate and (height, width) != (cfg.image_size, cfg.image_size):
        raise ConfigError(
            f"images of {height} x {width} pixels do not match the encoder's {cfg.image_size} x {cfg.image_size}; "
            "resize them, or set encoder.interpolate=True"
        )


def attention_pool(params: Params, states: Float[Array, "B L D"], cfg: ImageEncoderConfig) -> Float[Array, "B 1 D"]:
    """Attention pooling by a learned query over all patches, then a feed-forward block: SigLIP's image vector."""
    heads = params["attention"]
    probe = jnp.broadcast_to(params["probe"]["embedding"], (states.shape[0], 1, cfg.width)).astype(states.dtype)
    query, key, value = dense(heads["query"], probe), dense(heads["key"], states), dense(heads["value"], states)
    read = mix(query, key, value, jnp.ones((states.shape[0], 1, states.shape[1]), bool))  # [B, 1, H, K]
    return pre_norm_feed_forward(params["mlp"], dense(heads["out"], read, inputs=2), cfg)


# ---- positions -------------------------------------------------------------------------------------------------


def resize_positions(table: Float[Array, "P D"], grid: int, rows: int, columns: int) -> Float[Array, "L D"]:
    """Interpolate position embeddings of a square grid to rows x columns patches: bicubic, as in transformers."""
    if rows == columns == grid:
        return table
    square = table.reshape(grid, grid, -1)
    down, across = bicubic_weights(grid, rows), bicubic_weights(grid, columns)
    resized = jnp.einsum("rp,cq,pqd->rcd", down, across, square, precision=jax.lax.Precision.HIGHEST)
    return resized.reshape(rows * columns, -1)


@functools.lru_cache(maxsize=32)
def bicubic_weights(size: int, wanted: int) -> np.ndarray:
    """Bicubic interpolation matrix [wanted, size], as PyTorch's `interpolate(mode="bicubic")`.

    align_corners=False, no antialiasing; the edge value is repeated beyond the border.
    """
    weights = np.zeros((wanted, size))
    for i in range(wanted):
        at = (i + 0.5) * size / wanted - 0.5
        first = math.floor(at)
        for place in range(first - 1, first + 3):
            weights[i, min(max(place, 0), size - 1)] += _cubic(abs(at - place))
    return weights.astype(np.float32)


def _cubic(distance: float) -> float:
    """Keys' kernel of cubic convolution (IEEE TASSP 29(6), 1981)."""
    if distance <= 1:
        return ((CUBIC + 2) * distance - (CUBIC + 3)) * distance**2 + 1
    return CUBIC * (((distance - 5) * distance + 8) * distance - 4) if distance < 2 else 0.0

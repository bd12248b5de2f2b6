"""Multi-head self-attention, and the choice of its implementation (XLA, cuDNN, splash)."""

from __future__ import annotations

import functools
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from optical_jax.config import AnyEncoderConfig
from optical_jax.errors import ConfigError
from optical_jax.models.attention_kernels import LANES, Mix, cudnn_mix, splash_mix
from optical_jax.models.layers import contract, dense, layer_norm, layer_norm_specs
from optical_jax.params import Spec, SpecTree, zeros
from optical_jax.partitioning import constrain, platform
from optical_jax.types import Params

MASKED_SCORE = -1e30
"""Finite, so that a query without any key gives a mean rather than NaN."""

LONG_ROW = 512
"""Row length in tokens from which `auto` takes a kernel. Kernels save memory for the scores, L x L per head, which is
small for short rows: at 64 tokens less than the other activations, and half a block of 128. The break-even point was
not measured; 512 is the shortest length in the kernels' own examples."""

PLATFORMS = {"cudnn": "cuda", "splash": "tpu"}
"""Kernel -> platform it runs on, as `platform` names it."""


def attention_specs(cfg: AnyEncoderConfig) -> SpecTree:
    D, H, K = cfg.width, cfg.heads, cfg.width // cfg.heads

    def heads_in() -> SpecTree:
        return {
            "kernel": Spec((D, H, K), ("embed", "heads", "head_width")),
            "bias": Spec((H, K), ("heads", "head_width"), zeros),
        }

    return {
        "query": heads_in(),
        "key": heads_in(),
        "value": heads_in(),
        "out": {"kernel": Spec((H, K, D), ("heads", "head_width", "embed")), "bias": Spec((D,), ("embed",), zeros)},
        "norm": layer_norm_specs(D),
    }


@jax.named_scope("attention")
def attention(params: Params, x: Float[Array, "B L D"], mix: Mix, cfg: AnyEncoderConfig) -> Float[Array, "B L D"]:
    """Post-norm self-attention block with residual, as in BERT."""
    out = read_others(params, x, mix)
    return constrain(layer_norm(params["norm"], x + out, cfg.norm_eps), ("batch", "length", None))


def read_others(params: Params, x: Float[Array, "B L D"], mix: Mix) -> Float[Array, "B L D"]:
    """Multi-head attention by `mix`, without residual and norm. Softmax in float32, whatever the dtype of `x`."""
    by_head = ("batch", "length", "heads", None)
    query, key, value = (
        constrain(dense(params[name], x), by_head) for name in ("query", "key", "value")
    )  # [B, L, H, K]
    mixed = constrain(mix(query, key, value), by_head)
    return dense(params["out"], mixed, inputs=2)


def mix(
    query: Float[Array, "B L H K"],
    key: Float[Array, "B T H K"],
    value: Float[Array, "B T H K"],
    readable: Bool[Array | np.ndarray, "B #L T"],
) -> Float[Array, "B L H K"]:
    """Scaled dot-product attention of L queries over T keys, masked by `readable`."""
    # Heads first, and division by the softmax's sum at the end: a fifth faster on CPU than the other order.
    query, key, value = (x.transpose(0, 2, 1, 3) for x in (query, key, value))  # [B, H, L, K]
    scores = contract("BHLK,BHTK->BHLT", query * query.shape[-1] ** -0.5, key, "float32")
    scores = jnp.where(readable[:, None], scores, MASKED_SCORE)
    exponents = jnp.exp(scores - jax.lax.stop_gradient(scores.max(axis=-1, keepdims=True)))  # [B, H, L, T]
    mixed = contract("BHLT,BHTK->BHLK", exponents.astype(query.dtype), value, "float32")
    return (mixed / exponents.sum(axis=-1, keepdims=True)).astype(query.dtype).transpose(0, 2, 1, 3)


# ---- implementations -------------------------------------------------------------------------------------------


def make_mix(
    cfg: AnyEncoderConfig,
    attend: Bool[Array, "B L"],
    text: Int[Array, "B L"] | None,
    *,
    aligned: bool = False,
    causal: bool = False,
) -> Mix:
    """Attention function of a batch: every token attends to the tokens of its own text where `attend` is True.

    Args:
      cfg: implementation and shape.
      attend: True on tokens that may be attended to.
      text: segment ids, different for every text of a row, -1 on padding; None for one text per row.
      aligned: promises that `attend` is True on a prefix of every row.
      causal: causal mask. Always by XLA: kernels are for long rows, and causal text encoders are short.

    Raises:
      ConfigError: as `choose_attention`, or a kernel was set for causal attention.
    """
    if causal and cfg.attention in PLATFORMS:
        raise ConfigError(f"encoder.attention={cfg.attention} is bidirectional, but {cfg.family} is causal; use xla")
    way = "xla" if causal else choose_attention(cfg, attend.shape[1], platform())
    if way == "cudnn":
        return cudnn_mix(attend, text, aligned=aligned)
    if way == "splash":
        return splash_mix(attend, text, interpret=jax.default_backend() != "tpu")
    readable = attend[:, None, :]  # [B, 1, L], or [B, L, L] where rows hold several texts
    if text is not None:
        readable = readable & (text[:, :, None] == text[:, None, :])
    if causal:
        readable = readable & np.tri(attend.shape[1], dtype=bool)
    return functools.partial(mix, readable=readable)


def choose_attention(
    cfg: AnyEncoderConfig, length: int, on: str, name: str = "encoder.attention"
) -> Literal["xla", "cudnn", "splash"]:
    """Resolve `cfg.attention` for rows of `length` tokens on the platform `on`.

    Raises:
      ConfigError: an explicit choice that is not supported; the message calls it `name`.
    """
    if cfg.attention == "xla":
        return "xla"
    if cfg.attention != "auto":
        check_platform(cfg.attention, on, name)
        obstacle = find_obstacle(cfg.attention, cfg, length)
        if obstacle:
            raise ConfigError(f"{name}={cfg.attention} {obstacle}, or use xla")
        return cfg.attention
    for way in ("cudnn", "splash"):
        if length >= LONG_ROW and PLATFORMS[way] == on and not find_obstacle(way, cfg, length):
            return way
    return "xla"


def check_platform(way: str, on: str, name: str) -> None:
    """Raise ConfigError where `way` is a kernel of another platform than `on`."""
    if PLATFORMS.get(way, on) != on:
        device = {"cuda": "NVIDIA GPUs of compute capability 8 and above", "tpu": "TPUs"}[PLATFORMS[way]]
        raise ConfigError(f"{name}={way} runs on {device}, not on this device (platform {on}); use auto")


def find_obstacle(way: Literal["cudnn", "splash"], cfg: AnyEncoderConfig, length: int) -> str:
    """Reason and remedy if a kernel does not support this shape; empty if it does."""
    head_width = cfg.width // cfg.heads
    if cfg.dtype != "bfloat16":
        # cuDNN supports only this dtype; splash would accept float32, but multiply with fewer bits.
        return f"needs bfloat16, not dtype={cfg.dtype}; set dtype=bfloat16"
    if way == "cudnn" and (head_width % 8 or head_width > 128):
        return f"needs heads of width 8, 16, ... 128, not width / heads = {head_width}; change the number of heads"
    if way == "cudnn" and length % 2:
        return f"needs rows of an even number of tokens, not {length}; pad them to {length + 1}"
    if way == "splash" and length % LANES:
        return f"needs rows of a multiple of {LANES} tokens, not {length}; pad them to {-(-length // LANES) * LANES}"
    return ""

"""Pre-norm Transformer layers, as in CLIP, SigLIP and other vision transformers.

Parameters have the names of the post-norm layers; the norm is applied to a block's input instead of its output.
"""

from __future__ import annotations

from typing import Any

import jax
from jaxtyping import Array, Float

from optical_jax.config import AnyEncoderConfig
from optical_jax.models.attention import attention_specs, read_others
from optical_jax.models.attention_kernels import Mix
from optical_jax.models.layers import feed_forward_specs, layer_norm, up_and_down
from optical_jax.models.stack import run_layers
from optical_jax.params import SpecTree, stack_specs
from optical_jax.partitioning import constrain
from optical_jax.types import Params


def pre_norm_specs(cfg: AnyEncoderConfig) -> SpecTree:
    """Parameters of all layers, stacked."""
    return stack_specs({"attention": attention_specs(cfg), "mlp": feed_forward_specs(cfg)}, cfg.layers)


def pre_norm_layers(params: Params, x: Float[Array, "B L D"], mix: Mix, cfg: AnyEncoderConfig) -> Float[Array, "B L D"]:
    """Hidden states after the last layer, before the final norm."""

    def layer(x: jax.Array, params: Any) -> jax.Array:
        return pre_norm_feed_forward(params["mlp"], pre_norm_attention(params["attention"], x, mix, cfg), cfg)

    return run_layers(layer, x, params, cfg)


@jax.named_scope("attention")
def pre_norm_attention(
    params: Params, x: Float[Array, "B L D"], mix: Mix, cfg: AnyEncoderConfig
) -> Float[Array, "B L D"]:
    read = read_others(params, layer_norm(params["norm"], x, cfg.norm_eps), mix)
    return constrain(x + read, ("batch", "length", None))


@jax.named_scope("feed_forward")
def pre_norm_feed_forward(params: Params, x: Float[Array, "B L D"], cfg: AnyEncoderConfig) -> Float[Array, "B L D"]:
    widened = up_and_down(params, layer_norm(params["norm"], x, cfg.norm_eps), cfg)
    return constrain(x + widened, ("batch", "length", None))

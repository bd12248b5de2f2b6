"""A stack of equal layers, run one after the other, and what of them is kept for the backward pass.

Layers are stacked on a leading axis and run under `jax.lax.scan`: one layer is compiled, however many there are. Only
shallow encoders are unrolled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import Array, Float

from optical_jax.config import AnyEncoderConfig
from optical_jax.models.attention_kernels import MIXED
from optical_jax.models.layers import DENSE
from optical_jax.types import Params

UNROLLED_LAYERS = 6
"""Encoders up to this depth are unrolled whole: a scan stacks every activation that the backward pass needs, which
takes a seventh of the pass on CPU. Unrolling by parts saves nothing."""
KEPT: dict[str, Any] = {
    # By name, not by `jax.checkpoint_policies.dots_*`: those keep products before they are rounded to the activations'
    # type, and what a kernel gives is no product to them.
    "dots": jax.checkpoint_policies.save_only_these_names(DENSE, MIXED),
    "full": jax.checkpoint_policies.nothing_saveable,
}
"""By the `remat` of an encoder, what the forward pass of a layer keeps for the backward pass, beside its input."""


def run_layers(
    layer: Callable[[jax.Array, Any], jax.Array], x: Float[Array, "B L D"], params: Params, cfg: AnyEncoderConfig
) -> Float[Array, "B L D"]:
    """`x` through all layers.

    Args:
      layer: states and one layer's parameters to states.
      x: states before the first layer.
      params: the layers' parameters, stacked, or in a tuple (`unstack_layers`).
      cfg: says how many there are, and what is kept.
    """
    if isinstance(params, tuple):
        step = layer if cfg.remat == "none" else jax.checkpoint(layer, policy=KEPT[cfg.remat])
        for one in params:
            x = step(x, one)
        return x

    def carry(x: jax.Array, one: Any) -> tuple[jax.Array, None]:
        return layer(x, one), None

    if cfg.remat != "none":
        # Between two loops XLA cannot merge the recomputation with the forward pass: no barrier against it is needed.
        again = jax.checkpoint(carry, prevent_cse=False, policy=KEPT[cfg.remat])
        return jax.lax.scan(again, x, params)[0]
    return jax.lax.scan(carry, x, params, unroll=cfg.layers <= UNROLLED_LAYERS)[0]


def unstack_layers(params: Params) -> Params:
    """An encoder's parameters with its layers in a tuple.

    For forward passes: out of a stack every call copies each layer's weights before it multiplies by them, which a CPU
    takes time for. And for layers that differ in whether they are trained.
    """
    stacked = params["layers"]
    return {
        **params,
        "layers": tuple(jax.tree.map(lambda x, n=n: x[n], stacked) for n in range(len(jax.tree.leaves(stacked)[0]))),
    }

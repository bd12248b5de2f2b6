"""Stacks of Transformer layers under `jax.lax.scan`, with rematerialisation.

Layers are stacked on a leading axis, so that one layer is compiled for any depth. Only shallow encoders are unrolled.
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
"""Encoders up to this depth are fully unrolled: a scan stacks the residuals of the backward pass, which takes a seventh
of the pass on CPU. Partial unrolling saves nothing."""
KEPT: dict[str, Any] = {
    # By name, not by `jax.checkpoint_policies.dots_*`: those save products before rounding to the activation dtype,
    # and do not cover the outputs of attention kernels.
    "dots": jax.checkpoint_policies.save_only_these_names(DENSE, MIXED),
    "full": jax.checkpoint_policies.nothing_saveable,
}
"""Encoder `remat` -> checkpoint policy: what a layer's forward pass saves for the backward pass, beside its input."""


def run_layers(
    layer: Callable[[jax.Array, Any], jax.Array], x: Float[Array, "B L D"], params: Params, cfg: AnyEncoderConfig
) -> Float[Array, "B L D"]:
    """Apply all layers to `x`.

    Args:
      layer: f(hidden states, parameters of one layer) -> hidden states.
      x: hidden states before the first layer.
      params: the layers' parameters, stacked, or in a tuple (`unstack_layers`).
      cfg: number of layers, and remat.
    """
    if isinstance(params, tuple):
        step = layer if cfg.remat == "none" else jax.checkpoint(layer, policy=KEPT[cfg.remat])
        for one in params:
            x = step(x, one)
        return x

    def carry(x: jax.Array, one: Any) -> tuple[jax.Array, None]:
        return layer(x, one), None

    if cfg.remat != "none":
        # Across two loops XLA cannot merge the recomputation with the forward pass, so prevent_cse is not needed.
        again = jax.checkpoint(carry, prevent_cse=False, policy=KEPT[cfg.remat])
        return jax.lax.scan(again, x, params)[0]
    return jax.lax.scan(carry, x, params, unroll=cfg.layers <= UNROLLED_LAYERS)[0]


def unstack_layers(params: Params) -> Params:
    """Unstack an encoder's layers into a tuple of parameter trees.

    For forward passes on CPU, where slicing a stack copies each layer's weights in every call; and for partly frozen
    encoders.
    """
    stacked = params["layers"]
    return {
        **params,
        "layers": tuple(jax.tree.map(lambda x, n=n: x[n], stacked) for n in range(len(jax.tree.leaves(stacked)[0]))),
    }

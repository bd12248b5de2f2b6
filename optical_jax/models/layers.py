"""Layers shared by all encoders: dense, layer norm, feed-forward. Each is `f(params, x)` beside its specs.

Parameters are float32 and are cast to the type of the activations where they are used. Norms compute in float32.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from optical_jax.config import AnyEncoderConfig, Dtype
from optical_jax.params import Spec, SpecTree, ones, zeros
from optical_jax.partitioning import constrain
from optical_jax.types import Params


def exact_gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Exact GELU by the error function, in float32; `jax.nn.gelu` uses erfc, which is slower on CPU."""
    wide = x.astype(jnp.float32)
    return (0.5 * wide * (1.0 + jax.lax.erf(wide * math.sqrt(0.5)))).astype(x.dtype)


ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "gelu": exact_gelu,
    "gelu_tanh": functools.partial(jax.nn.gelu, approximate=True),
    "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),
    "relu": jax.nn.relu,
}
DENSE = "dense"
"""Checkpoint name of the outputs of dense layers, for rematerialisation."""


def contract(
    equation: str, x: Float[Array, "..."], y: Float[Array, "..."], result: Dtype | None = None
) -> Float[Array, "..."]:
    """Mixed-precision `einsum`: factors in the dtype of `x`, summed in float32, returned in that of `x` or `result`.

    For float32 activations the precision is HIGHEST, as accelerators round float32 operands to fewer bits by default.
    """
    if x.dtype == jnp.float32:
        return jnp.einsum(equation, x, y, precision=jax.lax.Precision.HIGHEST)
    return narrow_contract(equation, jnp.dtype(result or x.dtype).name, x, y)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def narrow_contract(equation: str, result: str, x: Float[Array, "..."], y: Float[Array, "..."]) -> Float[Array, "..."]:
    """`contract` for `x` in bfloat16, with a custom gradient.

    Accelerators accumulate such products in float32 whatever the output dtype; sums over several devices are made in
    float32 too. JAX's own gradient would multiply the float32 gradient of a float32 result by a bfloat16 factor, a
    float32 product at a fraction of the speed, and would round the parameter gradients.
    """
    return narrow_product(equation, x, y.astype(x.dtype), result)


def narrow_product(equation: str, x: jax.Array, y: jax.Array, result: Any) -> jax.Array:
    # Under tensor parallelism each device has a partial sum, which must not be rounded before the all-reduce. Without
    # it a float32 result would only double the memory traffic.
    parts = jax.sharding.get_abstract_mesh().shape.get("tensor", 1)
    given = jnp.float32 if parts > 1 else result
    return jnp.einsum(equation, x, y, preferred_element_type=given).astype(result)


def _narrow_forward(equation: str, result: str, x: jax.Array, y: jax.Array) -> tuple[jax.Array, Any]:
    return narrow_contract(equation, result, x, y), (x, y)


def _narrow_backward(equation: str, result: str, kept: Any, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, y = kept
    factors, of_result = equation.split("->")
    of_x, of_y = factors.split(",")
    narrow = gradient.astype(x.dtype)
    x_gradient = narrow_product(f"{of_result},{of_y}->{of_x}", narrow, y.astype(x.dtype), x.dtype)
    y_gradient = narrow_product(f"{of_x},{of_result}->{of_y}", x, narrow, y.dtype)
    return x_gradient, y_gradient


narrow_contract.defvjp(_narrow_forward, _narrow_backward)


def dense(params: Params, x: Float[Array, "..."], inputs: int = 1) -> Float[Array, "..."]:
    """Dense layer with bias, over the last `inputs` dimensions of `x`.

    Tokens and widths are each flattened into one dimension: with more, XLA on CPU transposes the activations for the
    kernel's gradient, and a block's backward pass takes 1.4 times as long.
    """
    tokens, outputs = x.shape[: x.ndim - inputs], params["kernel"].shape[inputs:]
    flat = contract("MI,IO->MO", x.reshape(math.prod(tokens), -1), params["kernel"].reshape(-1, math.prod(outputs)))
    # Added in float32, so that the bias's gradient, a sum over all tokens, is float32 too.
    biased = flat.reshape(*tokens, *outputs).astype(jnp.float32) + params["bias"]
    return checkpoint_name(biased.astype(x.dtype), DENSE)


def layer_norm_specs(width: int) -> SpecTree:
    return {"scale": Spec((width,), ("embed",), ones), "bias": Spec((width,), ("embed",), zeros)}


def layer_norm(params: Params, x: Float[Array, "*dims D"], eps: float) -> Float[Array, "*dims D"]:
    """Layer norm over the last axis, computed in float32 and returned in the dtype of `x`."""
    wide = x.astype(jnp.float32)
    centred = wide - wide.mean(axis=-1, keepdims=True)
    variance = jnp.square(centred).mean(axis=-1, keepdims=True)
    return (centred * jax.lax.rsqrt(variance + eps) * params["scale"] + params["bias"]).astype(x.dtype)


def feed_forward_specs(cfg: AnyEncoderConfig) -> SpecTree:
    """Parameters of one feed-forward block; every dimension names its logical axis."""
    D, F = cfg.width, cfg.mlp_width
    return {
        "up": {"kernel": Spec((D, F), ("embed", "mlp")), "bias": Spec((F,), ("mlp",), zeros)},
        "down": {"kernel": Spec((F, D), ("mlp", "embed")), "bias": Spec((D,), ("embed",), zeros)},
        "norm": layer_norm_specs(D),
    }


@jax.named_scope("feed_forward")
def feed_forward(params: Params, x: Float[Array, "B L D"], cfg: AnyEncoderConfig) -> Float[Array, "B L D"]:
    """Post-norm feed-forward block with residual, as in BERT."""
    widened = up_and_down(params, x, cfg)
    return constrain(layer_norm(params["norm"], x + widened, cfg.norm_eps), ("batch", "length", None))


def up_and_down(params: Params, x: Float[Array, "B L D"], cfg: AnyEncoderConfig) -> Float[Array, "B L D"]:
    """The two projections of a feed-forward block, and the activation between them."""
    up = ACTIVATIONS[cfg.activation](dense(params["up"], x))  # [B, L, F]
    up = constrain(up, ("batch", "length", "mlp"))
    return dense(params["down"], up)

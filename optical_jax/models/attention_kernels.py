"""Attention by kernels that keep no scores: cuDNN's on NVIDIA GPUs, splash attention (Pallas) on TPUs.

Each is a function from who may be read to a `Mix`, with its arguments made once for all layers. Both compute what
`attention.mix` does, and differ from it in rounding, and in what tokens that have nothing to read are given: something
finite.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from optical_jax.partitioning import by_shard

Mix = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
"""Query, key and value [B, L, H, K] to what every query reads, [B, L, H, K] in their type."""

BY_HEAD = ("batch", None, "heads", None)
NOBODY = -1
"""Whose tokens no text reads: the number that padding has in packed rows."""

LANES = 128
"""Of a TPU's registers. Splash attention works in blocks of a multiple of them."""
BLOCKS = (512, 256, LANES)
"""Tokens of a block, the first that divides a row: larger ones load keys and values less often."""
MIXED = "mixed"
"""Name, for rematerialisation, of what the splash kernel keeps for its backward pass."""


def cudnn_mix(
    attend: Bool[Array, "B L"],
    text: Int[Array, "B L"] | None,
    *,
    aligned: bool,
    implementation: Literal["cudnn", "xla"] = "cudnn",
) -> Mix:
    """cuDNN's flash attention.

    Args:
      attend: True on the tokens that are read.
      text: a number of its own for every text of a row; None for one text a row.
      aligned: `attend` is True on the first tokens of every row alone. cuDNN then skips what lies behind, where it
        would otherwise read a mask.
      implementation: "xla" makes the same call without cuDNN.
    """
    if text is None and aligned:
        # One at least: over nothing at all the softmax would be 0 / 0.
        lengths = jnp.maximum(attend.sum(axis=1, dtype=jnp.int32), 1)

        def by_length(query: jax.Array, key: jax.Array, value: jax.Array, lengths: jax.Array) -> jax.Array:
            # Of keys alone: tokens that nobody reads read others all the same.
            return jax.nn.dot_product_attention(
                query, key, value, key_value_seq_lengths=lengths, implementation=implementation
            )

        return lambda q, k, v: by_shard(by_length, q, k, v, lengths, axes=(BY_HEAD,) * 3 + (("batch",),))

    B, L = attend.shape
    own = jnp.ones((B, L, L), bool) if text is None else text[:, :, None] == text[:, None, :]
    mask = (own & attend[:, None, :])[:, None]  # [B, 1, L, L]

    def by_mask(query: jax.Array, key: jax.Array, value: jax.Array, mask: jax.Array) -> jax.Array:
        return jax.nn.dot_product_attention(query, key, value, mask=mask, implementation=implementation)

    return lambda q, k, v: by_shard(by_mask, q, k, v, mask, axes=(BY_HEAD,) * 3 + (("batch", None, None, None),))


def splash_mix(attend: Bool[Array, "B L"], text: Int[Array, "B L"] | None, *, interpret: bool = False) -> Mix:
    """Splash attention, with its own backward kernels.

    Args:
      attend: True on the tokens that are read. L is a multiple of `LANES`.
      text: a number of its own for every text of a row, NOBODY on padding; None for one text a row.
      interpret: run the kernels as plain JAX, where there is no TPU.
    """
    # Imported here: it takes a while, and only TPUs need it.
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

    # A token reads where numbers are equal. Tokens that are not read have the number of padding, which so reads them:
    # no softmax is over nothing.
    if text is None:
        text = jnp.where(attend.any(axis=1, keepdims=True), jnp.zeros(attend.shape, jnp.int32), NOBODY)
    reads = text.astype(jnp.int32)
    read_by = jnp.where(attend, reads, NOBODY)  # [B, L]

    def kernel(query: jax.Array, key: jax.Array, value: jax.Array, reads: jax.Array, read_by: jax.Array) -> jax.Array:
        _, L, H, K = query.shape
        block = next(size for size in BLOCKS if L % size == 0)
        attend_to_all = splash.make_splash_mha_single_device(
            mask=masks.MultiHeadMask([masks.FullMask((L, L))] * H),
            block_sizes=splash.BlockSizes(
                block_q=block, block_kv=block, block_kv_compute=block,
                block_q_dkv=block, block_kv_dkv=block, block_kv_dkv_compute=block,
                block_q_dq=block, block_kv_dq=block,
            ),
            residual_checkpoint_name=MIXED,
            interpret=interpret,
        )  # fmt: skip
        heads_first = (x.transpose(0, 2, 1, 3) for x in (query * K**-0.5, key, value))  # [B, H, L, K]
        mixed: Any = jax.vmap(attend_to_all)(*heads_first, splash.SegmentIds(q=reads, kv=read_by))
        return jnp.transpose(mixed, (0, 2, 1, 3)).astype(query.dtype)

    sides = (("batch", None),) * 2
    return lambda q, k, v: by_shard(kernel, q, k, v, reads, read_by, axes=(BY_HEAD,) * 3 + sides)

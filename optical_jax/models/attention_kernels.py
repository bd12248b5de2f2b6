"""Flash attention kernels: cuDNN's on NVIDIA GPUs, splash attention (Pallas) on TPUs.

Each function takes attention masks and returns a `Mix`, whose arguments are made once for all layers. Both compute
`attention.mix` up to rounding; outputs of tokens that attend to nothing differ, but are finite.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from optical_jax.partitioning import by_shard

Mix = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
"""Attention over heads: query, key and value [B, L, H, K] -> outputs [B, L, H, K] of the same dtype."""

BY_HEAD = ("batch", None, "heads", None)
NOBODY = -1
"""Segment id of padding in packed rows, which no text attends to."""

LANES = 128
"""Lanes of a TPU register; block sizes of splash attention are multiples."""
BLOCKS = (512, 256, LANES)
"""Block sizes in tokens; the first that divides a row is taken, as larger ones load keys and values less often."""
MIXED = "mixed"
"""Checkpoint name of the splash kernel's residuals, for rematerialisation."""


def cudnn_mix(
    attend: Bool[Array, "B L"],
    text: Int[Array, "B L"] | None,
    *,
    aligned: bool,
    implementation: Literal["cudnn", "xla"] = "cudnn",
) -> Mix:
    """cuDNN flash attention.

    Args:
      attend: True on tokens that may be attended to.
      text: segment ids, different for every text of a row; None for one text per row.
      aligned: `attend` is True on a prefix of every row. cuDNN then takes lengths instead of a mask and skips padding.
      implementation: "xla" makes the same call without cuDNN.
    """
    if text is None and aligned:
        # At least 1: a softmax over nothing would be 0 / 0.
        lengths = jnp.maximum(attend.sum(axis=1, dtype=jnp.int32), 1)

        def by_length(query: jax.Array, key: jax.Array, value: jax.Array, lengths: jax.Array) -> jax.Array:
            # Lengths of keys only: padding queries still attend to the real tokens.
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
    """Splash attention (Pallas, TPU), with its own backward kernels.

    Args:
      attend: True on tokens that may be attended to. L is a multiple of `LANES`.
      text: segment ids, different for every text of a row, NOBODY on padding; None for one text per row.
      interpret: run the kernels in interpret mode, without a TPU.
    """
    # Imported here: slow, and only TPUs need it.
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

    # Tokens attend where segment ids are equal. Masked keys get the segment id of padding, so that padding queries
    # attend to them and no softmax is over nothing.
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

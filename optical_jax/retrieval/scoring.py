"""Exact MaxSim (late interaction), in blocks that bound the memory of token similarities."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from optical_jax.types import TokenVectors

BLOCK_SIMILARITIES = 1 << 22
"""Token similarities per block: 16 MiB of float32, still cache-friendly on CPU."""
BLOCK_TOKENS = 1 << 11
"""Largest number of query tokens per block."""


def maxsim(queries: TokenVectors, documents: TokenVectors) -> Float[Array, "B N"]:
    """Late-interaction score of every query with every document.

    Args:
      queries: vectors [B, Q, E] of unit length; masked tokens add nothing.
      documents: vectors [N, P, E] of unit length; masked tokens are never matched.

    Returns:
      Sums of cosines, dimensionless, float32, in [-Q, Q]; at Q = P = 1 the cosine. -inf for a document that has no
      token.

    Raises:
      ValueError: the two sides differ in width E.

    Source: Khattab and Zaharia (SIGIR 2020), equation 3.

    >>> import numpy as np
    >>> from optical_jax import TokenVectors, maxsim
    >>> east, north = [1.0, 0.0], [0.0, 1.0]
    >>> query = TokenVectors(vectors=np.array([[east, north]]), mask=np.array([[True, True]]))
    >>> mask = np.array([[True, True], [True, False]])  # the second document has one token
    >>> maxsim(query, TokenVectors(vectors=np.array([[east, north], [east, north]]), mask=mask)).tolist()
    [[2.0, 1.0]]
    """
    (B, Q, E), other_E = queries.vectors.shape, documents.vectors.shape[2]
    if other_E != E:
        raise ValueError(
            f"queries have vectors of width {E} and documents of width {other_E}; use towers of equal vector width"
        )
    b = max(1, min(B, BLOCK_TOKENS // max(Q, 1)))
    return _maxsim(queries.vectors, queries.mask, documents.vectors, documents.mask, b)


@partial(jax.jit, static_argnums=4)
def _maxsim(
    queries: Float[Array, "B Q E"],
    query_mask: Bool[Array, "B Q"],
    documents: Float[Array, "N P E"],
    document_mask: Bool[Array, "N P"],
    b: int,
) -> Float[Array, "B N"]:
    def one_block(block: tuple[jax.Array, jax.Array]) -> jax.Array:
        vectors, mask = block
        owner = jnp.where(mask, jnp.arange(b)[:, None], b)
        return score_tokens(vectors.reshape(-1, vectors.shape[-1]), owner.reshape(-1), b, documents, document_mask)

    scores = jax.lax.map(one_block, (_in_blocks(queries, b), _in_blocks(query_mask, b)))
    return scores.reshape(-1, len(documents))[: len(queries)]


def score_tokens(
    tokens: Float[Array, "T E"],
    owner: Int[Array, "T"],
    queries: int,
    documents: Float[Array, "N P E"],
    mask: Bool[Array, "N P"],
) -> Float[Array, "b N"]:
    """MaxSim of queries whose tokens are concatenated, without padding between them.

    Args:
      tokens: unit vectors.
      owner: index of the query that a token belongs to; `queries` or more for padding.
      queries: their number, static.
      documents: float32 or bfloat16; sums are float32 either way. With bfloat16, accelerators use 16 bits of a token.
      mask: as in `maxsim`.

    Returns:
      As `maxsim`: sums of cosines, float32, -inf for a document that has no token.
    """
    N, P = mask.shape
    n = max(1, min(N, BLOCK_SIMILARITIES // max(len(tokens) * P, 1)))
    sums = jax.nn.one_hot(owner, queries, dtype=jnp.float32)  # [T, b]

    def one_block(block: tuple[jax.Array, jax.Array]) -> jax.Array:
        vectors, real = block
        similarity = _similarities(vectors, tokens)  # [n, P, T]
        # Tokens last: the maximum then vectorises, nearly at the speed of the product.
        best = jnp.where(real[:, :, None], similarity, -jnp.inf).max(axis=1, initial=-jnp.inf)
        some = real.any(axis=1)[:, None]
        total = _exact("nT,Tb->nb", jnp.where(some, best, 0.0), sums)
        # Without tokens in a document a query would score it 0, above many real ones.
        return jnp.where(some, total, -jnp.inf)

    blocks = _in_blocks(documents, n), _in_blocks(mask, n)
    return jax.lax.map(one_block, blocks).reshape(-1, queries)[:N].T


def _similarities(documents: Float[Array, "n P E"], tokens: Float[Array, "T E"]) -> Float[Array, "n P T"]:
    if documents.dtype != jnp.bfloat16 or jax.default_backend() == "cpu":
        return _exact("nPE,TE->nPT", documents.astype(jnp.float32), tokens.astype(jnp.float32))
    # Two bfloat16 products instead of six: documents are bfloat16 already, and a token is the sum of two bfloat16
    # numbers up to its last eight bits. `reduce_precision`, because a round-trip cast may be optimised away.
    tokens = tokens.astype(jnp.float32)
    high = jax.lax.reduce_precision(tokens, exponent_bits=8, mantissa_bits=7)
    first, second = (
        jnp.einsum("nPE,TE->nPT", documents, part.astype(jnp.bfloat16), preferred_element_type=jnp.float32)
        for part in (high, tokens - high)
    )
    return first + second


def _exact(subscripts: str, a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.einsum(subscripts, a, b, precision=jax.lax.Precision.HIGHEST)


def _in_blocks(x: Array, size: int) -> Array:
    """Reshape [rows, ...] to [blocks, size, ...]; the last block is padded with zeros (masked tokens)."""
    blocks = -(-len(x) // size)
    filled = jnp.pad(x, [(0, blocks * size - len(x)), *[(0, 0)] * (x.ndim - 1)])
    return filled.reshape(blocks, size, *x.shape[1:])

"""The one score: MaxSim, exact, worked through in blocks so that all similarities of all tokens are never held."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from optical_jax.types import TokenVectors

BLOCK_SIMILARITIES = 1 << 23
"""Token similarities held at a time: 32 MiB of float32."""


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
    (B, Q, E), (N, P, other_E) = queries.vectors.shape, documents.vectors.shape
    if other_E != E:
        raise ValueError(
            f"queries have vectors of width {E} and documents of width {other_E}; encode both with towers that agree"
        )
    return _maxsim(queries.vectors, queries.mask, documents.vectors, documents.mask, *_block_sizes(B, Q, N, P))


def _block_sizes(B: int, Q: int, N: int, P: int) -> tuple[int, int]:
    """Queries and documents a block: as many as `BLOCK_SIMILARITIES` allows, and rather documents than queries."""
    b = max(1, min(B, 64, BLOCK_SIMILARITIES // max(Q * P, 1)))
    n = max(1, min(N, BLOCK_SIMILARITIES // max(b * Q * P, 1)))
    return b, n


def _maxsim_blocks(
    queries: Float[Array, "B Q E"],
    query_mask: Bool[Array, "B Q"],
    documents: Float[Array, "N P E"],
    document_mask: Bool[Array, "N P"],
    b: int,
    n: int,
) -> Float[Array, "B N"]:
    B, N = len(queries), len(documents)
    query_blocks = _in_blocks(queries.astype(jnp.float32), b), _in_blocks(query_mask, b)
    document_blocks = _in_blocks(documents.astype(jnp.float32), n), _in_blocks(document_mask, n)

    def one_query_block(query_block: tuple[jax.Array, jax.Array]) -> jax.Array:
        return jax.lax.map(lambda document_block: _block_scores(*query_block, *document_block), document_blocks)

    scores = jax.lax.map(one_query_block, query_blocks)  # [blocks of B, blocks of N, b, n]
    scores = scores.transpose(0, 2, 1, 3).reshape(math.prod(scores.shape[::2]), math.prod(scores.shape[1::2]))
    return scores[:B, :N]


_maxsim = jax.jit(_maxsim_blocks, static_argnums=(4, 5))


def _in_blocks(x: Array, size: int) -> Array:
    """[rows, ...] as [blocks, size, ...]; the last block is filled up with rows of zeros (masked tokens)."""
    blocks = -(-len(x) // size)
    filled = jnp.pad(x, [(0, blocks * size - len(x)), *[(0, 0)] * (x.ndim - 1)])
    return filled.reshape(blocks, size, *x.shape[1:])


def _block_scores(
    queries: Float[Array, "b Q E"],
    query_mask: Bool[Array, "b Q"],
    documents: Float[Array, "n P E"],
    document_mask: Bool[Array, "n P"],
) -> Float[Array, "b n"]:
    similarity = jnp.einsum("bQE,nPE->bQnP", queries, documents, precision=jax.lax.Precision.HIGHEST)
    best = jnp.where(document_mask, similarity, -jnp.inf).max(axis=3, initial=-jnp.inf)  # [b, Q, n]
    total = jnp.where(query_mask[:, :, None], best, 0.0).sum(axis=1)  # [b, n]
    # A query without tokens would otherwise score such a document 0, above many real ones.
    return jnp.where(document_mask.any(axis=1), total, -jnp.inf)

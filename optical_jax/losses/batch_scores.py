"""In-batch score matrices (MaxSim, transport, cosine) between all texts of a batch, in blocks that fit into memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from optical_jax.config import OtConfig
from optical_jax.losses.pairs import at_least_float32, pooled_vectors
from optical_jax.ot.costs import COSTS
from optical_jax.ot.masses import MASSES
from optical_jax.ot.plans import PLANS
from optical_jax.partitioning import by_shard, platform
from optical_jax.types import TokenVectors

BLOCK_NUMBERS = 1 << 24
"""Largest number of intermediate values per block of rows: 64 MiB of float32."""
KEPT_NUMBERS = 1 << 26
"""Largest number of intermediate values stored for the backward pass: 256 MiB of float32."""
SAME_COSINE = 1.0 - 1e-5
"""Cosine of mean vectors from which two texts count as duplicates; encoding differs slightly between batches."""


def map_rows(f: Callable[..., Any], numbers_a_row: int, *arrays: jax.Array) -> Any:
    """Map `f` over rows in blocks that fit into memory; on a CPU one row at a time, which suits its cache.

    Where all rows together would hold more than `KEPT_NUMBERS`, the backward pass recomputes each block.

    Args:
      f: takes one row of each of `arrays`.
      numbers_a_row: largest number of intermediate values of `f` per row.
    """
    count = len(arrays[0])
    rows = 1 if platform() == "cpu" else max(1, min(count, BLOCK_NUMBERS // max(numbers_a_row, 1)))

    def of_row(row: tuple[jax.Array, ...]) -> Any:
        return f(*row)

    # Inside a loop XLA cannot merge the recomputation with the forward pass anyway.
    kept = count * numbers_a_row <= KEPT_NUMBERS
    each = of_row if kept else jax.checkpoint(of_row, prevent_cse=False)
    return jax.lax.map(each, arrays, batch_size=None if rows == 1 else rows)


@jax.named_scope("batch_scores")
def maxsims(queries: TokenVectors, documents: TokenVectors) -> Float[Array, "B N"]:
    """MaxSim of every query with all N documents of the batch; zero where a side has no token.

    Every device scores its own queries with the documents of all devices.
    """
    N, T = documents.mask.shape

    def of_shard(mask: jax.Array, query: jax.Array, *documents: jax.Array) -> jax.Array:
        return map_rows(lambda *one: query_maxsims(*one, *documents), mask.shape[1] * N * T, mask, query)

    arrays = queries.mask, at_least_float32(queries.vectors), documents.mask, at_least_float32(documents.vectors)
    return by_shard(of_shard, *arrays, axes=(("batch", None), ("batch", None, None), (None, None), (None, None, None)))


def query_maxsims(
    mask: Bool[Array, "S"], query: Float[Array, "S E"], real: Bool[Array, "N T"], vectors: Float[Array, "N T E"]
) -> Float[Array, "N"]:
    """MaxSim of one query with N documents; zero where a side has no token."""
    # The query's tokens last: the maximum then vectorises.
    cosines = jnp.einsum("NTE,SE->NTS", vectors, query, precision=jax.lax.Precision.HIGHEST)
    best = jnp.where(real[:, :, None], cosines, -jnp.inf).max(axis=1)  # [N, S]
    return jnp.where(real.any(axis=1)[:, None] & mask, best, 0.0).sum(axis=1)


def mean_maxsims(queries: TokenVectors, documents: TokenVectors) -> Float[Array, "B N"]:
    """MaxSim divided by the number of query tokens: -1 to 1."""
    return maxsims(queries, documents) / jnp.maximum(queries.mask.sum(axis=1), 1)[:, None]


@jax.named_scope("batch_scores")
def transport_scores(student: TokenVectors, teacher: TokenVectors, cfg: OtConfig) -> Float[Array, "B N"]:
    """Optimal transport scores: 1 - mean transport cost of every student text with every teacher text of the batch.

    Plans by `cfg`, with no gradient through them unless `cfg.gradient` is "through". Zero where a side has no token.
    """
    rows, cols = MASSES[cfg.masses](student), MASSES[cfg.masses](teacher)
    N, T = teacher.mask.shape

    def of_text(mask: jax.Array, vectors: jax.Array, row: jax.Array, *others: jax.Array) -> jax.Array:
        real, targets, col = others
        cells = real[:, None, :] & mask[None, :, None]  # [N, S, T]
        cost = COSTS[cfg.cost](jnp.broadcast_to(vectors, (N, *vectors.shape)), targets)
        cost = jnp.where(cells, cost, 0.0)
        plan = PLANS[cfg.plan](cost, jnp.broadcast_to(row, (N, *row.shape)), col, cfg)
        moved = plan.sum(axis=(1, 2))
        # Not "moved > 0": NaN must stay NaN.
        nothing = moved == 0.0
        return jnp.where(nothing, 0.0, 1.0 - (plan * cost).sum(axis=(1, 2)) / jnp.where(nothing, 1.0, moved))

    def of_shard(mask: jax.Array, vectors: jax.Array, row: jax.Array, *others: jax.Array) -> jax.Array:
        return map_rows(lambda *one: of_text(*one, *others), mask.shape[1] * N * T, mask, vectors, row)

    sides = student.mask, at_least_float32(student.vectors), rows, teacher.mask, at_least_float32(teacher.vectors), cols
    split, whole = ("batch", None), (None, None)
    axes = (split, (*split, None), split, whole, (*whole, None), whole)
    return by_shard(of_shard, *sides, axes=axes)


def mean_cosines(student: TokenVectors, teacher: TokenVectors) -> Float[Array, "B N"]:
    """Cosines of the mean-pooled vectors of every student text with every teacher text."""
    s, t = pooled_vectors(student), pooled_vectors(teacher)
    return jnp.einsum("BE,NE->BN", s, t, precision=jax.lax.Precision.HIGHEST)


def same_texts(side: TokenVectors) -> Bool[Array, "B N"]:
    """Duplicates: True where two texts of one side are the same, as when one sentence has two translations."""
    return mean_cosines(side, side) >= SAME_COSINE

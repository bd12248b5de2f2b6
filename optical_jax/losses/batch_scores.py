"""Scores of every text of a batch with every other, worked through in blocks of rows that fit into memory."""

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
"""Numbers that a block of rows holds at a time: 64 MiB of float32."""
KEPT_NUMBERS = 1 << 26
"""Numbers that are kept for the gradient: 256 MiB of float32."""
SAME_COSINE = 1.0 - 1e-5
"""Texts whose mean vectors are at least this close are one text twice, encoded in other company."""


def map_rows(f: Callable[..., Any], numbers_a_row: int, *arrays: jax.Array) -> Any:
    """`f` of each row, in blocks of as many rows as fit; a CPU, which keeps a row near, takes one at a time.

    Where all rows together would hold too much, a block's numbers are computed again for the gradient.

    Args:
      f: takes one row of each of `arrays`.
      numbers_a_row: the most that `f` holds of one row.
    """
    count = len(arrays[0])
    rows = 1 if platform() == "cpu" else max(1, min(count, BLOCK_NUMBERS // max(numbers_a_row, 1)))

    def of_row(row: tuple[jax.Array, ...]) -> Any:
        return f(*row)

    # Inside a loop nothing is merged with the forward pass anyway.
    kept = count * numbers_a_row <= KEPT_NUMBERS
    each = of_row if kept else jax.checkpoint(of_row, prevent_cse=False)
    return jax.lax.map(each, arrays, batch_size=None if rows == 1 else rows)


@jax.named_scope("batch_scores")
def maxsims(queries: TokenVectors, documents: TokenVectors) -> Float[Array, "B N"]:
    """MaxSim of every query with every document of the batch, N of them; zero where a side has no token.

    Every device scores its own queries with the documents of all.
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
    # The query's tokens last: the maximum is then taken of whole vectors of numbers.
    cosines = jnp.einsum("NTE,SE->NTS", vectors, query, precision=jax.lax.Precision.HIGHEST)
    best = jnp.where(real[:, :, None], cosines, -jnp.inf).max(axis=1)  # [N, S]
    return jnp.where(real.any(axis=1)[:, None] & mask, best, 0.0).sum(axis=1)


def mean_maxsims(queries: TokenVectors, documents: TokenVectors) -> Float[Array, "B N"]:
    """`maxsims` over the query's number of tokens: -1 to 1."""
    return maxsims(queries, documents) / jnp.maximum(queries.mask.sum(axis=1), 1)[:, None]


@jax.named_scope("batch_scores")
def transport_scores(student: TokenVectors, teacher: TokenVectors, cfg: OtConfig) -> Float[Array, "B N"]:
    """1 - the mean cost of what is moved between every student text and every teacher text of the batch.

    Plans as `cfg` says, constants to differentiation unless it says "through". Zero where a side has no token.
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
        # Not "moved > 0": what is not a number must stay so.
        nothing = moved == 0.0
        return jnp.where(nothing, 0.0, 1.0 - (plan * cost).sum(axis=(1, 2)) / jnp.where(nothing, 1.0, moved))

    def of_shard(mask: jax.Array, vectors: jax.Array, row: jax.Array, *others: jax.Array) -> jax.Array:
        return map_rows(lambda *one: of_text(*one, *others), mask.shape[1] * N * T, mask, vectors, row)

    sides = student.mask, at_least_float32(student.vectors), rows, teacher.mask, at_least_float32(teacher.vectors), cols
    split, whole = ("batch", None), (None, None)
    axes = (split, (*split, None), split, whole, (*whole, None), whole)
    return by_shard(of_shard, *sides, axes=axes)


def mean_cosines(student: TokenVectors, teacher: TokenVectors) -> Float[Array, "B N"]:
    """Cosine of the mean-pooled vectors of every text with every other."""
    s, t = pooled_vectors(student), pooled_vectors(teacher)
    return jnp.einsum("BE,NE->BN", s, t, precision=jax.lax.Precision.HIGHEST)


def same_texts(side: TokenVectors) -> Bool[Array, "B N"]:
    """True where two texts of one side are the same, as where one sentence has two translations."""
    return mean_cosines(side, side) >= SAME_COSINE

"""Batches (blocks) of encoded texts in few static shapes, and their MaxSim scoring and top-k on devices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int

from optical_jax.partitioning import partition_spec, shards_in_context
from optical_jax.retrieval.scoring import score_tokens
from optical_jax.types import TokenVectors

BLOCK_TOKENS = {"cpu": 1 << 12, "other": 1 << 16}
"""Document tokens per block: on a CPU sized to the cache; on accelerators large enough to hide the dispatch time."""
CHUNK_TOKENS, CHUNK_QUERIES = 1 << 11, 128
"""Largest number of tokens and of queries in a chunk, which is scored against a block at a time."""


@dataclass(frozen=True)
class Block:
    """Encoded texts of similar length, and their positions among all texts."""

    positions: Int[np.ndarray, "R"]
    vectors: TokenVectors


def block_tokens() -> int:
    return BLOCK_TOKENS["cpu" if jax.default_backend() == "cpu" else "other"]


def cut_into_blocks(lengths: Int[np.ndarray, "N"]) -> Iterator[slice]:
    """Slices of texts that fill about `block_tokens` when padded to their longest; best sorted, longest first."""
    start = 0
    while start < len(lengths):
        size = rows_of(int(lengths[start]))
        size = min(size, rows_of(int(lengths[start : start + size].max())))
        yield slice(start, min(start + size, len(lengths)))
        start += size


def blocks_of(texts: Sequence[Float[np.ndarray, "l E"]]) -> Iterator[Block]:
    """Blocks, in float32, of texts that are encoded already, given without padding."""
    lengths = np.array([len(text) for text in texts])
    order = np.argsort(-lengths, kind="stable")
    for rows in cut_into_blocks(lengths[order]):
        positions = order[rows]
        flat = np.concatenate([texts[n] for n in positions]).astype(np.float32)
        yield Block(positions, pad_block(flat, lengths[positions]))


def rows_of(length: int) -> int:
    return max(1, block_tokens() // blocked_length(length))


def blocked_length(length: int) -> int:
    """Padded length of a block, one of few, to limit compilations.

    Padding is at most an eighth (or 4 tokens) on a CPU, elsewhere, where compiling is slower, a half (or 8).
    """
    return padded_length(length, *(MANY_LENGTHS if jax.default_backend() == "cpu" else FEW_LENGTHS))


def without_gaps(
    vectors: Float[np.ndarray, "N L E"], mask: Bool[np.ndarray, "N L"], rows: Int[np.ndarray, "R"]
) -> TokenVectors:
    """Select rows with their real tokens first and the padding of a block; MaxSim does not depend on token order."""
    text, place = np.nonzero(mask[rows])
    return pad_block(vectors[rows[text], place], mask[rows].sum(axis=1))


def pad_block(vectors: Float[np.ndarray, "tokens E"], lengths: Int[np.ndarray, "R"]) -> TokenVectors:
    """Pad concatenated vectors of texts into one row per text of the block's length."""
    mask = np.arange(blocked_length(int(lengths.max()))) < lengths[:, None]
    if mask.all():
        # Without a copy: the vectors may be memory-mapped.
        padded = vectors.reshape(*mask.shape, vectors.shape[1])
    else:
        padded = np.zeros((*mask.shape, vectors.shape[1]), vectors.dtype)
        padded[mask] = vectors
    return TokenVectors(vectors=padded, mask=mask)  # pyright: ignore[reportArgumentType]


# ---- queries ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Chunk:
    """Queries with all tokens concatenated on the device, without padding between them."""

    positions: Int[np.ndarray, "q"]
    tokens: Float[Array, "T E"]
    owner: Int[Array, "T"]
    """Index of the query that a token belongs to; `size` for padding."""
    size: int
    """Number of queries rounded up to a power of two."""


def chunks_of(blocks: Sequence[Block]) -> Iterator[Chunk]:
    """Split all queries into chunks of few shapes, each transferred to the device once."""
    positions, rows = [], []
    for block in blocks:
        vectors, mask = np.asarray(block.vectors.vectors, np.float32), np.asarray(block.vectors.mask)
        positions.extend(block.positions.tolist())
        rows.extend(vectors[n, mask[n]] for n in range(len(mask)))
    start = 0
    while start < len(rows):
        stop, tokens = start + 1, len(rows[start])
        while stop < len(rows) and stop - start < CHUNK_QUERIES and tokens + len(rows[stop]) <= CHUNK_TOKENS:
            tokens += len(rows[stop])
            stop += 1
        size, T = _power_of_two(stop - start), max(8, _power_of_two(tokens))
        flat = np.zeros((T, rows[start].shape[1]), np.float32)
        flat[:tokens] = np.concatenate(rows[start:stop])
        owner = np.full(T, size, np.int32)
        owner[:tokens] = np.repeat(np.arange(stop - start), [len(row) for row in rows[start:stop]])
        yield Chunk(np.array(positions[start:stop]), _everywhere(flat), _everywhere(owner), size)
        start = stop


def _power_of_two(least: int) -> int:
    return 1 << max(least - 1, 0).bit_length()


def _everywhere(x: np.ndarray) -> Array:
    mesh = jax.sharding.get_mesh()
    return jax.device_put(x) if mesh.empty else jax.device_put(x, NamedSharding(mesh, PartitionSpec()))


# ---- documents -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Held:
    """A block of documents on the devices, padded to a shape that is compiled already."""

    positions: Int[np.ndarray, "R"]
    """Position of each among all documents; 0 for padding rows, whose tokens are all masked."""
    vectors: Float[Array, "R P E"]
    mask: Bool[Array, "R P"]
    id_rank: Int[Array, "R"]
    """Rank of each row's document id, for ties."""
    mesh: Mesh


def hold(block: Block, id_rank: Int[np.ndarray, "N"]) -> Held:
    """Transfer a block to the devices: sharded over the mesh in context (`jax.set_mesh`), or to one device."""
    vectors, mask = np.asarray(block.vectors.vectors), np.asarray(block.vectors.mask)
    mesh = jax.sharding.get_mesh()
    shards = shards_in_context()
    rows = -(-max(len(mask), block_tokens() // mask.shape[1]) // shards) * shards
    more = rows - len(mask)
    positions = np.pad(block.positions, (0, more))
    arrays = np.pad(vectors, ((0, more), (0, 0), (0, 0))), np.pad(mask, ((0, more), (0, 0)))
    where = None if mesh.empty else NamedSharding(mesh, partition_spec(("batch",)))
    placed: Any = (jax.device_put(x, where) for x in (*arrays, id_rank[positions].astype(np.int32)))
    return Held(positions, *placed, mesh=mesh)


def scores_of_block(chunk: Chunk, held: Held) -> Float[Array, "b R"]:
    """MaxSim of a chunk's queries with all documents of a block, each device scoring its shard."""
    if held.mesh.empty:
        return _scores(chunk.tokens, chunk.owner, chunk.size, held.vectors, held.mask)
    arrays: Any = (chunk.tokens, chunk.owner, held.vectors, held.mask)
    return _scores_by_device(*arrays, size=chunk.size, mesh=held.mesh)


_scores = jax.jit(score_tokens, static_argnums=2)


@partial(jax.jit, static_argnames=("size", "mesh"))
def _scores_by_device(*arrays: jax.Array, size: int, mesh: Mesh) -> jax.Array:
    whole, split, columns = _specs()

    def part(tokens: Any, owner: Any, vectors: Any, mask: Any) -> jax.Array:
        return score_tokens(tokens, owner, size, vectors, mask)

    specs = (whole, whole, split, split)
    return jax.shard_map(part, mesh=mesh, in_specs=specs, out_specs=columns, check_vma=False)(*arrays)


def _specs() -> tuple[PartitionSpec, PartitionSpec, PartitionSpec]:
    """Partition specs: replicated, sharded by documents along rows, and sharded by documents along columns."""
    split = partition_spec(("batch",))
    return PartitionSpec(), split, PartitionSpec(None, split[0])


@struct.dataclass
class Best:
    """Running top-k documents of a chunk's queries, per device: each device has its own K columns."""

    scores: Float[Array, "b K"]
    """-inf where a device has scored fewer documents."""
    id_ranks: Int[Array, "b K"]


def no_best(chunk: Chunk, depth: int) -> Best:
    """Empty top-k before the first block, over the mesh in context or on one device."""
    mesh = jax.sharding.get_mesh()
    shape = chunk.size, depth * shards_in_context()
    where = None if mesh.empty else NamedSharding(mesh, _specs()[2])
    empty: Any = np.full(shape, -np.inf, np.float32), np.zeros(shape, np.int32)
    return Best(*jax.device_put(empty, where))


def keep_best(best: Best, chunk: Chunk, held: Held) -> Best:
    """Merge the scores of a block into the top-k, without communication; ties by id, as in `TopDocuments`."""
    arrays: Any = (chunk.tokens, chunk.owner, held.vectors, held.mask, held.id_rank)
    if held.mesh.empty:
        return _keep_best(best, *arrays, size=chunk.size)
    return _keep_best_by_device(best, *arrays, size=chunk.size, mesh=held.mesh)


@partial(jax.jit, static_argnames="size")
def _keep_best(
    best: Best, tokens: jax.Array, owner: jax.Array, vectors: jax.Array, mask: jax.Array, id_rank: jax.Array, size: int
) -> Best:
    scores = score_tokens(tokens, owner, size, vectors, mask)
    both = (
        jnp.concatenate([best.scores, scores], axis=1),
        jnp.concatenate([best.id_ranks, jnp.broadcast_to(id_rank, scores.shape)], axis=1),
    )
    # Ascending: NaN sorts last, so it is kept and detected when scores are merged.
    both = jax.lax.sort(both, dimension=1, num_keys=2)
    return Best(*(x[:, -best.scores.shape[1] :] for x in both))


@partial(jax.jit, static_argnames=("size", "mesh"))
def _keep_best_by_device(best: Best, *arrays: jax.Array, size: int, mesh: Mesh) -> Best:
    whole, split, columns = _specs()
    return jax.shard_map(
        partial(_keep_best, size=size),
        mesh=mesh,
        in_specs=(columns, whole, whole, split, split, split),
        out_specs=columns,
        check_vma=False,
    )(best, *arrays)


FEW_LENGTHS, MANY_LENGTHS = (4, 8), (16, 4)
"""Arguments `parts`, `least` of `padded_length`; FEW where compiling a shape takes as long as many batches."""


def padded_length(length: int, parts: int, least: int) -> int:
    """Round a length up to a multiple of `least`, or of 1 / `parts` of the next power of two."""
    step = max(least, (1 << max(length - 1, 1).bit_length()) // parts)
    return -(-max(length, 1) // step) * step

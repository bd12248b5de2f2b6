"""Any number of texts to vectors, of tokens or one a text, in blocks that are ranked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import jax

from optical_jax.retrieval.blocks import Block
from optical_jax.retrieval.search import Advance, encode_blocks
from optical_jax.towers.tower import Tower, encode, to_device
from optical_jax.types import TokenVectors, mean_pool

BATCH = 64
"""Texts of 32 tokens in a batch, as `encode` counts them."""

mean_vectors = jax.jit(mean_pool)
"""`mean_pool`, compiled."""


def encode_texts(
    tower: Tower,
    texts: Sequence[str],
    *,
    pooled: bool = False,
    batch_size: int = BATCH,
    advance: Advance = lambda count: None,
) -> Iterator[Block]:
    """Encode texts and give their vectors in blocks, as `retrieval.search.rank` takes them.

    Args:
      tower: of texts; its parameters are put on the device once.
      texts: positions of the blocks count these; the longest ones come first.
      pooled: one vector a text, the direction of the mean of its token vectors.
      batch_size: as of `encode`.
      advance: called with the number of texts that were just encoded.

    Raises:
      DataError, ConfigError: as `encode`.
    """
    there = to_device(tower)

    def vectors(some: Sequence[str]) -> TokenVectors:
        tokens = encode(there, some, batch_size)
        return mean_vectors(tokens) if pooled else tokens

    return encode_blocks(texts, vectors, advance)


def pool_blocks(blocks: Iterable[Block]) -> Iterator[Block]:
    """One vector a text or image, of blocks that were encoded without `pooled`."""
    return (Block(block.positions, mean_vectors(block.vectors)) for block in blocks)

"""Any number of texts to vectors, of tokens or one a text, in blocks that are ranked."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import jax

from optical_jax.data.coverage import TokenCounts, check_coverage
from optical_jax.errors import DataError
from optical_jax.retrieval.blocks import Block
from optical_jax.retrieval.search import Advance, encode_blocks
from optical_jax.towers.tower import Tower, encode, to_device
from optical_jax.types import TokenVectors, mean_pool

if TYPE_CHECKING:
    from optical_jax.data.tokenization import Tokens

STUDENT_REMEDY = "use a student whose vocabulary was trained on texts like these (train --student.vocabulary train)"
TEACHER_REMEDY = "use a model that reads them"
"""What to do about texts of unknown tokens, by the model that encodes them."""
SAMPLE = 1000
"""Texts, evenly spaced, whose tokens are checked before all are encoded."""
BATCH = 64
"""Texts of 32 tokens in a batch, as `encode` counts them."""


def say(line: str) -> None:
    """Print a warning to stderr, beside results on stdout."""
    print(line, file=sys.stderr, flush=True)


mean_vectors = jax.jit(mean_pool)
"""`mean_pool`, compiled."""


def encode_texts(
    tower: Tower,
    texts: Sequence[str],
    *,
    pooled: bool = False,
    batch_size: int = BATCH,
    advance: Advance = lambda count: None,
    look: Callable[[Sequence[Tokens]], None] | None = None,
) -> Iterator[Block]:
    """Encode texts and give their vectors in blocks, as `retrieval.search.rank` takes them.

    Args:
      tower: of texts; its parameters are put on the device once.
      texts: positions of the blocks count these; the longest ones come first.
      pooled: one vector a text, the direction of the mean of its token vectors.
      batch_size: as of `encode`.
      advance: called with the number of texts that were just encoded.
      look: as of `encode`.

    Raises:
      DataError, ConfigError: as `encode`.
    """
    there = to_device(tower)

    def vectors(some: Sequence[str]) -> TokenVectors:
        tokens = encode(there, some, batch_size, look=look)
        return mean_vectors(tokens) if pooled else tokens

    return encode_blocks(texts, vectors, advance)


def pool_blocks(blocks: Iterable[Block]) -> Iterator[Block]:
    """One vector a text or image, of blocks that were encoded without `pooled`."""
    return (Block(block.positions, mean_vectors(block.vectors)) for block in blocks)


class Counter:
    """Counts of the texts that are encoded, given to `encode_texts` as `look`."""

    def __init__(self) -> None:
        self.counts = TokenCounts()

    def __call__(self, tokens: Sequence[Tokens]) -> None:
        self.counts += TokenCounts.of(tokens)


def check_texts(
    tower: Tower,
    texts: Sequence[str],
    what: str,
    *,
    at_most: float | None,
    remedy: str,
    each: bool = False,
    most: int = SAMPLE,
    say: Callable[[str], None] = say,
) -> TokenCounts:
    """Warn of texts that a tower's tokenizer does not know, and refuse them, before they are encoded.

    Args:
      tower: of texts.
      texts: at least one.
      what, at_most, remedy, say: as of `data.coverage.check_coverage`.
      each: also refuse one text without any known token, unless `at_most` is 1.
      most: number of texts that are looked at, evenly spaced.

    Returns:
      Counts of the texts that were looked at.

    Raises:
      DataError: more than `at_most` of the tokens are unknown; share, examples and remedy.
    """
    from optical_jax.data.tokenization import tokenize

    if tower.tokenizer is None:
        return TokenCounts()  # an error when they are encoded
    some = texts if len(texts) <= most else [texts[n * len(texts) // most] for n in range(most)]
    tokens = tokenize(tower.tokenizer, some, tower.cfg.head, tower.side)
    if each and at_most is not None and at_most < 1:
        for text, own in zip(some, tokens, strict=True):
            if not own.known:
                raise DataError(
                    f"{what}: the tokenizer knows no word of {text!r}, and would give it the vectors of any other such "
                    f"text; {remedy}, or allow it by --max-unknown 1"
                )
    counts = TokenCounts.of(tokens)
    check_coverage(counts, what, some, tower.tokenizer, at_most=at_most, flag="--max-unknown", remedy=remedy, say=say)
    return counts


def max_tokens(tower: Tower) -> int:
    """Length in tokens to which a tower truncates texts of its side."""
    return tower.cfg.head.query_length if tower.side == "query" else tower.cfg.head.document_length

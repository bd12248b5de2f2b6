"""Shared pytrees: token inputs, image inputs, token vectors, batches, loss outputs; and pooling of token vectors."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int

Params = Any
"""Nested dicts of arrays in Flax's names: kernel, bias, scale, embedding."""
Metrics = dict[str, jax.Array]
Scalar = Float[Array, ""]


@struct.dataclass
class TextInputs:
    """A padded batch of token ids for an encoder. Every text has at least one token of each mask.

    `attend` and `keep` differ for tokens that are attended to but give no vector (punctuation of documents), and for
    tokens that give a vector but are not attended to ([MASK] augmentation).
    """

    ids: Int[Array, "B L"]
    attend: Bool[Array, "B L"]
    """Attention mask: True for tokens that may be attended to, a prefix of every row."""
    keep: Bool[Array, "B L"]
    """True where the token gives a vector."""
    weight: Float[Array, "B L"] | None = None
    """Token weights (idf) for transport masses; None for uniform."""


@struct.dataclass
class PackedInputs:
    """Sequence packing: token ids of several texts per row, end to end.

    `home` and `place` map rows to texts and back. Indices are within a shard of the batch; -1 is padding.
    """

    ids: Int[Array, "R L"]
    attend: Bool[Array, "R L"]
    """Attention mask within a text."""
    home: Int[Array, "R L"]
    """b * S + s for token s of text b."""
    place: Int[Array, "B S"]
    """r * L + l for the token at position l of row r."""
    keep: Bool[Array, "B S"]
    """True where the token gives a vector."""
    weight: Float[Array, "B S"] | None = None
    """As in `TextInputs`."""


@struct.dataclass
class ImageInputs:
    """A batch of images, resized and normalised as their encoder expects."""

    pixels: Float[Array, "B height width 3"]
    """Red, green, blue; the first row is the top."""
    keep: Bool[Array, "B"] | None = None
    """False for padding of the batch, which gives no vectors; None keeps all."""


@struct.dataclass
class TokenVectors:
    """Unit vectors of tokens or patches (late interaction), or of whole texts or images at L = 1.

    Masked vectors (mask False) are zero and ignored.
    """

    vectors: Float[Array, "B L E"]
    mask: Bool[Array, "B L"]
    weight: Float[Array, "B L"] | None = None
    """Token weights, from `TextInputs` or the head (`HeadConfig.masses`); None for uniform."""


@struct.dataclass
class LossOutput:
    loss: Scalar
    metrics: Metrics


@struct.dataclass
class Batch:
    """A training batch of bitext: both sides have the same pairs in the same order."""

    student: TextInputs | PackedInputs
    teacher: TextInputs | PackedInputs | TokenVectors
    """Token vectors if read from the cache (`teacher.cache`)."""


@struct.dataclass
class RankingMarks:
    """Relevance and teacher scores of the passages of a ranking batch: n per query, the relevant one first."""

    passage_ids: Int[Array, "B n"]
    """Equal for equal texts."""
    first: Bool[Array, "B n"]
    """False for repeats of a passage that is earlier in the global batch."""
    relevant: Int[Array, "B R"]
    """All passages relevant to each query, in the batch or not, padded with -1."""
    scores: Float[Array, "B n"]
    """Teacher scores from the data; NaN where missing."""


@struct.dataclass
class RankingBatch:
    """A training batch of queries and the passages of each."""

    queries: PackedInputs
    """B texts."""
    passages: PackedInputs
    """B n texts, those of query b at [b n, (b + 1) n)."""
    marks: RankingMarks


@struct.dataclass
class ImageTextBatch:
    """A training batch of images, each with one of its captions."""

    images: ImageInputs
    texts: TextInputs | TokenVectors
    """Token vectors if precomputed by a frozen tower."""
    picture: Int[Array, "B"]
    """Image id, equal if an image is in the global batch twice, such as with captions in two languages."""


def mean_pool(tokens: TokenVectors) -> TokenVectors:
    """Mean pooling: one unit vector per text, along the mean of its token vectors. Texts without tokens stay masked."""
    mask = tokens.mask.any(axis=1, keepdims=True)
    return TokenVectors(vectors=unit(masked_sum(tokens.vectors, tokens.mask)), mask=mask)


def masked_sum(x: Float[Array, "B L D"], mask: Bool[Array | np.ndarray, "B L"]) -> Float[Array, "B 1 D"]:
    """Sum over the tokens where `mask` is True."""
    return jnp.where(mask[:, :, None], x, 0.0).sum(axis=1, keepdims=True)


def unit(x: Float[Array, "*dims E"]) -> Float[Array, "*dims E"]:
    """L2-normalise the last axis. The zero vector stays zero, and its gradient is zero rather than NaN."""
    square = jnp.square(x).sum(axis=-1, keepdims=True)
    nonzero = square > 0.0
    return x * jnp.where(nonzero, jax.lax.rsqrt(jnp.where(nonzero, square, 1.0)), 0.0)

"""The values that cross the borders between modules: token ids in, token vectors through, losses out."""

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
    """A padded batch of token ids, ready for an encoder. Every text has at least one token of each mask.

    `attend` and `keep` differ where a token is read but gives no vector (punctuation of a document), or gives a
    vector but is not read by the others ([MASK] augmentation).
    """

    ids: Int[Array, "B L"]
    attend: Bool[Array, "B L"]
    """True where other tokens may attend: the first tokens of every row."""
    keep: Bool[Array, "B L"]
    """True where the token gives a vector."""
    weight: Float[Array, "B L"] | None = None
    """Importance of a token (idf), for transport masses; None means equal."""


@struct.dataclass
class PackedInputs:
    """Token ids of texts laid end to end in rows, several texts a row.

    `home` and `place` lead from the rows to the texts and back. Both count within a shard of the batch; -1 is padding.
    """

    ids: Int[Array, "R L"]
    attend: Bool[Array, "R L"]
    """True where other tokens of the same text may attend."""
    home: Int[Array, "R L"]
    """b * S + s for token s of text b."""
    place: Int[Array, "B S"]
    """r * L + l for the token in row r at l."""
    keep: Bool[Array, "B S"]
    """True where the token gives a vector."""
    weight: Float[Array, "B S"] | None = None
    """As in `TextInputs`."""


@struct.dataclass
class ImageInputs:
    """A batch of pictures, scaled and normalised as their encoder was trained."""

    pixels: Float[Array, "B height width 3"]
    """Red, green, blue; the first row is the upper edge."""
    keep: Bool[Array, "B"] | None = None
    """False for what only fills up a batch and gives no vectors; None keeps all."""


@struct.dataclass
class TokenVectors:
    """The one currency: unit vectors of tokens, or of whole texts or images at L = 1.

    Masked vectors (mask False) are zero and count for nothing.
    """

    vectors: Float[Array, "B L E"]
    mask: Bool[Array, "B L"]
    weight: Float[Array, "B L"] | None = None
    """Importance of a token, handed on from `TextInputs` or given by the head (`HeadConfig.masses`); None: equal."""


@struct.dataclass
class LossOutput:
    loss: Scalar
    metrics: Metrics


@struct.dataclass
class Batch:
    """One step's bitext: both sides hold the same pairs in the same order."""

    student: TextInputs | PackedInputs
    teacher: TextInputs | PackedInputs | TokenVectors
    """Token vectors where they were encoded before (`teacher.cache`)."""


@struct.dataclass
class RankingMarks:
    """What is known of the passages of a ranking batch: n of each of B queries, the relevant one first."""

    passage_ids: Int[Array, "B n"]
    """Equal where the texts are."""
    first: Bool[Array, "B n"]
    """False where the same passage stands earlier in the global batch."""
    relevant: Int[Array, "B R"]
    """All passages relevant to each query, in the batch or not; -1 fills rows up."""
    scores: Float[Array, "B n"]
    """Given with the data; NaN where there is none."""


@struct.dataclass
class RankingBatch:
    """One step's queries, and the passages of each."""

    queries: PackedInputs
    """B texts."""
    passages: PackedInputs
    """B n texts, those of query b at [b n, (b + 1) n)."""
    marks: RankingMarks


@struct.dataclass
class ImageTextBatch:
    """One step's pictures, each with one of its captions."""

    images: ImageInputs
    texts: TextInputs | TokenVectors
    """Token vectors where they were encoded before, of a tower that stays as it is."""
    picture: Int[Array, "B"]
    """Its number: equal where one picture stands twice in the global batch, say with captions in two languages."""


def mean_pool(tokens: TokenVectors) -> TokenVectors:
    """One vector a text: the direction of the mean of its token vectors. A text without tokens stays without."""
    mask = tokens.mask.any(axis=1, keepdims=True)
    return TokenVectors(vectors=unit(masked_sum(tokens.vectors, tokens.mask)), mask=mask)


def masked_sum(x: Float[Array, "B L D"], mask: Bool[Array | np.ndarray, "B L"]) -> Float[Array, "B 1 D"]:
    """Sum over the tokens where `mask` is True; it points where their mean points, and is made a unit vector anyway."""
    return jnp.where(mask[:, :, None], x, 0.0).sum(axis=1, keepdims=True)


def unit(x: Float[Array, "*dims E"]) -> Float[Array, "*dims E"]:
    """`x` at length one. The zero vector stays zero, and its gradient is zero rather than NaN."""
    square = jnp.square(x).sum(axis=-1, keepdims=True)
    nonzero = square > 0.0
    return x * jnp.where(nonzero, jax.lax.rsqrt(jnp.where(nonzero, square, 1.0)), 0.0)

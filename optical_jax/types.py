"""The values that cross the borders between modules: token ids in, token vectors through, losses out."""

from __future__ import annotations

from typing import Any

import jax
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
    """True where other tokens may attend."""
    keep: Bool[Array, "B L"]
    """True where the token gives a vector."""
    weight: Float[Array, "B L"] | None = None
    """Importance of a token (idf), for transport masses; None means equal."""


@struct.dataclass
class TokenVectors:
    """The one currency: unit vectors of tokens, or of whole texts or images at L = 1.

    Masked vectors (mask False) are zero and count for nothing.
    """

    vectors: Float[Array, "B L E"]
    mask: Bool[Array, "B L"]
    weight: Float[Array, "B L"] | None = None
    """Importance of a token, handed on from `TextInputs`; None means equal."""


@struct.dataclass
class LossOutput:
    loss: Scalar
    metrics: Metrics


@struct.dataclass
class Batch:
    """One step's bitext: both sides hold the same pairs in the same order."""

    student: TextInputs
    teacher: TextInputs

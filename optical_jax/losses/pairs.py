"""Shared by all losses: means over real pairs, and metrics that are comparable across losses."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from optical_jax.ot.costs import cosine_cost
from optical_jax.types import Metrics, Scalar, TokenVectors, mean_pool


def real_pairs(student: TokenVectors, teacher: TokenVectors) -> Bool[Array, "B"]:
    """True where both sides have a token; the other rows are padding."""
    return student.mask.any(axis=1) & teacher.mask.any(axis=1)


def mean_over_pairs(values: Float[Array, "B"], student: TokenVectors, teacher: TokenVectors) -> Scalar:
    """Mean over the real pairs; zero where a batch has none."""
    real = real_pairs(student, teacher)
    return jnp.where(real, values, 0.0).sum() / jnp.maximum(real.sum(), 1)


def real_cells(student: TokenVectors, teacher: TokenVectors) -> Bool[Array, "B S T"]:
    """Pairwise mask: True where both the student token and the teacher token of a pair are real."""
    return student.mask[:, :, None] & teacher.mask[:, None, :]


def mean_over_tokens(values: Float[Array, "B L"], mask: Bool[Array, "B L"]) -> Float[Array, "B"]:
    """Mean over each row's real tokens; zero for a row without."""
    return jnp.where(mask, values, 0.0).sum(axis=1) / jnp.maximum(mask.sum(axis=1), 1)


def at_least_float32(x: Array) -> Array:
    """Promote to at least float32; float64 is unchanged."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def pooled_vectors(side: TokenVectors) -> Float[Array, "B E"]:
    """Mean-pooled unit vectors; zero for a text without tokens."""
    return mean_pool(TokenVectors(at_least_float32(side.vectors), side.mask)).vectors[:, 0]


def pooled_cosines(student: TokenVectors, teacher: TokenVectors) -> Float[Array, "B"]:
    """Cosine of the two sides' mean-pooled vectors, of each pair."""
    s, t = pooled_vectors(student), pooled_vectors(teacher)
    return jnp.einsum("BE,BE->B", s, t, precision=jax.lax.Precision.HIGHEST)


def comparison_metrics(student: TokenVectors, teacher: TokenVectors) -> Metrics:
    """Metrics that do not depend on the loss, float32 means over real pairs.

    greedy_cosine: mean over student tokens of the cosine with the best teacher token, which several may share (MaxSim
    over the number of query tokens; not the one-to-one matching of the loss `greedy`). pooled_cosine: cosine of the
    mean-pooled vectors. Empty for vectors of different widths.
    """
    if student.vectors.shape[2] != teacher.vectors.shape[2]:
        return {}
    cosine = 1.0 - cosine_cost(student.vectors, teacher.vectors)
    best = jnp.where(real_cells(student, teacher), cosine, -jnp.inf).max(axis=2)  # [B, S]
    return {
        "greedy_cosine": mean_over_pairs(mean_over_tokens(best, student.mask), student, teacher),
        "pooled_cosine": mean_over_pairs(pooled_cosines(student, teacher), student, teacher),
    }

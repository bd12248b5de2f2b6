"""Relational knowledge distillation (RKD): distances and angles between the texts of a batch."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from optical_jax.config import LossConfig
from optical_jax.losses.batch_scores import SAME_COSINE, map_rows
from optical_jax.losses.pairs import comparison_metrics, pooled_vectors, real_pairs
from optical_jax.partitioning import by_shard
from optical_jax.types import LossOutput, Scalar, TokenVectors, unit

ANGLE_WEIGHT = 2.0
"""Weight of the angle loss relative to the distance loss, as in the paper."""
SAME_DISTANCE = (2.0 * (1.0 - SAME_COSINE)) ** 0.5
"""Distance of two unit vectors at that cosine; between duplicates an angle is undefined."""


def relational_loss(student: TokenVectors, teacher: TokenVectors, cfg: LossConfig) -> LossOutput:
    """RKD-DA: Huber loss of the distances between the texts of a batch, plus twice that of their angles.

    Texts are unit mean-pooled vectors. Distances are divided by their mean, each side's by its own; an angle is the
    cosine, at one text, of the directions to two others. Means are over ordered pairs and triples of different real
    texts; angles along an edge between teacher duplicates are left out. The two sides' widths E may differ, and the
    loss is invariant to rotations: alone it does not make student vectors comparable with the teacher's. With
    `training.accumulate` the texts are those of the part.

    Source: Park et al. (CVPR 2019), RKD-DA, which also counts each text's distance to itself.
    """
    real = real_pairs(student, teacher)
    with jax.named_scope("relations"):
        s_far, t_far, bends, triples = relations(pooled_vectors(student), pooled_vectors(teacher), real)
    others = real[:, None] & real[None, :] & ~jnp.eye(len(real), dtype=bool)  # [B, N]
    stretched = huber(over_mean(s_far, others) - over_mean(t_far, others))  # [B, N]
    distance = jnp.where(others, stretched, 0.0).sum() / jnp.maximum(others.sum(), 1)
    # Float: the number of triples in a batch of 2048 texts overflows int32.
    angle = bends.sum() / jnp.maximum(triples.sum(), 1.0)
    metrics = {"relational_distance": distance, "relational_angle": angle, **comparison_metrics(student, teacher)}
    return LossOutput(loss=distance + ANGLE_WEIGHT * angle, metrics=metrics)


def relations(
    student: Float[Array, "B E"], teacher: Float[Array, "B F"], real: Bool[Array, "B"]
) -> tuple[Float[Array, "B N"], Float[Array, "B N"], Float[Array, "B"], Float[Array, "B"]]:
    """For every text: both sides' distances to all texts, the sum of the angle losses at it, and their number.

    Every device computes those of its own texts.
    """
    B = len(real)

    def seen_from(
        here: Bool[Array, ""],
        s: Float[Array, "E"],
        t: Float[Array, "F"],
        s_all: Float[Array, "N E"],
        t_all: Float[Array, "N F"],
        all_real: Bool[Array, "N"],
    ) -> tuple[jax.Array, jax.Array, Scalar, Scalar]:
        s_ways, t_ways = s_all - s, t_all - t  # [N, E], [N, F]
        s_far, t_far = length(s_ways), length(t_ways)  # [N]
        apart = here & all_real & (t_far > SAME_DISTANCE)
        corners = apart[:, None] & apart[None, :] & ~jnp.eye(B, dtype=bool)  # [N, N]
        bend = huber(cosines(s_ways) - cosines(t_ways))
        return s_far, t_far, jnp.where(corners, bend, 0.0).sum(), corners.sum().astype(bend.dtype)

    def of_shard(here: jax.Array, s: jax.Array, t: jax.Array, *everything: jax.Array) -> tuple[jax.Array, ...]:
        width = max(s.shape[1], t.shape[1])
        return map_rows(lambda *row: seen_from(*row, *everything), B * max(B, width), here, s, t)

    axes = (("batch",), ("batch", None), ("batch", None), (None, None), (None, None), (None,))
    return by_shard(of_shard, real, student, teacher, student, teacher, real, axes=axes)


def length(x: Float[Array, "N E"]) -> Float[Array, "N"]:
    """Norms of rows; zero, with a gradient of zero, for the zero vector."""
    square = jnp.square(x).sum(axis=1)
    return jnp.where(square == 0.0, 0.0, jnp.sqrt(jnp.where(square == 0.0, 1.0, square)))


def cosines(ways: Float[Array, "N E"]) -> Float[Array, "N N"]:
    directions = unit(ways)
    return jnp.einsum("NE,ME->NM", directions, directions, precision=jax.lax.Precision.HIGHEST)


def over_mean(far: Float[Array, "B N"], others: Bool[Array, "B N"]) -> Float[Array, "B N"]:
    """Distances divided by their mean; zero if all texts coincide."""
    mean = jnp.where(others, far, 0.0).sum() / jnp.maximum(others.sum(), 1)
    return far / jnp.where(mean == 0.0, 1.0, mean)


def huber(x: Float[Array, "N M"]) -> Float[Array, "N M"]:
    """Huber loss with delta 1: half the square up to 1, linear above."""
    size = jnp.abs(x)
    return jnp.where(size <= 1.0, 0.5 * jnp.square(x), size - 0.5)

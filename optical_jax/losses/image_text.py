"""Image-text contrastive losses over a batch: softmax (CLIP), sigmoid (SigLIP), token-wise (FILIP)."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from optical_jax.config import ImageTextLossConfig
from optical_jax.losses.batch_scores import map_rows, mean_cosines
from optical_jax.losses.pairs import at_least_float32, mean_over_pairs, real_pairs
from optical_jax.params import Initializer, Spec, SpecTree
from optical_jax.partitioning import by_shard
from optical_jax.types import LossOutput, Scalar, TokenVectors

LARGEST_SCALE = 100.0
"""Upper bound of the logit scale (1 / temperature), as in CLIP, for stable training."""


def image_text_specs(cfg: ImageTextLossConfig) -> SpecTree:
    """Trainable parameters of the loss, `log_scale` and `bias`, with the initial values of `cfg`."""
    return {
        "log_scale": Spec((), (), constant(-math.log(cfg.start_temperature))),
        "bias": Spec((), (), constant(cfg.bias)),
    }


def constant(value: float) -> Initializer:
    return lambda rng, shape: np.full(shape, value, np.float32)


def image_text_loss(
    text: TokenVectors,
    image: TokenVectors,
    ids: Int[Array, "B"],
    log_scale: Scalar,
    bias: Scalar,
    cfg: ImageTextLossConfig,
) -> LossOutput:
    """Symmetric image-text contrastive loss: mean of text-to-image and image-to-text, over the whole batch.

    softmax: -log softmax of the positive pair's score in its row, mean over real pairs. sigmoid: -log sigmoid of every
    score, with the sign flipped for negatives, summed over the row, mean over real pairs. Scores are cosines of
    mean vectors ("pooled"), equal in both directions; or ("tokens") from captions the mean over tokens of the best
    patch's cosine, from images the mean over patches of the best token's.

    Negatives come from the batch of all devices; two captions of one image are not negatives of each other.

    Args:
      text: caption vectors [B, S, E]; rows without tokens are padding and are left out.
      image: vectors [B, T, E] of the image of each caption.
      ids: equal where two rows have the same image.
      log_scale: natural logarithm of the factor on the cosines, which is at most `LARGEST_SCALE`.
      bias: added to the scaled cosines (sigmoid only).
      cfg: which loss; static.

    Returns:
      The loss; as metrics the scale, the mean cosine of positive pairs ("pair_cosine"), and the shares of captions
      that rank their image first ("text_first_rank") and of images that rank their caption first ("image_first_rank").

    Sources: Radford et al. (CLIP, ICML 2021); Zhai et al. (SigLIP, ICCV 2023); Yao et al. (FILIP, ICLR 2022).
    """
    scale = jnp.exp(at_most_largest(log_scale))
    if not cfg.learn_scale:
        scale, bias = jax.lax.stop_gradient((scale, bias))
    if cfg.interaction == "pooled":
        from_text = mean_cosines(text, image)  # [B, N]
        from_image = from_text.T
    else:
        from_text, to_text = mean_best_cosines(text, image)
        from_image = to_text.T
    own, real = jnp.eye(len(ids), dtype=bool), real_pairs(text, image)
    candidates = own | (real[None, :] & (ids[:, None] != ids[None, :]))
    loss = LOSSES[cfg.name]

    def mean(values: Float[Array, "B"]) -> Scalar:
        return mean_over_pairs(values, text, image)

    total = (mean(loss(from_text, scale, bias, candidates)) + mean(loss(from_image, scale, bias, candidates))) / 2
    metrics = {
        "scale": scale,
        "pair_cosine": mean((jnp.diagonal(from_text) + jnp.diagonal(from_image)) / 2),
        "text_first_rank": mean(first_rank(from_text, candidates)),
        "image_first_rank": mean(first_rank(from_image, candidates)),
    }
    return LossOutput(loss=total, metrics=metrics)


# ---- losses by row -----------------------------------------------------------------------------------------------


def softmax_loss(
    scores: Float[Array, "B N"], scale: Scalar, bias: Scalar, candidates: Bool[Array, "B N"]
) -> Float[Array, "B"]:
    """-log softmax of the diagonal's score among the candidates of its row."""
    # Relative to the positive's score before the sum, so that small losses keep their precision.
    ahead = (scores - jnp.diagonal(scores)[:, None]) * scale
    return jax.nn.logsumexp(jnp.where(candidates, ahead, -jnp.inf), axis=1)


def sigmoid_loss(
    scores: Float[Array, "B N"], scale: Scalar, bias: Scalar, candidates: Bool[Array, "B N"]
) -> Float[Array, "B"]:
    """-log sigmoid of the positive's logit and of the negated logits of negatives, summed over a row's candidates."""
    sign = 2.0 * jnp.eye(len(scores), dtype=scores.dtype) - 1.0
    return jnp.where(candidates, jax.nn.softplus(-sign * (scores * scale + bias)), 0.0).sum(axis=1)


LOSSES: dict[str, Callable[..., Float[Array, "B"]]] = {"softmax": softmax_loss, "sigmoid": sigmoid_loss}
"""`ImageTextLossConfig.name` -> f(scores, scale, bias, candidates) -> loss of each row."""


def first_rank(scores: Float[Array, "B N"], candidates: Bool[Array, "B N"]) -> Float[Array, "B"]:
    """1 where the diagonal's score is above all others of its row, else 0."""
    rivals = jnp.where(candidates & ~jnp.eye(len(scores), dtype=bool), scores, -jnp.inf).max(axis=1)
    return (jnp.diagonal(scores) > rivals).astype(scores.dtype)


# ---- scores and scale --------------------------------------------------------------------------------------------


@jax.named_scope("batch_scores")
def mean_best_cosines(text: TokenVectors, image: TokenVectors) -> tuple[Float[Array, "B N"], Float[Array, "B N"]]:
    """FILIP's token-wise scores of every caption with every image; zero where a side has no token.

    Every device scores its own captions with the images of all devices, in blocks that the backward pass recomputes
    where together they would take too much memory.

    Returns:
      The mean over a caption's tokens of the best patch's cosine, and the mean over an image's patches of the best
      token's.
    """
    N, T = image.mask.shape

    def of_shard(mask: jax.Array, text: jax.Array, *image: jax.Array) -> tuple[jax.Array, jax.Array]:
        return map_rows(lambda *one: of_caption(*one, *image), mask.shape[1] * N * T, mask, text)

    arrays = text.mask, at_least_float32(text.vectors), image.mask, at_least_float32(image.vectors)
    return by_shard(of_shard, *arrays, axes=(("batch", None), ("batch", None, None), (None, None), (None, None, None)))


def of_caption(
    mask: Bool[Array, "S"], tokens: Float[Array, "S E"], real: Bool[Array, "N T"], patches: Float[Array, "N T E"]
) -> tuple[Float[Array, "N"], Float[Array, "N"]]:
    """Both scores of one caption with N images, from one product."""
    cosines = jnp.einsum("NTE,SE->NTS", patches, tokens, precision=jax.lax.Precision.HIGHEST)
    cells = real[:, :, None] & mask  # [N, T, S]
    cosines = jnp.where(cells, cosines, -jnp.inf)

    def mean_best(axis: int) -> Float[Array, "N"]:
        some = cells.any(axis=axis)
        return jnp.where(some, cosines.max(axis=axis), 0.0).sum(axis=1) / jnp.maximum(some.sum(axis=1), 1)

    return mean_best(1), mean_best(2)


@jax.custom_vjp
def at_most_largest(log_scale: Scalar) -> Scalar:
    """Clip `log_scale` to the logarithm of `LARGEST_SCALE`.

    Above the bound the gradient passes only if it decreases the scale; that of a plain minimum would be zero, and the
    scale could never return.
    """
    return jnp.minimum(log_scale, math.log(LARGEST_SCALE))


def _at_most_forward(log_scale: Scalar) -> tuple[Scalar, Scalar]:
    return at_most_largest(log_scale), log_scale


def _at_most_backward(log_scale: Scalar, gradient: Scalar) -> tuple[Scalar]:
    grows = (log_scale >= math.log(LARGEST_SCALE)) & (gradient < 0.0)
    return (jnp.where(grows, 0.0, gradient),)


at_most_largest.defvjp(_at_most_forward, _at_most_backward)

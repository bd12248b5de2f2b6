"""Word-to-patch alignment: transport plans between the words of a caption and the patches of an image."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Float, UInt8

from optical_jax.alignment.plans import known_masses, read_words
from optical_jax.config import OtConfig
from optical_jax.data.pixels import cut_out, picture_pixels
from optical_jax.errors import ConfigError, DataError
from optical_jax.losses.ot_distillation import transport
from optical_jax.models.late_interaction import mass_logits
from optical_jax.retrieval.scoring import maxsim
from optical_jax.towers.images import grid_of, recipe_of
from optical_jax.towers.tower import Tower, encode


@dataclass(frozen=True)
class ImagePlan:
    """Transport plan between a caption's words, or its tokens, and the patches of an image."""

    words: tuple[str, ...]
    plan: Float[np.ndarray, "W rows cols"]
    """Mass moved from each word to each patch. The whole plan sums to one; special tokens take part in it but are left
    out here, so this sums to less."""
    seen: UInt8[np.ndarray, "h w 3"]
    """The part of the image that the patches cover."""
    cost: float
    """<P, C> of the whole plan."""
    score: float
    """MaxSim of the caption with the patches."""
    cut: bool
    """True if the caption was truncated to the tower's maximum length."""


def align_image_plan(
    text: Tower, image: Tower, caption: str, rgb: UInt8[np.ndarray, "H W 3"], cfg: OtConfig, *, by_pieces: bool = False
) -> ImagePlan:
    """Align a caption with an image by the transport plan, with the solver and settings of the losses.

    Args:
      text: text tower; a student as loaded.
      image: image tower with one vector per patch.
      caption: not empty.
      rgb: the image.
      cfg: chooses cost, masses and plan. Masses that are known only in training are uniform here.
      by_pieces: by tokens that have a vector, instead of words.

    Raises:
      ConfigError: one of the towers is pooled (one vector per text or image).
      DataError: the caption has no words.
    """
    if any(tower.cfg.head.pooling != "none" for tower in (text, image)):
        raise ConfigError("pooled towers give one vector per text or image and no plan; use late-interaction towers")
    ours, patches = encode(text, [caption]), encode(image, picture_pixels(rgb, recipe_of(image))[None])
    words = read_words(text, caption, by_pieces).with_vectors(np.asarray(ours.mask[0]))
    if not words.names:
        raise DataError(f"caption={caption!r} has no words for this tokenizer; use another caption")
    ot = known_masses(cfg, text, None)
    if ot.masses == "learned":
        logits = mass_logits(text.params, jax.numpy.asarray(ours.vectors))
        ours = ours.replace(weight=logits)  # pyright: ignore[reportAttributeAccessIssue]
    moved = jax.jit(transport, static_argnums=2)(ours, patches, ot)
    (rows, columns), part = grid_of(image, rgb.shape[0], rgb.shape[1])
    plan = words.sums @ np.asarray(moved.plan)[0, : words.sums.shape[1]]  # [W, patches]
    return ImagePlan(
        words=words.names,
        plan=plan.reshape(-1, rows, columns),
        seen=cut_out(rgb, part),
        cost=float((moved.plan * moved.cost).sum()),
        score=float(maxsim(ours, patches)[0, 0]),
        cut=words.cut,
    )

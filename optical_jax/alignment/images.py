"""Where in a picture each word of a caption is matched: the transport plan between its tokens and the patches."""

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
class PicturePlan:
    """The plan between a caption's words, or its pieces and special tokens, and the patches of a picture."""

    words: tuple[str, ...]
    plan: Float[np.ndarray, "W rows cols"]
    """Mass moved from each word to each patch. The whole plan sums to one; special tokens take part in it and are left
    out here, so this sums to less."""
    seen: UInt8[np.ndarray, "h w 3"]
    """The part of the picture that the patches cover."""
    cost: float
    """<P, C> of the whole plan."""
    score: float
    """MaxSim of the caption with the patches."""
    cut: bool
    """True where the caption was longer than the tower reads."""


def align_picture(
    text: Tower, image: Tower, caption: str, rgb: UInt8[np.ndarray, "H W 3"], cfg: OtConfig, *, by_pieces: bool = False
) -> PicturePlan:
    """The plan of a caption and a picture, by the solver and the settings of the losses.

    Args:
      text: tower of texts; a student as it is loaded.
      image: tower of pictures that gives a vector a patch.
      caption: not empty.
      rgb: the picture.
      cfg: chooses cost, masses and plan. Masses that only training can tell are equal here.
      by_pieces: show every token that has a vector, instead of words.

    Raises:
      ConfigError: the tower of texts gives one vector a text, or that of pictures one a picture.
      DataError: nothing of the caption is a word.
    """
    if any(tower.cfg.head.pooling != "none" for tower in (text, image)):
        raise ConfigError("pooled towers give one vector a text or picture, and between two vectors there is no plan")
    ours, patches = encode(text, [caption]), encode(image, picture_pixels(rgb, recipe_of(image))[None])
    words = read_words(text, caption, by_pieces).with_vectors(np.asarray(ours.mask[0]))
    if not words.names:
        raise DataError(f"nothing of {caption!r} is a word to this tokenizer; give another caption")
    ot = known_masses(cfg, text, None)
    if ot.masses == "learned":
        logits = mass_logits(text.params, jax.numpy.asarray(ours.vectors))
        ours = ours.replace(weight=logits)  # pyright: ignore[reportAttributeAccessIssue]
    moved = jax.jit(transport, static_argnums=2)(ours, patches, ot)
    (rows, columns), part = grid_of(image, rgb.shape[0], rgb.shape[1])
    plan = words.sums @ np.asarray(moved.plan)[0, : words.sums.shape[1]]  # [W, patches]
    return PicturePlan(
        words=words.names,
        plan=plan.reshape(-1, rows, columns),
        seen=cut_out(rgb, part),
        cost=float((moved.plan * moved.cost).sum()),
        score=float(maxsim(ours, patches)[0, 0]),
        cut=words.cut,
    )

"""Which region of a picture a phrase means: recall over given boxes, as on Flickr30k Entities.

Boxes are [left, top, right, bottom] in pixels, as edges: a box of one pixel is one wide. So are areas and overlaps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from optical_jax.retrieval.metrics import PerQuery
from optical_jax.types import TokenVectors

DEPTHS = (1, 5, 10)
PROTOCOLS = ("any", "merged")
"""Of a phrase with several gold boxes: a candidate is right if it fits any of them, or if it fits the smallest box
around them all (their union)."""
PHRASE_FIGURES = tuple(f"{protocol} {name}" for protocol in PROTOCOLS for name in ("R@1", "R@5", "R@10", "bound"))
"""Of a phrase, 0 or 1 each; "bound": there is a right candidate at all, which no ranking can better."""


@dataclass(frozen=True)
class RegionPicture:
    """A picture's patch vectors, and the boxes among which a phrase's region is looked for."""

    boxes: Float[np.ndarray, "N 4"]
    patches: Float[np.ndarray, "rows*cols E"]
    """Row by row."""
    grid: tuple[int, int]
    """Rows and columns of patches."""
    area: tuple[float, float, float, float]
    """The box that the grid covers: the whole picture, or what was left of it when it was cropped."""


def phrase_figures(
    phrases: TokenVectors,
    ids: Sequence[str],
    picture_of: Sequence[int],
    gold: Sequence[Float[np.ndarray, "_ 4"]],
    pictures: Sequence[RegionPicture],
    threshold: float = 0.5,
) -> PerQuery:
    """Rank every picture's boxes for its phrases: is one of the first 1, 5, 10 the right one?

    A box's vector is the mean of the patches it covers, each weighted by how much of it is covered, at unit length. Its
    score is MaxSim, which with one vector a box ranks as the cosine of mean vectors does. Boxes beside all patches come
    last; ties stand in the order of the boxes.

    Args:
      phrases: vectors [B, Q, E] of unit length.
      ids: a name a phrase.
      picture_of: a position in `pictures` a phrase.
      gold: the boxes of every phrase, one or more.
      pictures: candidates and patches.
      threshold: a candidate is right from this intersection over union on.

    Returns:
      Phrase id -> `PHRASE_FIGURES`, as paired tests take them (`compare_runs(a, b, metrics=PHRASE_FIGURES)`).

    Raises:
      ValueError: a phrase without a gold box, or numbers that do not agree.

    Sources: Plummer et al. (Flickr30k Entities, IJCV 2017); Kamath et al. (MDETR, ICCV 2021) for the two protocols.
    """
    if not len(phrases.mask) == len(ids) == len(picture_of) == len(gold):
        raise ValueError(f"{len(phrases.mask)} phrases, {len(ids)} ids, {len(picture_of)} pictures, {len(gold)} golds")
    without = [name for name, boxes in zip(ids, gold, strict=True) if not len(boxes)]
    if without:
        raise ValueError(f"phrase {without[0]} has no gold box; leave it out")
    # With one vector a box, the sum of a phrase's best cosines is the cosines' sum.
    queries = np.where(np.asarray(phrases.mask)[:, :, None], np.asarray(phrases.vectors, np.float32), 0.0).sum(axis=1)
    of = np.asarray(picture_of)
    found: PerQuery = {}
    for n in np.unique(of).tolist():
        regions, covered = region_vectors(pictures[n])
        members = np.flatnonzero(of == n)
        scores = np.where(covered, queries[members] @ regions.T, -np.inf)  # [phrases, N]
        order = np.argsort(-scores, axis=1, kind="stable")
        for phrase, ranked in zip(members.tolist(), order, strict=True):
            boxes = np.asarray(gold[phrase], np.float64)
            merged = np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])[None]
            figures: dict[str, float] = {}
            for protocol, targets in zip(PROTOCOLS, (boxes, merged), strict=True):
                right: Any = (overlap(pictures[n].boxes, targets) >= threshold).any(axis=1)
                right = right[ranked]
                figures |= {f"{protocol} R@{k}": float(right[:k].any()) for k in DEPTHS}
                figures[f"{protocol} bound"] = float(right.any())
            found[ids[phrase]] = figures
    return {name: found[name] for name in ids}


def region_vectors(picture: RegionPicture) -> tuple[Float[np.ndarray, "N E"], Bool[np.ndarray, "N"]]:
    """Unit vectors of a picture's boxes; zero, and False, for one that covers no patch."""
    rows, cols = picture.grid
    if len(picture.patches) != rows * cols:
        raise ValueError(f"{len(picture.patches)} patch vectors do not fill a grid of {rows} x {cols}")
    weights = patch_weights(picture.boxes, picture.grid, picture.area)  # [N, rows*cols]
    means = weights @ np.asarray(picture.patches, np.float64)  # [N, E]
    norms = np.linalg.norm(means, axis=1, keepdims=True)
    return (means / np.where(norms > 0, norms, 1.0)).astype(np.float32), norms[:, 0] > 0


def patch_weights(
    boxes: Float[np.ndarray, "N 4"], grid: tuple[int, int], area: tuple[float, float, float, float]
) -> Float[np.ndarray, "N P"]:
    """Share of every patch that each box covers, 0 to 1; patches cut `area` evenly."""
    rows, cols = grid
    left, top, right, bottom = area

    def covered(low: np.ndarray, high: np.ndarray, edges: np.ndarray) -> np.ndarray:
        length = np.minimum(high[:, None], edges[1:]) - np.maximum(low[:, None], edges[:-1])
        return np.clip(length, 0.0, None) / np.diff(edges)

    boxes = np.asarray(boxes, np.float64)
    across = covered(boxes[:, 0], boxes[:, 2], np.linspace(left, right, cols + 1))  # [N, cols]
    down = covered(boxes[:, 1], boxes[:, 3], np.linspace(top, bottom, rows + 1))  # [N, rows]
    return np.einsum("NR,NC->NRC", down, across).reshape(len(boxes), rows * cols)


def overlap(a: Float[np.ndarray, "N 4"], b: Float[np.ndarray, "M 4"]) -> Float[np.ndarray, "N M"]:
    """Intersection over union of every box with every other; zero between boxes without area."""
    a, b = np.asarray(a, np.float64)[:, None], np.asarray(b, np.float64)[None]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    both = np.clip(sides, 0.0, None).prod(axis=-1)
    either = (a[..., 2:] - a[..., :2]).prod(axis=-1) + (b[..., 2:] - b[..., :2]).prod(axis=-1) - both
    return np.divide(both, either, out=np.zeros_like(both), where=either > 0)


def mean_phrase_figures(per_phrase: PerQuery) -> dict[str, float]:
    """The mean of each figure over phrases, and their number as "phrases"."""
    means = {name: float(np.mean([each[name] for each in per_phrase.values()])) for name in PHRASE_FIGURES}
    return means | {"phrases": len(per_phrase)}

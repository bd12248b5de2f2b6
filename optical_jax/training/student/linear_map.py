"""Linear map between two encoders' vector spaces by ridge regression: a baseline, and a start of the head.

A multilingual encoder stays as it is; from English texts alone, encoded by it and by the teacher, comes the projection
that takes its vectors of any language to the teacher's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from optical_jax.errors import ConfigError


@dataclass(frozen=True)
class LinearMap:
    kernel: Float[np.ndarray, "D E"]
    """float32; a tower's projection (`head.projection.kernel`)."""
    rank: int
    """Directions of the input vectors that were seen, at most D; along the others the map is zero."""
    condition: float
    """Largest over smallest stretch of what was inverted, `ridge` included; inf where directions are missing. Errors of
    float32 inputs (1e-7) come out up to so many times as large."""
    explained: float
    """1 - the squared error over the squared length of the targets: 1 is perfect, 0 no better than nothing."""


def fit_linear_map(
    blocks: Iterable[tuple[Float[np.ndarray, "_ D"], Float[np.ndarray, "_ E"]]], ridge: float = 0.0
) -> LinearMap:
    """Ridge regression: W that minimises |X W - Y|^2 + ridge |W|^2 over all blocks; the minimum-norm one if several do.

    In float64, by an orthogonal triangularisation that takes block after block: memory holds one block and a square of
    D + E, and the condition of X is not squared as it is by X^T X. There is no constant term: a projection has none.

    Args:
      blocks: pairs of pooled vectors, or of tokens that belong together, such as of thousands of texts each.
      ridge: pull towards zero, in squared units of X, a sum over rows.

    Raises:
      ConfigError: `ridge` is below zero or no number.
      ValueError: no rows, different numbers of rows on both sides, or a value that is not finite.
    """
    if not 0 <= ridge < np.inf:
        raise ConfigError(f"ridge={ridge} is not valid; use 0 or more")
    triangle: np.ndarray | None = None
    rows = D = 0
    for x, y in blocks:
        if len(x) != len(y):
            raise ValueError(f"{len(x)} vectors on one side and {len(y)} on the other; give pairs")
        both = np.concatenate([np.asarray(x, np.float64), np.asarray(y, np.float64)], axis=1)  # [n, D + E]
        if not np.isfinite(both).all():
            raise ValueError("a vector is not finite; the weights of an encoder are broken")
        stacked = both if triangle is None else np.concatenate([triangle, both])
        triangle = np.asarray(np.linalg.qr(stacked, mode="r"))
        rows, D = rows + len(x), x.shape[1]
    if triangle is None or rows == 0:
        raise ValueError("no vectors to fit a map to")
    inputs, targets = triangle[:D, :D], triangle[:D, D:]
    left, stretch, right = np.linalg.svd(inputs, full_matrices=False)
    kept = stretch > stretch[0] * max(rows, D) * np.finfo(np.float64).eps
    inverse = np.where(kept, stretch, 0.0) / np.where(kept, stretch**2 + ridge, 1.0)
    kernel = right.T @ (inverse[:, None] * (left.T @ targets))  # [D, E]
    # What no map of X can reach lies below the first D rows.
    error = np.square(targets - inputs @ kernel).sum() + np.square(triangle[D:, D:]).sum()
    total = np.square(triangle[:, D:]).sum()
    rank, least = int(kept.sum()), stretch[-1] ** 2 if kept.all() and len(stretch) == D else 0.0
    condition = np.sqrt((stretch[0] ** 2 + ridge) / (least + ridge)) if least + ridge > 0 else np.inf
    return LinearMap(kernel.astype(np.float32), rank, float(condition), float(1 - error / total) if total > 0 else 1.0)

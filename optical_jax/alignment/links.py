"""Word alignment links: extraction from transport plans, symmetrisation heuristics, AER and F1 against gold links."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from optical_jax.alignment.gold_links import GoldLinks

Links = Bool[np.ndarray, "S T"]
"""Foreign word by English word."""
SHARE = 0.25
"""Rule `share`: smallest share of both words' mass for a link."""


# ---- from a plan to links ----------------------------------------------------------------------------------------


def best_per_row(mass: Float[np.ndarray, "S T"]) -> Links:
    """Argmax link of every row, the first of ties; none in a row without mass."""
    best = mass == mass.max(axis=1, keepdims=True, initial=0.0)
    return best & (mass > 0.0) & (np.cumsum(best, axis=1) == 1)


def shared_links(mass: Float[np.ndarray, "S T"], least: float = SHARE) -> Links:
    """Links where a cell has at least the share `least` of both its row's and its column's mass."""
    rows, cols = mass.sum(axis=1, keepdims=True), mass.sum(axis=0, keepdims=True)
    return (mass > 0.0) & (mass >= least * rows) & (mass >= least * cols)


def grow_diagonal(forward: Links, backward: Links) -> Links:
    """grow-diag: the intersection, grown by neighbouring (also diagonal) links of the union that link an unlinked word.

    Source: Koehn, Och and Marcu (NAACL 2003), in the word order of Moses.
    """
    links, union = forward & backward, forward | backward
    S, T = links.shape
    grown = True
    while grown:
        grown = False
        for t in range(T):
            for s in range(S):
                if not links[s, t]:
                    continue
                for i, j in ((s, t - 1), (s - 1, t), (s, t + 1), (s + 1, t), *_corners(s, t)):
                    inside = 0 <= i < S and 0 <= j < T
                    if inside and union[i, j] and not (links[i].any() and links[:, j].any()):
                        links[i, j] = grown = True
    return links


def _corners(s: int, t: int) -> list[tuple[int, int]]:
    return [(s - 1, t - 1), (s + 1, t - 1), (s - 1, t + 1), (s + 1, t + 1)]


def grow_diagonal_final_and(forward: Links, backward: Links) -> Links:
    """grow-diag-final-and: `grow_diagonal`, then links of either direction between two unlinked words.

    Source: Koehn et al. (IWSLT 2005).
    """
    links = grow_diagonal(forward, backward)
    for direction in (backward, forward):
        for t, s in zip(*np.nonzero(direction.T), strict=True):
            if not (links[s].any() or links[:, t].any()):
                links[s, t] = True
    return links


SYMMETRISED: dict[str, Callable[[Links, Links], Links]] = {
    "forward": lambda forward, backward: forward,
    "backward": lambda forward, backward: backward,
    "intersection": np.logical_and,
    "union": np.logical_or,
    "grow-diag": grow_diagonal,
    "grow-diag-final-and": grow_diagonal_final_and,
}
"""Symmetrisation rules: forward links each foreign word to one English word, backward each English to one foreign."""

RULES: dict[str, Callable[[Float[np.ndarray, "S T"]], Links]] = {
    **{
        name: lambda plan, of_both=of_both: of_both(best_per_row(plan), best_per_row(plan.T).T)
        for name, of_both in SYMMETRISED.items()
    },
    "share": shared_links,
}
"""Rule -> f(plan between words [S, T]) -> links [S, T]."""


def diagonal_links(S: int, T: int) -> Links:
    """Diagonal baseline: each foreign word is linked to the English word at the same relative position."""
    apart = np.abs((np.arange(S)[:, None] + 0.5) / max(S, 1) - (np.arange(T) + 0.5) / max(T, 1))  # [S, T]
    return best_per_row(1.0 - apart)


# ---- metrics -----------------------------------------------------------------------------------------------------


class LinkCounts(NamedTuple):
    """Link counts for AER, precision, recall and F1; counts of several pairs add up."""

    links: int = 0
    sure: int = 0
    in_sure: int = 0
    in_possible: int = 0

    def __add__(self, other: LinkCounts) -> LinkCounts:  # pyright: ignore[reportIncompatibleMethodOverride]
        return LinkCounts(*map(sum, zip(self, other, strict=True)))

    def figures(self) -> dict[str, float]:
        """AER, precision, recall and F1, 0 to 1; 0 where a denominator is zero.

        Source: Och and Ney (Computational Linguistics 29(1), 2003), section 6.1.
        """
        precision, recall = _share(self.in_possible, self.links), _share(self.in_sure, self.sure)
        both = self.links + self.sure
        return {
            "AER": 1.0 - (self.in_sure + self.in_possible) / both if both else 0.0,
            "precision": precision,
            "recall": recall,
            "F1": _share(2.0 * precision * recall, precision + recall),
        }


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def count_links(links: Links, gold: GoldLinks) -> LinkCounts:
    found = (links, gold.sure, links & gold.sure, links & gold.possible)
    return LinkCounts(*(int(cells.sum()) for cells in found))


def total(counts: Iterable[LinkCounts]) -> LinkCounts:
    return sum(counts, LinkCounts())


def to_pharaoh(links: Links) -> str:
    """Links in Pharaoh format, ENGLISH-FOREIGN from 0, ordered by English word."""
    return " ".join(f"{t}-{s}" for t, s in zip(*np.nonzero(links.T), strict=True))

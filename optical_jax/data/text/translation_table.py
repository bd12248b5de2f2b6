"""Translation probabilities of words or word pieces, estimated from bitext by IBM Model 1."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import scipy.sparse
from jaxtyping import Int

MAX_CELLS = 40_000_000


def translation_table(
    english: Sequence[Int[np.ndarray, "_"]],
    foreign: Sequence[Int[np.ndarray, "_"]],
    *,
    english_size: int,
    foreign_size: int,
    english_special: Collection[int] = (),
    foreign_special: Collection[int] = (),
    iterations: int = 5,
    top: int = 8,
    max_cells: int = MAX_CELLS,
) -> scipy.sparse.csr_array:
    """Translation table p(English | foreign) by IBM Model 1 with an empty foreign word, trained by EM.

    Args:
      english: token ids of each pair's English side.
      foreign: token ids of its other side.
      english_size: size of the English vocabulary, V.
      foreign_size: size of the foreign vocabulary, W.
      english_special: ids to ignore ([CLS], [SEP], ...).
      foreign_special: ids that get no translation.
      iterations: of EM.
      top: number of most probable translations to keep; they are scaled to sum to one.
      max_cells: memory limit, in token pairs (about 70 bytes each). A larger bitext is subsampled evenly.

    Returns:
      p(English piece | foreign piece) [W, V]; rows of pieces that do not occur are empty.

    Source: Brown et al. (Computational Linguistics 19(2), 1993), model 1.
    """
    cells = sum(len(e) * (len(f) + 1) for e, f in zip(english, foreign, strict=True))
    stride = max(1, -(-cells // max_cells))
    e_ids, e_lengths = _flatten(english[::stride], english_special)
    f_ids, f_lengths = _flatten(foreign[::stride], foreign_special)
    # The empty word, id W, at the end of every foreign sentence, takes tokens without a counterpart.
    f_ids = np.insert(f_ids, np.cumsum(f_lengths), foreign_size)
    f_lengths = f_lengths + 1

    # One cell per English token and foreign token of a pair; the cells of one English token are contiguous.
    per_token = np.repeat(f_lengths, e_lengths)
    first_foreign = np.repeat(np.cumsum(f_lengths) - f_lengths, e_lengths)
    first_cell = np.cumsum(per_token) - per_token
    foreign_token = np.repeat(first_foreign - first_cell, per_token) + np.arange(per_token.sum())
    keys = f_ids[foreign_token] * english_size + np.repeat(e_ids, per_token)
    keys, entry = np.unique(keys, return_inverse=True)
    of, into = np.divmod(keys, english_size)

    probability = np.ones(len(keys))
    for _ in range(iterations if len(keys) else 0):
        share = probability[entry]
        share /= np.repeat(np.add.reduceat(share, first_cell), per_token)
        expected = np.bincount(entry, share, len(keys))
        probability = expected / np.bincount(of, expected, foreign_size + 1)[of]

    kept = of < foreign_size  # the empty word's are left out
    found = scipy.sparse.csr_array((probability[kept], (of[kept], into[kept])), shape=(foreign_size, english_size))
    return best_of_rows(found, top)


def mutual_translations(
    english: Sequence[Int[np.ndarray, "_"]],
    foreign: Sequence[Int[np.ndarray, "_"]],
    *,
    english_size: int,
    foreign_size: int,
    english_special: Collection[int] = (),
    foreign_special: Collection[int] = (),
    candidates: int = 20,
    top: int = 8,
    power: float = 1.0,
    max_cells: int = MAX_CELLS,
) -> scipy.sparse.csr_array:
    """Bidirectional translation table: weights are (p(English | foreign) p(foreign | English))^power.

    One direction alone translates rare pieces to any pieces that occur beside them. A piece whose candidates do not
    translate back to it keeps those of the one direction.

    Args:
      candidates: number of most probable translations per direction.
      power: 1/2 for the geometric mean; 1 is sharper.

    Source: Wang and Oard (SIGIR 2006), who take the geometric mean.
    """
    here = english, english_size, english_special
    abroad = foreign, foreign_size, foreign_special
    there, back = (
        translation_table(
            one,
            other,
            english_size=one_size,
            foreign_size=other_size,
            english_special=one_special,
            foreign_special=other_special,
            top=candidates,
            max_cells=max_cells,
        )
        for (one, one_size, one_special), (other, other_size, other_special) in ((here, abroad), (abroad, here))
    )
    mutual = scipy.sparse.csr_array(there.multiply(back.T)).power(power)
    one_way = np.diff(mutual.indptr) == 0
    return best_of_rows(mutual + scipy.sparse.diags_array(one_way.astype(float)) @ there, top)


def best_of_rows(weights: Any, top: int) -> scipy.sparse.csr_array:
    """Top `top` weights of each row of a sparse array, scaled to sum to one; ties go to the earlier column."""
    cells: Any = scipy.sparse.coo_array(weights)
    row, column, weight = cells.row, cells.col, cells.data
    height, width = cells.shape
    order = np.lexsort((column, -weight, row))
    row, column, weight = row[order], column[order], weight[order]
    rank = np.arange(len(row)) - np.searchsorted(row, row)
    kept = (rank < top) & (weight > 0.0)
    row, column, weight = row[kept], column[kept], weight[kept]
    share = weight / np.bincount(row, weight, height)[row]
    return scipy.sparse.csr_array((share, (row, column)), shape=(height, width))


def _flatten(texts: Sequence[np.ndarray], special: Collection[int]) -> tuple[np.ndarray, np.ndarray]:
    """Concatenated ids without special ones, and the length of each text."""
    ids = np.concatenate([np.zeros(0, np.int64), *texts]).astype(np.int64)
    text = np.repeat(np.arange(len(texts)), [len(t) for t in texts])
    real = ~np.isin(ids, list(special))
    return ids[real], np.bincount(text[real], minlength=len(texts))

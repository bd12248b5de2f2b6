"""Token embeddings for a vocabulary the encoder has never seen."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import scipy.sparse
from jaxtyping import Float, Int

MAX_CELLS = 40_000_000
SPECIAL = re.compile(r"\[[^\]]+\]|<[^>]+>")
"""[CLS], <s> and the like stand outside of words."""


def transfer_embeddings(
    embedding: Float[np.ndarray, "V D"], old_vocab: Mapping[str, int], new_vocab: Mapping[str, int], seed: int
) -> Float[np.ndarray, "W D"]:
    """Embeddings of a new vocabulary: copied for pieces that both have, drawn from the old ones' Gaussian otherwise.

    The Gaussian has the old rows' mean and full covariance. Rows of a trained encoder share one large direction and
    are strongly correlated; with the diagonal alone draws would leave the space the first layer was trained on.

    Args:
      embedding: the old table.
      old_vocab: piece -> row of the old table. Where it marks word starts in another way than the new one does
        (WordPiece's ##ing, SentencePiece's ▁the, byte-level Ġthe), pieces are compared by what they spell.
      new_vocab: piece -> row of the new one; rows without a piece are drawn too.
      seed: of the draw. A piece's row depends on the seed and its own spelling, not on the order of the vocabulary.
    """
    rows = embedding[sorted(set(old_vocab.values()))].astype(np.float64)
    mean = rows.mean(axis=0)
    # By eigenvalues, not Cholesky: a vocabulary smaller than the width has a singular covariance.
    values, vectors = np.linalg.eigh(np.cov(rows, rowvar=False).reshape(len(mean), -1))
    root = vectors * np.sqrt(np.maximum(values, 0.0))  # [D, D]
    pieces = {row: piece for piece, row in new_vocab.items()}
    noise = np.empty((max(pieces) + 1, len(mean)))
    for row in range(len(noise)):
        noise[row] = np.random.default_rng(_seed(seed, pieces.get(row, f"\0row {row}"))).standard_normal(len(mean))
    table = (mean + noise @ root.T).astype(np.float32)
    old_style, new_style = _style(old_vocab), _style(new_vocab)
    spelled = {_spelling(piece, old_style): row for piece, row in old_vocab.items()}
    for piece, row in new_vocab.items():
        old_row = spelled.get(_spelling(piece, new_style))
        if old_row is not None:
            table[row] = embedding[old_row]
    return table


def _style(vocab: Collection[str]) -> str:
    """How a vocabulary marks the start of a word (▁, Ġ) or, in WordPiece, its going on (##)."""
    for mark in ("▁", "Ġ"):
        if any(piece.startswith(mark) and len(piece) > 1 for piece in vocab):
            return mark
    return "##"


def _spelling(piece: str, style: str) -> tuple[str, str]:
    """Where in a word a piece stands, and its letters; the same for every style."""
    if SPECIAL.fullmatch(piece):
        return "special", piece
    marked = piece.startswith(style) and len(piece) > len(style)
    place = "within" if marked == (style == "##") else "start"
    return place, piece.removeprefix(style) if marked else piece


def spelled_pieces(vocab: Collection[str]) -> list[str]:
    """The pieces of any vocabulary as WordPiece spells them (##ing), in the order of the alphabet; no special ones."""
    style = _style(vocab)
    spelled = {_spelling(piece, style) for piece in vocab}
    marks = {"start": "", "within": "##"}
    return sorted(marks[place] + letters for place, letters in spelled if place in marks and letters)


def _seed(seed: int, piece: str) -> list[int]:
    return [seed, int.from_bytes(hashlib.sha256(piece.encode()).digest()[:8], "little")]


def lexicon_embeddings(
    rows: Float[np.ndarray, "W D"],
    embedding: Float[np.ndarray, "V D"],
    translations: scipy.sparse.csr_array,
) -> Float[np.ndarray, "W D"]:
    """`rows` with every translated piece's row replaced by the average of the old rows it translates to.

    Averages are shorter than what they average; each is scaled to the old rows' median length.

    Args:
      rows: the new table so far (`transfer_embeddings`), which pieces without a translation keep.
      embedding: the old table.
      translations: weights [W, V], rows of which sum to one or are empty, such as `mutual_translations` gives.
    """
    averaged = np.asarray(translations @ embedding.astype(np.float64))  # [W, D]
    norms = np.linalg.norm(averaged, axis=1)
    found = norms > 0
    scale = np.median(np.linalg.norm(embedding, axis=1)) / norms[found]
    table = rows.copy()
    table[found] = averaged[found] * scale[:, None]
    return table


def principal_components(vectors: Float[np.ndarray, "V D"], width: int) -> Float[np.ndarray, "V width"]:
    """The vectors in the `width` directions in which they differ most, about their mean; D at least `width`.

    Of all linear maps to that width this one changes their distances least (in the sum of squares).
    """
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    _, directions = np.linalg.eigh(centred.T @ centred)
    return (centred @ directions[:, ::-1][:, :width]).astype(np.float32)


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
    """What foreign pieces translate to, counted in bitext: IBM Model 1 with an empty foreign word, by EM.

    Args:
      english: token ids of each pair's English side.
      foreign: token ids of its other side.
      english_size: size of the English vocabulary, V.
      foreign_size: size of the foreign vocabulary, W.
      english_special: ids that translate nothing ([CLS], [SEP], ...).
      foreign_special: ids that are left without a translation.
      iterations: rounds of EM.
      top: most probable translations that are kept; they are scaled to sum to one.
      max_cells: memory limit, in token pairs (about 70 bytes each). Of more bitext, evenly spaced pairs are taken.

    Returns:
      p(English piece | foreign piece) [W, V]; the row of a piece that never occurs is empty.

    Source: Brown et al. (Computational Linguistics 19(2), 1993), model 1.
    """
    cells = sum(len(e) * (len(f) + 1) for e, f in zip(english, foreign, strict=True))
    stride = max(1, -(-cells // max_cells))
    e_ids, e_lengths = _flatten(english[::stride], english_special)
    f_ids, f_lengths = _flatten(foreign[::stride], foreign_special)
    # The empty word, id W, stands behind every foreign sentence and takes what has no counterpart.
    f_ids = np.insert(f_ids, np.cumsum(f_lengths), foreign_size)
    f_lengths = f_lengths + 1

    # One cell for every English token and foreign token of a pair; the cells of one English token are neighbours.
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
    """As `translation_table`, counted both ways: weights are (p(English | foreign) p(foreign | English))^power.

    One direction alone translates rare pieces to any others that stood beside them. A piece whose candidates do not
    translate back to it keeps those of the one direction.

    Args:
      candidates: most probable translations in one direction, of which the other chooses.
      power: 1/2 makes the geometric mean; 1 is sharper.

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
    """The largest `top` weights of each row of a sparse array, scaled to sum to one; of equal ones the earlier's."""
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
    """All ids in one row, special ones left out, and how many each text has."""
    ids = np.concatenate([np.zeros(0, np.int64), *texts]).astype(np.int64)
    text = np.repeat(np.arange(len(texts)), [len(t) for t in texts])
    real = ~np.isin(ids, list(special))
    return ids[real], np.bincount(text[real], minlength=len(texts))

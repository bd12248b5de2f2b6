"""Token embeddings for a new vocabulary: copied, translated or drawn."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np
import scipy.sparse
from jaxtyping import Float

from optical_jax.retrieval.blocks import Block
from optical_jax.retrieval.search import encode_blocks
from optical_jax.towers.tower import Tower, encode

SPECIAL = re.compile(r"\[[^\]]+\]|<[^>]+>")
"""[CLS], <s> and the like stand outside of words."""


def transfer_embeddings(
    embedding: Float[np.ndarray, "V D"], old_vocab: Mapping[str, int], new_vocab: Mapping[str, int], seed: int
) -> Float[np.ndarray, "W D"]:
    """Initialise embeddings of a new vocabulary: copied for shared pieces, else drawn from the old ones' Gaussian.

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
    """The subword style of a vocabulary: word start marked (▁, Ġ) or, in WordPiece, continuation (##)."""
    for mark in ("▁", "Ġ"):
        if any(piece.startswith(mark) and len(piece) > 1 for piece in vocab):
            return mark
    return "##"


def _spelling(piece: str, style: str) -> tuple[str, str]:
    """A piece's position in its word and its letters, independent of the subword style."""
    if SPECIAL.fullmatch(piece):
        return "special", piece
    marked = piece.startswith(style) and len(piece) > len(style)
    place = "within" if marked == (style == "##") else "start"
    return place, piece.removeprefix(style) if marked else piece


def spelled_pieces(vocab: Collection[str]) -> list[str]:
    """The pieces of any vocabulary in WordPiece spelling (##ing), sorted, without special tokens."""
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
    """Initialise translated pieces: their rows become the weighted mean of the old rows they translate to.

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
    """Project vectors onto their first `width` principal components (PCA); D must be at least `width`.

    Of all linear maps to that width this one changes their distances least (in the sum of squares).
    """
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    _, directions = np.linalg.eigh(centred.T @ centred)
    return (centred @ directions[:, ::-1][:, :width]).astype(np.float32)


PRINCIPAL_TEXTS = 256
"""Texts of each side whose token vectors the principal directions are taken from."""


def principal_directions(
    raw: Tower, queries: Sequence[str], passages: Sequence[str], width: int
) -> Float[np.ndarray, "D width"]:
    """The linear projection that best preserves dot products of the encoder's unit token vectors (PCA without mean).

    The leading eigenvectors of their second moments, not about a mean: scores are dot products, and the mean counts in
    them. Queries and passages weigh the same, however many tokens each has.
    """
    D = raw.cfg.encoder.width
    moments = np.zeros((D, D))
    for side, texts in (("query", queries), ("document", passages)):
        tower = replace(raw, side=side)
        own, count = np.zeros((D, D)), 0
        for block in encode_blocks(list(texts[:PRINCIPAL_TEXTS]), lambda batch, tower=tower: encode(tower, batch)):
            vectors = _real_vectors(block)
            own, count = own + vectors.T @ vectors, count + len(vectors)
        moments += own / max(count, 1)
    _, directions = np.linalg.eigh(moments)
    return np.ascontiguousarray(directions[:, ::-1][:, :width], np.float32)


def _real_vectors(block: Block) -> Float[np.ndarray, "n D"]:
    return np.asarray(block.vectors.vectors)[np.asarray(block.vectors.mask)].astype(np.float64)

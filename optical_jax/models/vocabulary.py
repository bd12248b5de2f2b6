"""Token embeddings for a vocabulary the encoder has never seen."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float


def transfer_embeddings(
    embedding: Float[np.ndarray, "V D"], old_vocab: Mapping[str, int], new_vocab: Mapping[str, int], seed: int
) -> Float[np.ndarray, "W D"]:
    """Embeddings of a new vocabulary: copied for pieces that both have, drawn from the old ones' Gaussian otherwise.

    The Gaussian has the old rows' mean and full covariance. Rows of a trained encoder share one large direction and
    are strongly correlated; with the diagonal alone draws would leave the space the first layer was trained on.

    Args:
      embedding: the old table.
      old_vocab: piece -> row of the old table.
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
    for piece, row in new_vocab.items():
        if piece in old_vocab:
            table[row] = embedding[old_vocab[piece]]
    return table


def _seed(seed: int, piece: str) -> list[int]:
    return [seed, int.from_bytes(hashlib.sha256(piece.encode()).digest()[:8], "little")]

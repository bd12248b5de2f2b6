"""Which word learns from which: the transport plan of a sentence pair, by words or by pieces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from optical_jax.config import OtConfig
from optical_jax.data.tokenization import tokenize
from optical_jax.errors import ConfigError
from optical_jax.evaluation.scoring import maxsim
from optical_jax.losses.ot_distillation import transport
from optical_jax.towers import Tower, encode
from optical_jax.types import TokenVectors


@dataclass(frozen=True)
class Alignment:
    """One pair's plan between its words (or pieces)."""

    foreign: list[str]
    english: list[str]
    plan: Float[np.ndarray, "S T"]
    """Mass moved from each foreign to each English word. The whole plan sums to one, special tokens included, which
    are left out here; so this sums to less."""
    cost: float
    """<P, C> of the whole plan: what the loss sees of this pair."""
    score: float
    """MaxSim of the foreign text with the English one, as search computes it."""

    def shares(self) -> Float[np.ndarray, "S T"]:
        """Where each foreign word's mass goes: rows sum to one (to zero for a word that has none)."""
        total = self.plan.sum(axis=1, keepdims=True)
        return np.divide(self.plan, total, out=np.zeros_like(self.plan), where=total > 0)


class Piece(NamedTuple):
    word: int
    """Which word of the text it belongs to; -1 for special tokens, markers and [MASK]s."""
    start: int
    end: int


def align_texts(
    student: Tower, teacher: Tower, pairs: Sequence[tuple[str, str]], cfg: OtConfig, *, by_pieces: bool = False
) -> list[Alignment]:
    """Plans of (foreign, English) pairs, as training computes them: both sides as queries.

    Args:
      student: a run's student.
      teacher: its teacher.
      pairs: none of the texts empty.
      cfg: cost, plan and masses; "idf" is drawn with equal masses, since it is counted in a bitext.
      by_pieces: a row a piece and special tokens too, instead of a row a word.

    Raises:
      ConfigError: towers that give a vector a text.
      DataError: an empty text.
    """
    if student.cfg.head.pooling != "none":
        raise ConfigError("this run's towers give one vector a text, so there is no plan between words to see")
    cfg = replace(cfg, masses="uniform")
    asked, answered = [foreign for foreign, _ in pairs], [english for _, english in pairs]
    ours = encode(student, asked)
    target = encode(replace(teacher, side="query"), answered)
    moved = jax.jit(transport, static_argnums=2)(ours, target, cfg)
    plans, costs = np.asarray(moved.plan), np.asarray((moved.plan * moved.cost).sum(axis=(1, 2)))
    documents = encode(replace(teacher, side="document"), answered)
    found = []
    for n, (foreign, english) in enumerate(pairs):
        rows, row_names = _groups(student, foreign, by_pieces)
        cols, col_names = _groups(replace(teacher, side="query"), english, by_pieces)
        plan = rows @ plans[n, : rows.shape[1], : cols.shape[1]] @ cols.T
        score = float(maxsim(_one(ours, n), _one(documents, n))[0, 0])
        found.append(Alignment(row_names, col_names, plan, float(costs[n]), score))
    return found


def _one(tokens: TokenVectors, n: int) -> TokenVectors:
    return TokenVectors(vectors=tokens.vectors[n : n + 1], mask=tokens.mask[n : n + 1])


def _groups(tower: Tower, text: str, by_pieces: bool) -> tuple[Float[np.ndarray, "W L"], list[str]]:
    """A matrix that sums tokens into words (1 where a token belongs to a word), and the words as the text has them."""
    ids = tokenize(tower.tokenizer, [text], tower.cfg.head, "query")[0].ids
    if by_pieces:
        return np.eye(len(ids), dtype=np.float32), tower.tokenizer.convert_ids_to_tokens(ids.tolist())
    pieces = read_pieces(tower, text)
    words = sorted({piece.word for piece in pieces if piece.word >= 0})
    matrix = np.zeros((len(words), len(ids)), np.float32)
    names = []
    for row, word in enumerate(words):
        own = [piece for piece in pieces if piece.word == word]
        names.append(text[min(p.start for p in own) : max(p.end for p in own)].strip())
        matrix[row, [i for i, piece in enumerate(pieces) if piece.word == word]] = 1.0
    return matrix, names


def read_pieces(tower: Tower, text: str) -> list[Piece]:
    """The word of every token of a query, in the order of its ids; [MASK]s behind the text are left out.

    Words are what stands between spaces: punctuation belongs to the word it is written on.
    """
    head = tower.cfg.head
    room = head.query_length - (head.query_marker_id is not None)
    encoding = tower.tokenizer([text], truncation=True, max_length=room).encodings[0]
    tower.tokenizer.backend_tokenizer.no_truncation()
    word_of, words = {}, -1
    for n, character in enumerate(text):
        if not character.isspace():
            words += n == 0 or text[n - 1].isspace()
            word_of[n] = words
    pieces = []
    for (start, end), special in zip(encoding.offsets, encoding.special_tokens_mask, strict=True):
        inside = [word_of[n] for n in range(start, end) if n in word_of]
        pieces.append(Piece(-1 if special or not inside else inside[0], start, end))
    return pieces if head.query_marker_id is None else [*pieces[:1], Piece(-1, 0, 0), *pieces[1:]]

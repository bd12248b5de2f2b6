"""Which word learns from which: the transport plans of sentence pairs, between their words or their pieces."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from optical_jax.config import DataConfig, LossConfig
from optical_jax.data.tokenization import tokenize
from optical_jax.errors import ConfigError, DataError
from optical_jax.evaluation.scoring import maxsim
from optical_jax.losses.ot_distillation import transport
from optical_jax.towers import Tower, encode
from optical_jax.types import TokenVectors


@dataclass(frozen=True)
class AlignedPlan:
    """The plan of one pair, between what is shown of it: its words, or its pieces and special tokens."""

    foreign: tuple[str, ...]
    english: tuple[str, ...]
    plan: Float[np.ndarray, "S T"]
    """Mass moved from each foreign to each English word. The whole plan sums to one; special tokens take part in it and
    are left out here, so this sums to less."""
    left_out: float
    """Share of the foreign words' mass that goes to what is left out, 0 to 1."""
    cost: float
    """<P, C> of the whole plan: what the loss sees of this pair."""
    score: float
    """MaxSim of the foreign text with the English one as a document, as search computes it."""
    cut: bool
    """True where a text was longer than the tower reads."""

    def shares(self) -> Float[np.ndarray, "S T"]:
        """Where the shown part of each foreign word's mass goes: rows sum to one, or to zero without any."""
        total = self.plan.sum(axis=1, keepdims=True)
        return np.divide(self.plan, total, out=np.zeros_like(self.plan), where=total > 0.0)


class IdfTables(NamedTuple):
    """Inverse document frequency by token id, counted in a bitext."""

    student: Float[np.ndarray, "V"]
    teacher: Float[np.ndarray, "V"]


def align_texts(
    student: Tower,
    teacher: Tower,
    pairs: Sequence[tuple[str, str]],
    cfg: LossConfig,
    *,
    by_pieces: bool = False,
    idf: IdfTables | None = None,
) -> list[AlignedPlan]:
    """The plans of (foreign, English) pairs, as training computes them: both sides are encoded as queries.

    Args:
      student: a run's student.
      teacher: its teacher, of either side.
      pairs: none of the texts empty.
      cfg: `cfg.ot` chooses cost, masses and plan, whatever loss it is that the run learned by.
      by_pieces: show every token that has a vector, instead of words.
      idf: weights for masses "idf", from `count_idf`; without them masses are uniform.

    Raises:
      ConfigError: towers that give one vector a text, or of different widths.
      DataError: a text is empty, or nothing of it is a word.
    """
    if any(tower.cfg.head.pooling != "none" for tower in (student, teacher)):
        raise ConfigError("pooled towers give one vector a text, and between two vectors there is no plan to see")
    if student.cfg.vector_width != teacher.cfg.vector_width:
        raise ConfigError(
            f"student vectors of width {student.cfg.vector_width} and teacher vectors of width "
            f"{teacher.cfg.vector_width} cannot be compared; take both from one run"
        )
    if not pairs:
        return []
    asking, answering = replace(teacher, side="query"), replace(teacher, side="document")
    foreign, english = [one for one, _ in pairs], [other for _, other in pairs]
    ot = cfg.ot if idf is not None else replace(cfg.ot, masses="uniform")
    ours, target, documents = encode(student, foreign), encode(asking, english), encode(answering, english)
    if idf is not None:
        ours, target = weigh(ours, student, foreign, idf.student), weigh(target, asking, english, idf.teacher)
    moved = jax.jit(transport, static_argnums=2)(ours, target, ot)
    plans, costs = np.asarray(moved.plan), np.asarray((moved.plan * moved.cost).sum(axis=(1, 2)))

    found = []
    for n in range(len(pairs)):
        rows, cols = read_words(student, foreign[n], by_pieces), read_words(asking, english[n], by_pieces)
        rows, cols = rows.with_vectors(np.asarray(ours.mask[n])), cols.with_vectors(np.asarray(target.mask[n]))
        for side, text in ((rows, foreign[n]), (cols, english[n])):
            if not side.names:
                raise DataError(f"nothing of {text!r} is a word to this tokenizer; give another text")
        from_words = rows.sums @ plans[n, : rows.sums.shape[1], : cols.sums.shape[1]]  # [W, T]
        plan = from_words @ cols.sums.T
        found.append(
            AlignedPlan(
                foreign=rows.names,
                english=cols.names,
                plan=plan,
                left_out=max(0.0, 1.0 - float(plan.sum() / from_words.sum())),
                cost=float(costs[n]),
                score=float(maxsim(one_text(ours, n), one_text(documents, n))[0, 0]),
                cut=rows.cut or cols.cut,
            )
        )
    return found


def one_text(tokens: TokenVectors, n: int) -> TokenVectors:
    return TokenVectors(vectors=tokens.vectors[n : n + 1], mask=tokens.mask[n : n + 1])


# ---- words -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Words:
    """What is shown of a text, and which of its tokens each word sums over."""

    names: tuple[str, ...]
    sums: Float[np.ndarray, "W L"]
    """1 where a token belongs to a word."""
    cut: bool = False

    def with_vectors(self, mask: np.ndarray) -> Words:
        """Those that have a token with a vector: a tower may leave out punctuation or special tokens."""
        kept = [row for row, own in enumerate(self.sums) if (own[: len(mask)] * mask[: len(own)]).any()]
        return replace(self, names=tuple(self.names[row] for row in kept), sums=self.sums[kept])


def read_words(tower: Tower, text: str, by_pieces: bool) -> Words:
    """The words of a query as it is written, or its tokens by their names.

    Words are the tokenizer's; signs belong to the word they are written on ("d’été", "dog.").
    """
    head, tokenizer = tower.cfg.head, tower.tokenizer
    (tokens,) = tokenize(tokenizer, [text], head, tower.side)
    if by_pieces:
        names = tokenizer.convert_ids_to_tokens(tokens.ids.tolist())
        return Words(tuple(names), np.eye(len(names), dtype=np.float32), tokens.truncated)
    marker = head.query_marker_id is not None
    (encoding,) = tokenizer([text], truncation=True, max_length=head.query_length - marker).encodings
    # Left on, the limit would be written into every copy of the tokenizer that is saved.
    tokenizer.backend_tokenizer.no_truncation()

    # Token i of the encoding is token i + 1 of the query behind the marker, which follows the first.
    spans: dict[int, tuple[int, int]] = {}
    members: dict[int, list[int]] = {}
    for i, (word, (start, end)) in enumerate(zip(encoding.word_ids, encoding.offsets, strict=True)):
        if word is not None and text[start:end].strip():
            first, last = spans.get(word, (start, end))
            spans[word] = (min(first, start), max(last, end))
            members.setdefault(word, []).append(i + (marker and i > 0))
    groups = join_signs(text, spans)
    sums = np.zeros((len(groups), len(tokens.ids)), np.float32)
    for row, group in enumerate(groups):
        sums[row, [i for word in group for i in members[word]]] = 1.0
    names = (text[min(spans[word][0] for word in group) : max(spans[word][1] for word in group)] for group in groups)
    return Words(tuple(name.strip() for name in names), sums, tokens.truncated)


def join_signs(text: str, spans: dict[int, tuple[int, int]]) -> list[list[int]]:
    """Words in order, each together with the signs that stand at it without a space, and what these tie to it."""
    groups: list[list[int]] = []
    for word, (start, end) in sorted(spans.items(), key=lambda item: item[1]):
        if groups:
            before, until = spans[groups[-1][-1]]
            if start == until and (is_sign(text[start:end]) or is_sign(text[before:until])):
                groups[-1].append(word)
                continue
        groups.append([word])
    return groups


def is_sign(word: str) -> bool:
    """True for punctuation and symbols alone."""
    return all(unicodedata.category(character)[0] in "PSZC" for character in word)


# ---- masses ------------------------------------------------------------------------------------------------------


def count_idf(student: Tower, teacher: Tower, data: DataConfig, lengths: tuple[int, int]) -> IdfTables:
    """The weights that training with masses "idf" counts in its bitext.

    Args:
      lengths: tokens at which training cuts the student's and the teacher's texts.

    Raises:
      ConfigError, DataError: the bitext cannot be read (any more).
    """
    from optical_jax.data.bitext import load_bitext
    from optical_jax.data.pairs import TokenSide, idf_table, join_pairs, tokenize_pairs

    ours, theirs = (
        TokenSide(tower.tokenizer, tower.cfg.head, length)
        for tower, length in zip((student, teacher), lengths, strict=True)
    )
    pairs = join_pairs([tokenize_pairs(one, ours, theirs) for one in load_bitext(data).train.values()])
    sizes = student.cfg.encoder.vocab_size, teacher.cfg.encoder.vocab_size
    return IdfTables(idf_table(pairs.student, sizes[0]), idf_table(pairs.teacher, sizes[1]))


def weigh(tokens: TokenVectors, tower: Tower, texts: Sequence[str], table: np.ndarray) -> TokenVectors:
    """`tokens`, each with its weight in the table."""
    weight = np.zeros(tokens.mask.shape, np.float32)
    for row, text in enumerate(tokenize(tower.tokenizer, texts, tower.cfg.head, tower.side)):
        weight[row, : len(text.ids)] = table[text.ids]
    return tokens.replace(weight=weight)  # pyright: ignore[reportAttributeAccessIssue]

"""Which word learns from which: the transport plans of sentence pairs, between their words or their pieces."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float

from optical_jax.config import DataConfig, LossConfig, OtConfig
from optical_jax.data.text.words import Span
from optical_jax.data.tokenization import tokenize
from optical_jax.errors import ConfigError, DataError
from optical_jax.losses.ot_distillation import transport
from optical_jax.models.late_interaction import mass_logits
from optical_jax.retrieval.scoring import maxsim
from optical_jax.towers.tower import Tower, encode
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
    """MaxSim of one text as a query with the other as a document, as search computes it; the student's side asks or
    answers as it learned to."""
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
    """The plans of (foreign, English) pairs, as training computes them: both texts are encoded as the student's side.

    Args:
      student: a run's student.
      teacher: its teacher, of either side.
      pairs: none of the texts empty.
      cfg: `cfg.ot` chooses cost, masses and plan, whatever loss it is that the run learned by.
      by_pieces: show every token that has a vector, instead of words.
      idf: weights for masses "idf", from `count_idf`; without them masses are uniform, unless the student learned its
        own.

    Raises:
      ConfigError: towers that give one vector a text, or of different widths.
      DataError: a text is empty, or nothing of it is a word.
    """
    if not pairs:
        return []
    teacher = replace(teacher, side=student.side)
    foreign, english = [one for one, _ in pairs], [other for _, other in pairs]
    ours, target, plans, costs = plan_tokens(student, teacher, pairs, cfg.ot, idf=idf)
    asks = student.side == "query"
    theirs = encode(replace(teacher, side="document" if asks else "query"), english)

    found = []
    for n in range(len(pairs)):
        rows, cols = read_words(student, foreign[n], by_pieces), read_words(teacher, english[n], by_pieces)
        rows, cols = rows.with_vectors(np.asarray(ours.mask[n])), cols.with_vectors(np.asarray(target.mask[n]))
        for side, text in ((rows, foreign[n]), (cols, english[n])):
            if not side.names:
                raise DataError(f"nothing of {text!r} is a word to this tokenizer; give another text")
        from_words = rows.sums @ plans[n, : rows.sums.shape[1], : cols.sums.shape[1]]  # [W, T]
        plan = from_words @ cols.sums.T
        queries, documents = (ours, theirs) if asks else (theirs, ours)
        found.append(
            AlignedPlan(
                foreign=rows.names,
                english=cols.names,
                plan=plan,
                left_out=max(0.0, 1.0 - float(plan.sum() / from_words.sum())),
                cost=float(costs[n]),
                score=float(maxsim(one_text(queries, n), one_text(documents, n))[0, 0]),
                cut=rows.cut or cols.cut,
            )
        )
    return found


class TokenPlans(NamedTuple):
    """The plans of N pairs between their tokens, and what they were made from."""

    student: TokenVectors
    teacher: TokenVectors
    plans: Float[np.ndarray, "N S T"]
    costs: Float[np.ndarray, "N"]
    """<P, C> of each pair."""


def plan_tokens(
    student: Tower,
    teacher: Tower,
    pairs: Sequence[tuple[str, str]],
    cfg: OtConfig,
    *,
    idf: IdfTables | None = None,
) -> TokenPlans:
    """The plans of at least one (foreign, English) pair; takes and raises what `align_texts` does."""
    if any(tower.cfg.head.pooling != "none" for tower in (student, teacher)):
        raise ConfigError("pooled towers give one vector a text, and between two vectors there is no plan to see")
    if student.cfg.vector_width != teacher.cfg.vector_width:
        raise ConfigError(
            f"student vectors of width {student.cfg.vector_width} and teacher vectors of width "
            f"{teacher.cfg.vector_width} cannot be compared; take both from one run"
        )
    teacher = replace(teacher, side=student.side)
    foreign, english = [one for one, _ in pairs], [other for _, other in pairs]
    ot = known_masses(cfg, student, idf)
    ours, target = encode(student, foreign), encode(teacher, english)
    if idf is not None:
        ours, target = weigh(ours, student, foreign, idf.student), weigh(target, teacher, english, idf.teacher)
    if ot.masses == "learned":
        logits = mass_logits(student.params, jax.numpy.asarray(ours.vectors))
        ours = ours.replace(weight=logits)  # pyright: ignore[reportAttributeAccessIssue]
    moved = jax.jit(transport, static_argnums=2)(ours, target, ot)
    return TokenPlans(ours, target, np.asarray(moved.plan), np.asarray((moved.plan * moved.cost).sum(axis=(1, 2))))


def known_masses(cfg: OtConfig, student: Tower, idf: IdfTables | None) -> OtConfig:
    """Equal masses where those that are asked for cannot be told here."""
    known = idf is not None or (cfg.masses == "learned" and student.cfg.head.masses == "learned")
    return cfg if known else replace(cfg, masses="uniform")


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
    """The words of a text as it is written, or its tokens by their names.

    Words are the tokenizer's; signs belong to the word they are written on ("d’été", "dog.").
    """
    head, tokenizer = tower.cfg.head, tower.tokenizer
    (tokens,) = tokenize(tokenizer, [text], head, tower.side)
    if by_pieces:
        names = tokenizer.convert_ids_to_tokens(tokens.ids.tolist())
        return Words(tuple(names), np.eye(len(names), dtype=np.float32), tokens.truncated)
    spans: dict[int, Span] = {}
    members: dict[int, list[int]] = {}
    for i, word, (start, end) in placed_tokens(tower, text):
        first, last = spans.get(word, (start, end))
        spans[word] = (min(first, start), max(last, end))
        members.setdefault(word, []).append(i)
    groups = join_signs(text, spans)
    sums = np.zeros((len(groups), len(tokens.ids)), np.float32)
    for row, group in enumerate(groups):
        sums[row, [i for word in group for i in members[word]]] = 1.0
    names = (text[min(spans[word][0] for word in group) : max(spans[word][1] for word in group)] for group in groups)
    return Words(tuple(name.strip() for name in names), sums, tokens.truncated)


def placed_tokens(tower: Tower, text: str) -> Iterator[tuple[int, int, Span]]:
    """(token of the text, the tokenizer's word, characters) of every token that stands for some of it."""
    head, tokenizer = tower.cfg.head, tower.tokenizer
    marker_id, length = {
        "query": (head.query_marker_id, head.query_length),
        "document": (head.document_marker_id, head.document_length),
    }[tower.side]
    marker = marker_id is not None
    (encoding,) = tokenizer([text], truncation=True, max_length=length - marker).encodings
    # Left on, the limit would be written into every copy of the tokenizer that is saved.
    tokenizer.backend_tokenizer.no_truncation()
    # Token i of the encoding is token i + 1 of the text behind the marker, which follows the first.
    for i, (word, (start, end)) in enumerate(zip(encoding.word_ids, encoding.offsets, strict=True)):
        if word is not None and text[start:end].strip():
            yield i + (marker and i > 0), word, (start, end)


def sum_tokens(tower: Tower, text: str, words: Sequence[Span], mask: Bool[np.ndarray, "L"]) -> Float[np.ndarray, "W L"]:
    """1 where a token with a vector belongs to a word, given by its characters; a word beyond the cut has none.

    Args:
      words: in order, apart from each other.
      mask: True on the tokens of the text's query that have a vector.
    """
    sums = np.zeros((len(words), len(mask)), np.float32)
    for i, _, (start, end) in placed_tokens(tower, text):
        # A token of SentencePiece may begin with the space before its word.
        shared = [min(end, last) - max(start, first) for first, last in words]
        if mask[i] and max(shared, default=0) > 0:
            sums[int(np.argmax(shared)), i] = 1.0
    return sums


def join_signs(text: str, spans: dict[int, Span]) -> list[list[int]]:
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
    """The weights that training with masses "idf" counts in its bitext, on the student's side as it is loaded.

    Training of both sides, or with switched words, takes the lowest of its versions; these are of the texts alone.

    Args:
      lengths: tokens at which training cuts the student's and the teacher's texts.

    Raises:
      ConfigError, DataError: the bitext cannot be read (any more).
    """
    from optical_jax.data.batches.tokens import TokenSide, idf_table, join_pairs, tokenize_pairs
    from optical_jax.data.text.bitext import load_bitext

    ours, theirs = (
        TokenSide(tower.tokenizer, tower.cfg.head, length, student.side)
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

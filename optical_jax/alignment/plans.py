"""Word alignment by optimal transport: plans of sentence pairs between words or tokens."""

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
    """Transport plan of one pair, between its words or its tokens."""

    foreign: tuple[str, ...]
    english: tuple[str, ...]
    plan: Float[np.ndarray, "S T"]
    """Mass moved from each foreign to each English word. The whole plan sums to one; special tokens take part in it but
    are left out here, so this sums to less."""
    left_out: float
    """Share of the foreign words' mass that goes to tokens left out here, 0 to 1."""
    cost: float
    """<P, C> of the whole plan, the transport loss of this pair."""
    score: float
    """MaxSim of one text as query with the other as document, as in search; the foreign text is on the side that the
    student was trained for."""
    cut: bool
    """True if a text was truncated to the tower's maximum length."""

    def shares(self) -> Float[np.ndarray, "S T"]:
        """The plan with rows normalised to one (zero rows stay zero)."""
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
    """Align (foreign, English) pairs by transport plans, as in training: both texts are encoded as the student's side.

    Args:
      student: a run's student.
      teacher: its teacher, of either side.
      pairs: no text may be empty.
      cfg: `cfg.ot` chooses cost, masses and plan, whatever the run's loss.
      by_pieces: by tokens that have a vector, instead of words.
      idf: weights for masses "idf", from `count_idf`; without them masses are uniform, unless the student has learned
        masses.

    Raises:
      ConfigError: towers that are pooled, or of different widths.
      DataError: a text is empty or has no words.
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
                raise DataError(f"text={text!r} has no words for this tokenizer; use another text")
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
    """Token-level plans of N pairs, with the token vectors of both sides."""

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
    """Token-level plans of at least one (foreign, English) pair; arguments and errors as of `align_texts`."""
    if any(tower.cfg.head.pooling != "none" for tower in (student, teacher)):
        raise ConfigError("pooled towers give one vector per text, without a plan; use late-interaction towers")
    if student.cfg.vector_width != teacher.cfg.vector_width:
        raise ConfigError(
            f"student vectors of width {student.cfg.vector_width} and teacher vectors of width "
            f"{teacher.cfg.vector_width} cannot be compared; use both towers of one run"
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
    """`cfg` with uniform masses if the configured ones are not available here (idf tables, learned masses)."""
    known = idf is not None or (cfg.masses == "learned" and student.cfg.head.masses == "learned")
    return cfg if known else replace(cfg, masses="uniform")


def one_text(tokens: TokenVectors, n: int) -> TokenVectors:
    return TokenVectors(vectors=tokens.vectors[n : n + 1], mask=tokens.mask[n : n + 1])


# ---- words -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Words:
    """Words (or tokens) of a text, and the tokens that each word sums over."""

    names: tuple[str, ...]
    sums: Float[np.ndarray, "W L"]
    """1 where a token belongs to a word."""
    cut: bool = False

    def with_vectors(self, mask: np.ndarray) -> Words:
        """Only words with a token that has a vector; a tower may drop punctuation or special tokens."""
        kept = [row for row, own in enumerate(self.sums) if (own[: len(mask)] * mask[: len(own)]).any()]
        return replace(self, names=tuple(self.names[row] for row in kept), sums=self.sums[kept])


def read_words(tower: Tower, text: str, by_pieces: bool) -> Words:
    """Words of a text as written, or its tokens.

    Words are the tokenizer's; punctuation belongs to the word it is attached to ("d’été", "dog.").
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
    """(token index, the tokenizer's word index, character span) of every token that covers non-space characters."""
    head, tokenizer = tower.cfg.head, tower.tokenizer
    marker_id, length = {
        "query": (head.query_marker_id, head.query_length),
        "document": (head.document_marker_id, head.document_length),
    }[tower.side]
    marker = marker_id is not None
    (encoding,) = tokenizer([text], truncation=True, max_length=length - marker).encodings
    # Otherwise the truncation would be saved with every copy of the tokenizer.
    tokenizer.backend_tokenizer.no_truncation()
    # Tokens after the first are shifted by one by the marker that follows it.
    for i, (word, (start, end)) in enumerate(zip(encoding.word_ids, encoding.offsets, strict=True)):
        if word is not None and text[start:end].strip():
            yield i + (marker and i > 0), word, (start, end)


def sum_tokens(tower: Tower, text: str, words: Sequence[Span], mask: Bool[np.ndarray, "L"]) -> Float[np.ndarray, "W L"]:
    """Matrix of 1 where a token with a vector belongs to a word, given by its span; zero rows for truncated words.

    Args:
      words: spans in order, not overlapping.
      mask: True on the tokens of the text's query that have a vector.
    """
    sums = np.zeros((len(words), len(mask)), np.float32)
    for i, _, (start, end) in placed_tokens(tower, text):
        # A SentencePiece token may begin with the space before its word.
        shared = [min(end, last) - max(start, first) for first, last in words]
        if mask[i] and max(shared, default=0) > 0:
            sums[int(np.argmax(shared)), i] = 1.0
    return sums


def join_signs(text: str, spans: dict[int, Span]) -> list[list[int]]:
    """Group words with adjacent punctuation, and with words that it joins without a space."""
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
    """Inverse document frequencies of a bitext, as training with masses "idf" computes them for the student's side.

    Training with sides=both or code switching takes the lowest value over its versions; these are of the plain texts.

    Args:
      lengths: tokens to which training truncates the student's and the teacher's texts.

    Raises:
      ConfigError, DataError: the bitext cannot be read.
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
    """`tokens` with the weights of the table."""
    weight = np.zeros(tokens.mask.shape, np.float32)
    for row, text in enumerate(tokenize(tower.tokenizer, texts, tower.cfg.head, tower.side)):
        weight[row, : len(text.ids)] = table[text.ids]
    return tokens.replace(weight=weight)  # pyright: ignore[reportAttributeAccessIssue]

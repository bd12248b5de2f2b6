"""Tokenised bitext in flat arrays with offsets (a few hundred megabytes per million pairs), and idf weights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
from jaxtyping import Bool, Float, Int
from transformers import PreTrainedTokenizerFast

from optical_jax.config import HeadConfig
from optical_jax.data.coverage import TokenCounts
from optical_jax.data.text.bitext import Bitext
from optical_jax.data.text.report import SideLengths
from optical_jax.data.tokenization import Side, Tokens, tokenize
from optical_jax.types import TextInputs

IDF_FLOOR = 0.01
"""Added to every weight, so that tokens that occur in all texts still have mass."""
TOKENIZE_AT_ONCE = 10_000
IDF_TOKENS_AT_ONCE = 2**22


@dataclass(frozen=True)
class TokenSide:
    """Tokenisation settings of one side of the bitext."""

    tokenizer: PreTrainedTokenizerFast
    head: HeadConfig
    max_length: int | None
    """Tokens that a text is truncated to; None for the head's own length."""
    side: Side = "query"


@dataclass(frozen=True)
class FlatTokens:
    """Concatenated tokens of N texts; text n is [offsets[n], offsets[n + 1])."""

    ids: Int[np.ndarray, "tokens"]
    offsets: Int[np.ndarray, "N+1"]
    attend: Bool[np.ndarray, "tokens"] | None
    """None if every token may be attended to."""
    keep: Bool[np.ndarray, "tokens"] | None
    """None if every token gives a vector."""
    pad_id: int
    counts: TokenCounts = field(default_factory=TokenCounts)
    """Unknown tokens and truncated texts, if known."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def truncated(self) -> int:
        return self.counts.truncated

    @property
    def lengths(self) -> Int[np.ndarray, "N"]:
        return np.diff(self.offsets)

    def rows(
        self, texts: Int[np.ndarray, "B"], length: int, weights: Float[np.ndarray, "V"] | None = None
    ) -> TextInputs:
        """The given texts, right-padded to `length`, with token weights from a table by id if given."""
        starts, lengths = self.offsets[texts], self.offsets[texts + 1] - self.offsets[texts]
        if lengths.max() > length:
            raise ValueError(f"a text of {lengths.max()} tokens does not fit length={length}")
        columns = np.arange(length)
        real = columns < lengths[:, None]  # [B, L]
        at = np.where(real, starts[:, None] + columns, 0)
        ids = np.where(real, self.ids[at], np.int32(self.pad_id))
        attend = real if self.attend is None else real & self.attend[at]
        keep = real if self.keep is None else real & self.keep[at]
        weight = None if weights is None else np.where(real, weights[ids], np.float32(0))
        return TextInputs(ids=ids, attend=attend, keep=keep, weight=weight)  # pyright: ignore[reportArgumentType]


@dataclass(frozen=True)
class TokenizedPairs:
    """Tokenised pairs of one language (or several, joined), both sides in the same order."""

    student: FlatTokens
    teacher: FlatTokens

    def __len__(self) -> int:
        return len(self.student)


def flatten_tokens(chunks: Iterable[Sequence[Tokens]], pad_id: int) -> FlatTokens:
    """Concatenate tokenised texts; a mask that is all True is None."""
    ids, lengths, attend, keep = [], [], [], []
    counts = TokenCounts()
    for chunk in chunks:
        ids.append(np.concatenate([text.ids for text in chunk]))
        lengths += [len(text.ids) for text in chunk]
        attend.append(np.concatenate([text.attend for text in chunk]))
        keep.append(np.concatenate([text.keep for text in chunk]))
        counts += TokenCounts.of(chunk)
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    all_attend, all_keep = all(a.all() for a in attend), all(k.all() for k in keep)
    return FlatTokens(
        ids=np.concatenate(ids),
        offsets=offsets,
        attend=None if all_attend else np.concatenate(attend),
        keep=None if all_keep else np.concatenate(keep),
        pad_id=pad_id,
        counts=counts,
    )


def tokenize_pairs(bitext: Bitext, student: TokenSide, teacher: TokenSide) -> TokenizedPairs:
    """Tokenise foreign texts for the student and English texts for the teacher; adds lengths to the bitext's report."""
    sides = {}
    for name, texts, how in (("student", bitext.foreign, student), ("teacher", bitext.english, teacher)):
        flat = sides[name] = tokenize_texts(texts, how)
        bitext.report.lengths[name] = SideLengths.of(flat.lengths, flat.truncated, flat.counts.unknown_share)
    return TokenizedPairs(**sides)


def tokenize_texts(texts: Sequence[str], how: TokenSide) -> FlatTokens:
    chunks = (
        tokenize(how.tokenizer, texts[i : i + TOKENIZE_AT_ONCE], how.head, how.side, how.max_length)
        for i in range(0, len(texts), TOKENIZE_AT_ONCE)
    )
    return flatten_tokens(chunks, cast(int, how.tokenizer.pad_token_id))


def take_texts(tokens: FlatTokens, which: Int[np.ndarray, "n"]) -> FlatTokens:
    """Select texts, in the given order."""
    lengths = tokens.lengths[which]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    at = np.repeat(tokens.offsets[which] - offsets[:-1], lengths) + np.arange(offsets[-1])
    attend, keep = (None if mask is None else mask[at] for mask in (tokens.attend, tokens.keep))
    return FlatTokens(tokens.ids[at], offsets, attend, keep, tokens.pad_id)


def join_pairs(pairs: Sequence[TokenizedPairs]) -> TokenizedPairs:
    """Concatenate pairs, in the order given."""
    return TokenizedPairs(join_tokens([p.student for p in pairs]), join_tokens([p.teacher for p in pairs]))


def join_tokens(parts: Sequence[FlatTokens]) -> FlatTokens:
    if len(parts) == 1:
        return parts[0]

    def masks(name: str) -> Bool[np.ndarray, "tokens"] | None:
        given = [getattr(part, name) for part in parts]
        if all(mask is None for mask in given):
            return None
        full = [np.ones(len(p.ids), bool) if m is None else m for p, m in zip(parts, given, strict=True)]
        return np.concatenate(full)

    return FlatTokens(
        ids=np.concatenate([part.ids for part in parts]),
        offsets=np.concatenate([[0], np.cumsum(np.concatenate([part.lengths for part in parts]))]),
        attend=masks("attend"),
        keep=masks("keep"),
        pad_id=parts[0].pad_id,
        counts=sum((part.counts for part in parts), TokenCounts()),
    )


def idf_table(tokens: FlatTokens, vocab_size: int = 0) -> Float[np.ndarray, "V"]:
    """Inverse document frequency by token id, of all ids in these texts and below `vocab_size`."""
    return idf_weights(tokens.ids, tokens.offsets, max(int(tokens.ids.max()) + 1, tokens.pad_id + 1, vocab_size))


def idf_weights(
    ids: Int[np.ndarray, "tokens"], offsets: Int[np.ndarray, "N+1"], vocab_size: int
) -> Float[np.ndarray, "V"]:
    """log((N + 1) / (df + 1)) + IDF_FLOOR for every id, df being the number of the N texts that contain it."""
    texts = len(offsets) - 1
    counts = np.zeros(vocab_size, np.int64)
    step = max(1, IDF_TOKENS_AT_ONCE * texts // len(ids))
    for first in range(0, texts, step):
        bounds = offsets[first : first + step + 1]
        rows = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
        once = np.unique(rows * vocab_size + ids[bounds[0] : bounds[-1]])
        counts += np.bincount(once % vocab_size, minlength=vocab_size)
    return (np.log((texts + 1) / (counts + 1)) + IDF_FLOOR).astype(np.float32)

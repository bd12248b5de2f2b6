"""Vocabulary coverage of tokenised texts: share of unknown tokens ([UNK]), truncated texts, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from optical_jax.config.vocabulary import WARN_UNKNOWN
from optical_jax.errors import DataError

if TYPE_CHECKING:
    from optical_jax.data.tokenization import Tokens

EXAMPLES = 3
"""Unknown words that a message names, each cut to EXAMPLE_CHARS."""
EXAMPLE_CHARS = 24


@dataclass(frozen=True)
class TokenCounts:
    """Counts over tokenised texts; those of several parts add up."""

    texts: int = 0
    tokens: int = 0
    """The texts' own, without special tokens and markers."""
    unknown: int = 0
    """Tokens that the vocabulary lacks, digits and punctuation aside."""
    unread: int = 0
    """Texts without any known token, so that their vectors are alike."""
    truncated: int = 0

    @classmethod
    def of(cls, tokens: Sequence[Tokens]) -> TokenCounts:
        return cls(
            len(tokens),
            sum(text.own for text in tokens),
            sum(text.unknown for text in tokens),
            sum(not text.known for text in tokens),
            sum(text.truncated for text in tokens),
        )

    def __add__(self, other: TokenCounts) -> TokenCounts:
        return TokenCounts(
            self.texts + other.texts,
            self.tokens + other.tokens,
            self.unknown + other.unknown,
            self.unread + other.unread,
            self.truncated + other.truncated,
        )

    @property
    def unknown_share(self) -> float:
        """Share of unknown tokens, 0 to 1."""
        return self.unknown / max(self.tokens, 1)

    @property
    def least_unknown_share(self) -> float:
        """Lower bound (95 %, one-sided) of the share in such texts; a few signs in a few texts do not make it large.

        Source: Wilson (Journal of the American Statistical Association 22, 1927).
        """
        n, p, z = max(self.tokens, 1), self.unknown_share, NormalDist().inv_cdf(0.95)
        spread = z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
        return (p + z**2 / (2 * n) - spread) / (1 + z**2 / n)

    def truncation(self, what: str, length: int) -> list[str]:
        """A line that says how many texts were truncated; none if no text was."""
        if not self.truncated:
            return []
        are = "is" if self.truncated == 1 else "are"
        count = f"{self.truncated:,} of {self.texts:,} {what}"
        return [f"{count} {are} longer than {length} tokens; only the beginning is encoded"]


def check_coverage(
    counts: TokenCounts,
    what: str,
    texts: Iterable[str],
    tokenizer: Any,
    *,
    at_most: float | None,
    flag: str,
    remedy: str,
    say: Callable[[str], None],
) -> None:
    """Warn of texts with many tokens that a tokenizer does not know, and refuse those with too many.

    Args:
      counts: of the texts.
      what: the texts in words, such as "sw queries".
      texts: examples of unknown words come from these.
      tokenizer: a fast tokenizer of transformers.
      at_most: largest share of unknown tokens; None to warn only. Refused is what is above it beyond chance.
      flag: the setting with this share, for the message.
      remedy: what to do, for the message.
      say: receives the warnings.

    Raises:
      DataError: the share is above `at_most`; share, examples and remedy.
    """
    share = counts.unknown_share
    if share > WARN_UNKNOWN:
        examples = ", ".join(map(repr, unknown_words(tokenizer, texts)))
        line = f"{what}: {share:.1%} of the tokens are unknown to the tokenizer ([UNK]), such as {examples}"
        if at_most is not None and at_most < 1 and counts.least_unknown_share > at_most:
            raise DataError(f"{line}; {remedy}, or allow it by {flag} {min(1.0, round(share + 0.01, 2)):g}")
        say(f"warning: {line}; {remedy}")
    if counts.unread > 1:
        say(
            f"warning: {what}: {counts.unread:,} of {counts.texts:,} have no token that the tokenizer knows, so that "
            "their vectors are alike"
        )


def unknown_words(tokenizer: Any, texts: Iterable[str]) -> list[str]:
    """The first different words of these texts that a tokenizer does not know."""
    from optical_jax.data.tokenization import is_word, unknown_spans

    backend, found = tokenizer.backend_tokenizer, {}
    for text in texts:
        encoding = backend.encode(text, add_special_tokens=False)
        # Characters that the tokenizer drops leave no token.
        spans = unknown_spans(encoding, tokenizer.unk_token_id) if encoding.ids else [(0, len(text))]
        for word in (text[start:end] for start, end in spans):
            if is_word(word):
                found.setdefault(word[:EXAMPLE_CHARS])
            if len(found) == EXAMPLES:
                return list(found)
    return list(found)

"""Checks of sentence pairs before training: languages and scripts as they look, swapped sides, ids instead of texts,
shifted lines, broken encodings."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from optical_jax.data.text.folding import words

SAMPLE = 1000
"""Pairs of a file that are looked at, spread evenly over it."""
IDENTIFIED = 200
"""Texts of a side whose language is identified."""
IDENTIFIED_SHARE = 0.9
"""Share of them in another language from which the side looks to be in that one."""
FUNCTION_WORDS = frozenset(
    ("the", "of", "and", "that", "with", "this", "which", "have", "from", "were", "their", "would", "been", "they")
)
"""Frequent words of English that few other languages write: 4 to 21 % of the words of English sentences and phrases
in the open bitexts of docs/data.md, at most 0.4 % of 17 other languages."""
ENGLISH_SHARE = 0.02
"""Share of function words from which a side looks English."""
FEWEST_WORDS = 50
"""Words of a side that are needed to judge its language."""
CORRELATED = 0.3
"""Translations have related lengths: the rank correlation is 0.68 to 0.99 in the same bitexts, and 0 for shifted
lines."""
FEW_PAIRS = 1000
"""In docs/results.md students of 300 and 1,000 pairs find less than a dictionary counted in the same pairs."""
DOMAIN_TEXTS = 50_000
"""Training texts whose words are collected to compare them with dev texts."""
OTHER_DOMAIN = 0.1
ID = re.compile(r"[^\W\d_]{0,8}[-_:#./]?\d[\w\-:./]*|https?://\S+|[0-9a-fA-F]{16,}")
"""A cell that is a number, an id, a hash or an address."""
MOJIBAKE = re.compile("[\u00c2\u00c3\u00d0\u00d1\u00d8\u00d9\u00e0][\u0080-\u00bf]|\u00e2\u20ac|\ufffd")
"""What UTF-8 looks like when it is read as Latin-1 or Windows-1252, and the replacement character."""
MARKUP = re.compile(r"&(?:[a-z]{2,8}|#\d{1,6});|</?(?:b|i|u|p|br|a|div|span|font|g|ph|x|bpt|ept)\b[^>]*>")


@dataclass(frozen=True)
class Finding:
    """Something that looks wrong in the pairs of a file, with the flag that mends it."""

    message: str
    stops: bool = False
    """Whether training stops for it, unless data.checks=warn."""


@dataclass(frozen=True)
class SideLook:
    """What one side of the pairs looks like, of a sample of its texts."""

    script: str
    """Script of most of its letters, as in their Unicode names; empty without letters."""
    script_share: float
    words: int
    english: float
    """Share of its words that are `FUNCTION_WORDS`."""
    identifiers: float
    """Share of texts that are numbers, ids or addresses."""
    distinct: float
    """Share of texts that differ from all others."""
    mojibake: float
    """Share of texts with characters of a wrong decoding."""
    markup: float
    """Share of texts with HTML entities or tags."""
    characters: tuple[int, int, int]
    """Fewest, median and most characters of a text."""

    @property
    def looks_english(self) -> bool:
        return self.words >= FEWEST_WORDS and self.english >= ENGLISH_SHARE

    @classmethod
    def of(cls, texts: Sequence[str]) -> SideLook:
        running = [word for text in texts for word in words(text)]
        scripts = Counter(_script(c) for text in texts for c in text if c.isalpha())
        (script, most), *_ = scripts.most_common(1) or [("", 0)]
        lengths = [len(text) for text in texts]
        return cls(
            script=script,
            script_share=most / max(1, scripts.total()),
            words=len(running),
            english=sum(word in FUNCTION_WORDS for word in running) / max(1, len(running)),
            identifiers=_share(texts, ID.fullmatch),
            distinct=len(set(texts)) / max(1, len(texts)),
            mojibake=_share(texts, MOJIBAKE.search),
            markup=_share(texts, MARKUP.search),
            characters=(min(lengths), int(np.median(lengths)), max(lengths)),
        )


def _share(texts: Sequence[str], matches: Callable[[str], object]) -> float:
    return sum(matches(text) is not None for text in texts) / max(1, len(texts))


def _script(character: str) -> str:
    name = unicodedata.name(character, "unknown").split()[0].capitalize()
    return "Chinese" if name == "Cjk" else name


def sample(texts: Sequence[str], count: int = SAMPLE) -> list[str]:
    """At most `count` of the texts, spread evenly."""
    return list(texts[:: max(1, math.ceil(len(texts) / count))])


def check_pairs(
    language: str,
    english: Sequence[str],
    foreign: Sequence[str],
    *,
    read: int,
    left_out: Mapping[str, int],
    parallel: bool = True,
    same_language: bool = False,
) -> list[Finding]:
    """Check the pairs of one file.

    Args:
      language: of the foreign side.
      english: the English texts that are left after filtering.
      foreign: the foreign ones.
      read: pairs before filtering.
      left_out: reason -> number of pairs filtered out that the user did not ask to leave out.
      parallel: whether the sides are translations, line by line; captions of the same images are not.
      same_language: whether equal sides are kept on purpose.
    """
    found = []
    lost = sum(left_out.values())
    if lost * 2 > read:
        why = ", ".join(f"{reason.replace('_', ' ')} {n:,}" for reason, n in sorted(left_out.items()) if n)
        found.append(
            Finding(
                f"{lost:,} of {read:,} pairs are left out ({why}); see data.english_column, foreign_column, min_chars, "
                "max_chars, max_length_ratio, keep_equal",
                stops=True,
            )
        )
    equal = left_out.get("equal_sides", 0)
    if equal * 20 > read and lost * 2 <= read:
        found.append(Finding(f"{equal:,} of {read:,} pairs are untranslated (equal sides) and left out"))
    if not english:
        return found
    left, right = SideLook.of(sample(english)), SideLook.of(sample(foreign))
    if not same_language and language != "en":
        found += _check_languages(language, left, right)
        found += _check_identified(language, foreign, right)
    for name, field, look in [("English", "english_column", left), (language, "foreign_column", right)]:
        found += _check_side(name, field, look)
    if parallel and (related := _length_correlation(english, foreign)) is not None:
        found.append(
            Finding(
                f"the lengths of the two sides are not related (rank correlation {related:.2f}; translations have 0.7 "
                "and more): lines may be shifted against each other, or a column is wrong (data.english_column, "
                "data.foreign_column)"
            )
        )
    return found


def _check_languages(language: str, left: SideLook, right: SideLook) -> list[Finding]:
    if right.looks_english and right.english > 5 * left.english:
        return [
            Finding(
                f"the sides look swapped: English words are {right.english:.0%} of the {language} side and "
                f"{left.english:.0%} of the English side; swap data.english_column and data.foreign_column, or the two "
                "files of a Moses pair",
                stops=True,
            )
        ]
    if right.looks_english and left.looks_english:
        return [Finding(f"both sides look English; name the column of {language} with data.foreign_column")]
    if left.words >= FEWEST_WORDS and left.script not in ("Latin", ""):
        return [
            Finding(f"the English side is in {left.script} script; name the column of English with data.english_column")
        ]
    return []


def _check_identified(language: str, foreign: Sequence[str], look: SideLook) -> list[Finding]:
    guess = identify_language(foreign) if look.words >= FEWEST_WORDS and not look.looks_english else None
    code = re.split("[-_]", language)[0]
    if not guess or guess.share < IDENTIFIED_SHARE or code not in guess.known or code == guess.language:
        return []
    return [
        Finding(
            f"{guess.share:.0%} of the {language} side look like {guess.language}; write {guess.language}=FILE if they "
            f"are, or name the column of {language} with data.foreign_column"
        )
    ]


def _check_side(name: str, field: str, look: SideLook) -> list[Finding]:
    found = []
    if look.identifiers > 0.5:
        found.append(
            Finding(
                f"{look.identifiers:.0%} of the {name} side are numbers, ids or addresses; name the column of texts "
                f"with data.{field}"
            )
        )
    elif look.distinct < 0.05:
        found.append(
            Finding(
                f"{1 - look.distinct:.0%} of the {name} side repeat a text; name the column of texts with data.{field}"
            )
        )
    if look.mojibake > 0.01:
        found.append(
            Finding(
                f"{look.mojibake:.0%} of the {name} side have characters of a wrong decoding, such as Ã© for é; make "
                "the file again from its source, or name its encoding with data.encoding"
            )
        )
    if look.markup > 0.05:
        found.append(Finding(f"{look.markup:.0%} of the {name} side have HTML or XML in them; remove it from the file"))
    return found


def _length_correlation(english: Sequence[str], foreign: Sequence[str]) -> float | None:
    """Rank correlation of the lengths of both sides; None if they are related, or too few or too alike to judge."""
    from scipy.stats import spearmanr

    left, right = ([len(text) for text in sample(side)] for side in (english, foreign))
    if min(np.std(left) / np.mean(left), np.std(right) / np.mean(right)) < 0.2:
        return None
    related = float(spearmanr(left, right)[0])  # pyright: ignore[reportArgumentType]
    # Twice the standard error of few pairs.
    return related if related + 2 / math.sqrt(len(left)) < CORRELATED else None


class Guess(NamedTuple):
    language: str
    share: float
    """Of the texts that look to be in it."""
    known: frozenset[str]
    """All languages that could have been found."""


def identify_language(texts: Sequence[str]) -> Guess | None:
    """The language that most of the texts look to be in, by py3langid; None if that is not installed."""
    try:
        from py3langid import langid
    except ImportError:
        return None
    guesses = Counter(langid.classify(text)[0] for text in sample(texts, IDENTIFIED))
    language, count = guesses.most_common(1)[0]
    return Guess(language, count / guesses.total(), frozenset(langid.IDENTIFIER.nb_classes))


def check_number(language: str, pairs: int) -> str:
    """A warning if the pairs are too few for a student that is better than a dictionary; else empty."""
    if pairs >= FEW_PAIRS:
        return ""
    return (
        f"{pairs:,} {language} pairs are few: under {FEW_PAIRS:,} a dictionary counted in them finds more (search "
        "--dictionary LANG); add files to data.bitext"
    )


def check_dev(train: Sequence[str], dev: Sequence[str]) -> str:
    """A warning if the English dev texts are of another domain than the training texts; else empty.

    Measured by the share of running words that no training text has, beside the same share of every tenth training text
    against the others.
    """
    train = sample(train, DOMAIN_TEXTS)
    own = _unknown([text for i, text in enumerate(train) if i % 10], train[::10])
    other = _unknown(train, dev)
    if other < own + OTHER_DOMAIN:
        return ""
    return (
        f"dev texts are of another domain: {other:.0%} of their English words are in no training pair, where the "
        f"training texts among themselves have {own:.0%}; name dev pairs like the texts to be searched (data.dev), or "
        "train on more of their kind"
    )


def _unknown(train: Sequence[str], dev: Sequence[str]) -> float:
    known = {word for text in train for word in words(text)}
    running = [word for text in dev for word in words(text)]
    return sum(word not in known for word in running) / max(1, len(running))

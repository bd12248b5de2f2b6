"""Bitext: pairs of sentences by language, cleaned, split into train and dev, every line accounted for."""

from __future__ import annotations

import sys
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from optical_jax.config import DataConfig
from optical_jax.data.formats import InputFile, Line, Source, fingerprint, parse_entry, read_lines
from optical_jax.data.report import BitextReport
from optical_jax.errors import ConfigError, DataError

RATIO_FREE_CHARS = 20
"""Pairs whose sides are both shorter than this are not held to the length ratio."""
HELD_OUT_SHARE = 0.1
"""At most this share of a language is held out as dev where no dev file is given."""


@dataclass(frozen=True)
class Bitext:
    """The pairs of one language, NFC."""

    language: str
    english: list[str]
    foreign: list[str]
    report: BitextReport
    files: tuple[InputFile, ...]

    def __len__(self) -> int:
        return len(self.english)


@dataclass(frozen=True)
class BitextSplits:
    train: dict[str, Bitext]
    dev: dict[str, Bitext]
    """Languages without a dev pair are absent."""


class _Letters(dict[int, str | None]):
    """A translation table that drops all but letters, marks and digits, filled as characters turn up."""

    def __missing__(self, code: int) -> str | None:
        kept = chr(code) if unicodedata.category(chr(code))[0] in "LMN" else None
        self[code] = kept
        return kept


_LETTERS = _Letters()


def text_key(text: str) -> str:
    """What makes two texts the same: letters, marks and digits after NFKC and case folding.

    A text without any keeps its signs.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return folded.translate(_LETTERS) or folded.strip()  # pyright: ignore[reportArgumentType]


def load_bitext(cfg: DataConfig) -> BitextSplits:
    """Training and dev pairs of every language that data.bitext names.

    Raises:
      ConfigError: no bitext named, an entry without a language, a column or score setting that cannot be.
      DataError: a file is missing, empty or broken, or no pair of a language is left.
    """
    return read_dev(cfg, read_bitext(cfg))


def read_bitext(cfg: DataConfig) -> dict[str, Bitext]:
    """The training pairs of data.bitext by language, before any dev pair is held out."""
    if not cfg.bitext:
        raise ConfigError("data.bitext is empty; name at least one file: --data.bitext sw=FILE")
    bitexts = _read_all(cfg, [parse_entry(entry, "data.bitext") for entry in cfg.bitext])
    for bitext in bitexts.values():
        if not bitext.english:
            why = ", ".join(f"{reason} {count}" for reason, count in sorted(bitext.report.dropped.items()))
            files = ", ".join(file.path for file in bitext.files)
            raise DataError(f"{files}: no {bitext.language} pair is left of {bitext.report.lines} lines ({why})")
    return bitexts


def _read_all(cfg: DataConfig, sources: Sequence[Source]) -> dict[str, Bitext]:
    if cfg.min_score is not None and not cfg.score_column:
        raise ConfigError(f"data.min_score={cfg.min_score} needs data.score_column")
    by_language: defaultdict[str, list[Source]] = defaultdict(list)
    for source in sources:
        by_language[source.language].append(source)
    return {language: _read_language(cfg, language, group) for language, group in by_language.items()}


def _read_language(cfg: DataConfig, language: str, sources: Sequence[Source]) -> Bitext:
    files = tuple(fingerprint(path) for source in sources for path in source.paths)
    report = BitextReport(language, list(files))
    english, foreign = [], []
    seen: set[bytes] = set()
    for source in sources:
        bad_before = len(report.bad_lines)
        for line in read_lines(source, cfg):
            report.lines += 1
            left, right = _clean(line.english), _clean(line.foreign)
            fault = line.fault
            if fault:
                report.bad_lines.append(f"{line.where}: {fault}")
                if (bad := len(report.bad_lines) - bad_before) > cfg.max_bad_lines:
                    allowed = f" (bad line {bad}, data.max_bad_lines={cfg.max_bad_lines})"
                    raise DataError(f"{line.where}: {fault}{allowed}")
            elif reason := _reason_to_drop(left, right, line, cfg, seen):
                report.dropped[reason] += 1
            else:
                # One object for equal strings: parallel sets repeat their English in every language.
                english.append(sys.intern(left))
                foreign.append(right)
    bitext = Bitext(language, english, foreign, report, files)
    _count(bitext)
    return bitext


def _clean(text: str) -> str:
    return unicodedata.normalize("NFC", text).strip()


def _reason_to_drop(english: str, foreign: str, line: Line, cfg: DataConfig, seen: set[bytes]) -> str:
    """Why a pair is left out; empty for a pair to keep, which is then noted in `seen`."""
    shorter, longer = sorted((len(english), len(foreign)))
    if cfg.min_score is not None and line.score is not None and line.score < cfg.min_score:
        return "low_score"
    if shorter < cfg.min_chars:
        return "too_short"
    if longer > cfg.max_chars:
        return "too_long"
    if longer >= RATIO_FREE_CHARS and longer > cfg.max_length_ratio * shorter:
        return "length_ratio"
    keys = text_key(english), text_key(foreign)
    if keys[0] == keys[1]:
        return "equal_sides"
    digest = _digest(*keys)
    if digest in seen:
        return "duplicate"
    seen.add(digest)
    return ""


def _digest(*keys: str) -> bytes:
    return blake2b("\t".join(keys).encode(), digest_size=16).digest()


def _count(bitext: Bitext) -> None:
    bitext.report.kept = len(bitext.english)
    bitext.report.english_characters = sum(map(len, bitext.english))
    bitext.report.foreign_characters = sum(map(len, bitext.foreign))


# ---- dev -------------------------------------------------------------------------------------------------------


def read_dev(cfg: DataConfig, bitexts: dict[str, Bitext]) -> BitextSplits:
    """Train and dev by language: data.dev, or <lang>.dev.* beside <lang>.train.*, or pairs held out of training.

    At most data.dev_pairs a language, chosen by a hash of the text, so that neither order nor other files matter.
    A dev pair with a side that stands in the training text of its language is dropped and counted.
    """
    if cfg.dev_pairs <= 0:
        return BitextSplits(bitexts, {})
    sources = [parse_entry(entry, "data.dev") for entry in cfg.dev]
    given = {source.language for source in sources}
    for source in (parse_entry(entry, "data.bitext") for entry in cfg.bitext):
        if source.language not in given:
            sources += source.dev_siblings()
    dev = _read_all(cfg, list(dict.fromkeys(sources)))
    train = dict(bitexts)
    for language, bitext in dev.items():
        _trim_dev(bitext, bitexts.get(language), cfg.dev_pairs)
    for language, bitext in bitexts.items():
        if language not in dev:
            train[language], dev[language] = _hold_out(bitext, cfg.dev_pairs)
    return BitextSplits(train, {language: bitext for language, bitext in dev.items() if bitext.english})


def _trim_dev(dev: Bitext, train: Bitext | None, dev_pairs: int) -> None:
    english = {text_key(text) for text in train.english} if train else set()
    foreign = {text_key(text) for text in train.foreign} if train else set()
    keys = [(text_key(a), text_key(b)) for a, b in zip(dev.english, dev.foreign, strict=True)]
    clear = [i for i, (a, b) in enumerate(keys) if a not in english and b not in foreign]
    chosen = set(sorted(clear, key=lambda i: _digest(*keys[i]))[:dev_pairs])
    dev.report.dropped["in_training"] += len(keys) - len(clear)
    dev.report.dropped["beyond_dev_pairs"] += len(clear) - len(chosen)
    _keep(dev, chosen)


def _hold_out(bitext: Bitext, dev_pairs: int) -> tuple[Bitext, Bitext]:
    """Pairs neither side of which stands in another pair, so that none of dev is seen in training."""
    keys = [(text_key(a), text_key(b)) for a, b in zip(bitext.english, bitext.foreign, strict=True)]
    counts: tuple[dict[str, int], dict[str, int]] = (defaultdict(int), defaultdict(int))
    for pair in keys:
        for side, key in zip(counts, pair, strict=True):
            side[key] += 1
    unique = [i for i, (a, b) in enumerate(keys) if counts[0][a] == counts[1][b] == 1]
    n = min(dev_pairs, int(HELD_OUT_SHARE * len(bitext)))
    chosen = set(sorted(unique, key=lambda i: _digest(*keys[i]))[:n])
    dev = Bitext(
        bitext.language,
        list(bitext.english),
        list(bitext.foreign),
        BitextReport(bitext.language, list(bitext.files), lines=len(chosen)),
        bitext.files,
    )
    _keep(dev, chosen)
    _keep(bitext, set(range(len(bitext))) - chosen)
    bitext.report.dropped["held_out"] += len(chosen)
    return bitext, dev


def _keep(bitext: Bitext, chosen: set[int]) -> None:
    bitext.english[:] = [text for i, text in enumerate(bitext.english) if i in chosen]
    bitext.foreign[:] = [text for i, text in enumerate(bitext.foreign) if i in chosen]
    _count(bitext)


# ---- contamination ---------------------------------------------------------------------------------------------


def overlap(train: dict[str, Bitext], texts: Iterable[str]) -> dict[str, int]:
    """Training pairs of each language with a side that is one of `texts` (a collection's queries and documents)."""
    keys = {text_key(text) for text in texts}
    return {
        language: sum(text_key(a) in keys or text_key(b) in keys for a, b in zip(bt.english, bt.foreign, strict=True))
        for language, bt in train.items()
    }

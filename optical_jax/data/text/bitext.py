"""Bitext loading: sentence pairs by language, filtered, deduplicated and split into train and dev."""

from __future__ import annotations

import re
import sys
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

from optical_jax.config import DataConfig
from optical_jax.config.validation import check_reading
from optical_jax.data.characters import is_blank
from optical_jax.data.text.checks import check_dev, check_number, check_pairs
from optical_jax.data.text.entries import NO_BITEXT, parse_entry
from optical_jax.data.text.formats import InputFile, Source, fingerprint
from optical_jax.data.text.pairs import Line
from optical_jax.data.text.report import BitextReport, short
from optical_jax.errors import ConfigError, DataError

FIRST_PAIRS = 3
"""Pairs of a language that are shown as they were read."""
RATIO_FREE_CHARS = 20
"""Pairs with both sides shorter than this are exempt from the length ratio."""
WIDE = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]")
"""Chinese, Japanese and Korean characters, which count as three Latin letters in the length ratio."""
HELD_OUT_SHARE = 0.1
"""Largest share of a language that is held out as dev where there is no dev file."""


@dataclass(frozen=True)
class Bitext:
    """Sentence pairs of one language, NFC-normalised."""

    language: str
    english: list[str]
    foreign: list[str]
    report: BitextReport
    files: tuple[InputFile, ...]
    documents: list[str]
    """Document of each pair; empty strings where the files name none."""

    def __len__(self) -> int:
        return len(self.english)


@dataclass(frozen=True)
class BitextSplits:
    train: dict[str, Bitext]
    dev: dict[str, Bitext]
    """Languages without dev pairs are absent."""


class _Letters(dict[int, str | None]):
    """Translation table that drops all but letters, marks and digits, filled lazily."""

    def __missing__(self, code: int) -> str | None:
        kept = chr(code) if unicodedata.category(chr(code))[0] in "LMN" else None
        self[code] = kept
        return kept


_LETTERS = _Letters()


def text_key(text: str) -> str:
    """Key for deduplication: letters, marks and digits of a text after NFKC and case folding.

    A text without any keeps its other characters.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return folded.translate(_LETTERS) or folded.strip()  # pyright: ignore[reportArgumentType]


def load_bitext(cfg: DataConfig) -> BitextSplits:
    """Load training and dev pairs of every language in data.bitext.

    Raises:
      ConfigError: data.bitext is empty, an entry has no language, or a column or score setting is not valid.
      DataError: a file is missing, empty or malformed, or no pair of a language is left.
    """
    splits = read_dev(cfg, read_bitext(cfg))
    if not cfg.max_pairs:
        return splits
    return replace(splits, train={language: _at_most(one, cfg.max_pairs) for language, one in splits.train.items()})


def _at_most(bitext: Bitext, pairs: int) -> Bitext:
    """Subsample by a hash of the English side: languages with the same English texts keep the same ones."""
    english = [(text_key(text),) for text in bitext.english]
    chosen = _lowest_hashes(english, range(len(english)), pairs)
    return _select(bitext, chosen, {"over_max_pairs": len(english) - len(chosen)})


def read_bitext(cfg: DataConfig) -> dict[str, Bitext]:
    """Read the training pairs of data.bitext by language, before dev pairs are held out."""
    if not cfg.bitext:
        raise ConfigError(NO_BITEXT)
    bitexts = _read_all(cfg, [parse_entry(entry, "data.bitext") for entry in cfg.bitext])
    for bitext in bitexts.values():
        _check_not_empty(
            bitext,
            "pair",
            "see data.english_column, foreign_column, delimiter, min_chars, max_chars, max_length_ratio, min_score",
        )
        if few := check_number(bitext.language, len(bitext)):
            bitext.report.warnings.append(few)
    return bitexts


def _check_not_empty(bitext: Bitext, what: str, remedy: str) -> None:
    if not bitext.english:
        report = bitext.report
        reasons = dict(report.dropped) | ({"bad lines": len(report.bad_lines)} if report.bad_lines else {})
        why = ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items())) or "no rows"
        files = ", ".join(file.path for file in bitext.files)
        first = f"; the first pair was read as {' | '.join(map(short, report.first[0]))}" if report.first else ""
        raise DataError(
            f"{files}: no {bitext.language} {what} is left of {report.lines} lines ({why}){first}; {remedy}"
        )


def _read_all(cfg: DataConfig, sources: Sequence[Source]) -> dict[str, Bitext]:
    check_reading(cfg)
    if cfg.min_score is not None and not cfg.score_column:
        raise ConfigError(f"data.min_score={cfg.min_score} needs data.score_column")
    by_language: defaultdict[str, list[Source]] = defaultdict(list)
    for source in sources:
        by_language[source.language].append(source)
    return {language: _read_language(cfg, language, group) for language, group in by_language.items()}


def _read_language(cfg: DataConfig, language: str, sources: Sequence[Source]) -> Bitext:
    files = tuple(fingerprint(path) for source in sources for path in source.files)
    whole = Bitext(language, [], [], BitextReport(language, list(files)), files, [])
    seen: dict[bytes, int] = {}
    for number, source in enumerate(sources):
        read_source(cfg, source, whole, seen, number)
    return _counted(whole)


def read_source(cfg: DataConfig, source: Source, whole: Bitext, seen: dict[bytes, int], number: int) -> None:
    """Read one file, filter and check its pairs, and append them to those of the language.

    Args:
      cfg: columns, filters and checks.
      source: the file.
      whole: pairs and report of the language, which are added to.
      seen: key of a pair -> number of the file it was in first; added to.
      number: of this file.

    Raises:
      DataError: more bad lines than data.max_bad_lines; or its pairs look wrong, and data.checks=stop.
    """
    report = whole.report
    bad_before, start = len(report.bad_lines), len(whole)
    read, left_out = 0, Counter[str]()
    report.dropped.update(source.left_out)
    report.lines += sum(source.left_out.values())
    for line in source.lines(cfg, report.notes):
        report.lines += 1
        if line.left_out:
            report.dropped[line.left_out] += 1
            continue
        left, right = _clean(line.english), _clean(line.foreign)
        if line.fault:
            report.bad_lines.append(f"{line.where}: {line.fault}")
            left_out["bad_lines"] += 1
            read += 1
            if (bad := len(report.bad_lines) - bad_before) > cfg.max_bad_lines:
                raise DataError(
                    f"{report.bad_lines[-1]} (bad line {bad} of the file, data.max_bad_lines={cfg.max_bad_lines})"
                )
            continue
        if len(report.first) < FIRST_PAIRS:
            report.first.append((left, right))
        keys = text_key(left), text_key(right)
        reason = _reason_to_drop(left, right, keys, line, cfg)
        asked_for = reason == "low_score"
        if not reason:
            digest = _digest(*keys)
            if digest in seen:
                # A corpus within another one is not a mistake.
                reason, asked_for = "duplicate", seen[digest] != number
            else:
                seen[digest] = number
        read += not asked_for
        if reason:
            report.dropped[reason] += 1
            report.examples.setdefault(reason, f"{line.where}: {left} | {right}")
            left_out[reason] += not asked_for
        else:
            # Interned: parallel sets repeat their English in every language.
            whole.english.append(sys.intern(left))
            whole.foreign.append(right)
            whole.documents.append(sys.intern(line.document))
    for finding in check_pairs(
        whole.language,
        whole.english[start:],
        whole.foreign[start:],
        read=read,
        left_out=left_out,
        parallel=source.parallel,
        same_language=cfg.keep_equal,
    ):
        message = f"{source.name}: {finding.message}"
        if finding.stops:
            if cfg.checks == "stop":
                raise DataError(f"{message}; --data.checks warn trains on them as they are")
            report.refusals.append(message)
        report.warnings.append(message)


def _clean(text: str) -> str:
    return unicodedata.normalize("NFC", text).strip()


def _reason_to_drop(english: str, foreign: str, keys: tuple[str, str], line: Line, cfg: DataConfig) -> str:
    """Reason for which a pair is filtered out by itself, with the `text_key`s of its sides; empty for one to keep."""
    chars = len(english), len(foreign)
    if is_blank(english) or is_blank(foreign):
        return "no_text"
    if cfg.min_score is not None and line.score is not None and line.score < cfg.min_score:
        return "low_score"
    if min(chars) < cfg.min_chars:
        return "too_short"
    if max(chars) > cfg.max_chars:
        return "too_long"
    shorter, longer = sorted(n + 2 * len(WIDE.findall(text)) for n, text in zip(chars, (english, foreign), strict=True))
    if longer >= RATIO_FREE_CHARS and longer > cfg.max_length_ratio * shorter:
        return "length_ratio"
    return "equal_sides" if keys[0] == keys[1] and not cfg.keep_equal else ""


def _digest(*keys: str) -> bytes:
    return blake2b("\t".join(keys).encode(), digest_size=16).digest()


def _counted(bitext: Bitext) -> Bitext:
    bitext.report.kept = len(bitext)
    bitext.report.english_characters = sum(map(len, bitext.english))
    bitext.report.foreign_characters = sum(map(len, bitext.foreign))
    return bitext


# ---- dev -------------------------------------------------------------------------------------------------------


def read_dev(cfg: DataConfig, bitexts: Mapping[str, Bitext]) -> BitextSplits:
    """Train and dev splits by language: data.dev, or <lang>.dev.* beside <lang>.train.*, or held-out training pairs.

    At most data.dev_pairs per language, chosen by a hash of the text, independent of order and of other files. Dev
    pairs with a side that occurs in the training text of their language are dropped and counted.

    Raises:
      DataError: a dev file is missing or malformed, or all its pairs are in the training text.
    """
    if cfg.dev_pairs <= 0:
        return BitextSplits(dict(bitexts), {})
    sources = [parse_entry(entry, "data.dev") for entry in cfg.dev]
    given = {source.language for source in sources}
    for source in (parse_entry(entry, "data.bitext") for entry in cfg.bitext):
        if source.language not in given:
            sources += source.dev_siblings()
    train, dev = dict(bitexts), {}
    for language, bitext in _read_all(cfg, list(dict.fromkeys(sources))).items():
        dev[language] = _trim_dev(bitext, bitexts.get(language), cfg.dev_pairs)
        _check_not_empty(dev[language], "dev pair", "name other files with data.dev, or set data.dev_pairs=0")
        if language in bitexts and (other := check_dev(bitexts[language].english, dev[language].english)):
            dev[language].report.warnings.append(other)
    for language in bitexts.keys() - dev.keys():
        hold_out = _hold_out_documents if cfg.dev_by == "document" else _hold_out
        train[language], held_out = hold_out(bitexts[language], cfg.dev_pairs)
        if held_out.english:
            dev[language] = held_out
    return BitextSplits(train, {language: dev[language] for language in sorted(dev)})


def _trim_dev(dev: Bitext, train: Bitext | None, dev_pairs: int) -> Bitext:
    english = {text_key(text) for text in train.english} if train else set()
    foreign = {text_key(text) for text in train.foreign} if train else set()
    keys = _keys(dev)
    clear = [i for i, (a, b) in enumerate(keys) if a not in english and b not in foreign]
    chosen = _lowest_hashes(keys, clear, dev_pairs)
    return _select(dev, chosen, {"in_training": len(keys) - len(clear), "over_dev_pairs": len(clear) - len(chosen)})


def _hold_out(bitext: Bitext, dev_pairs: int) -> tuple[Bitext, Bitext]:
    """(train, held out): held-out pairs share neither side with another pair, so that training does not see them."""
    keys = _keys(bitext)
    english, foreign = Counter(a for a, _ in keys), Counter(b for _, b in keys)
    unique = [i for i, (a, b) in enumerate(keys) if english[a] == foreign[b] == 1]
    chosen = _lowest_hashes(keys, unique, min(dev_pairs, int(HELD_OUT_SHARE * len(keys))))
    return _parted(
        bitext, chosen, BitextReport(bitext.language, list(bitext.files), lines=len(chosen), same_texts=True)
    )


def _hold_out_documents(bitext: Bitext, dev_pairs: int) -> tuple[Bitext, Bitext]:
    """(train, held out): whole documents, chosen by a hash of their names, are taken from training.

    Raises:
      DataError: there are not at least two documents, or fewer than half of the pairs have one.
    """
    known = Counter(document for document in bitext.documents if document)
    if len(known) < 2 or 2 * known.total() < len(bitext):
        raise DataError(
            f"data.dev_by=document: {known.total():,} of {len(bitext):,} {bitext.language} pairs name a document, and "
            f"there are {len(known):,} documents; name their column with data.document_column, or use dev_by=pair"
        )
    wanted, chosen = min(dev_pairs, int(HELD_OUT_SHARE * len(bitext))), set[str]()
    for document in sorted(known, key=_digest):
        # A first document may be larger than the share; half of the pairs is the most that is taken.
        if sum(known[one] for one in chosen) >= wanted or 2 * known[document] > len(bitext):
            break
        chosen.add(document)
    places = {i for i, document in enumerate(bitext.documents) if document in chosen}
    rest, held_out = _parted(bitext, places, BitextReport(bitext.language, list(bitext.files), lines=len(places)))
    return rest, _trim_dev(held_out, rest, dev_pairs)


def _parted(bitext: Bitext, chosen: set[int], dev_report: BitextReport) -> tuple[Bitext, Bitext]:
    rest = _select(bitext, set(range(len(bitext))) - chosen, {"held_out": len(chosen)})
    return rest, _select(replace(bitext, report=dev_report), chosen, {})


def _keys(bitext: Bitext) -> list[tuple[str, str]]:
    return [(text_key(a), text_key(b)) for a, b in zip(bitext.english, bitext.foreign, strict=True)]


def _lowest_hashes(keys: Sequence[tuple[str, ...]], among: Sequence[int], n: int) -> set[int]:
    return set(sorted(among, key=lambda i: _digest(*keys[i]))[:n])


def _select(bitext: Bitext, chosen: Collection[int], dropped: Mapping[str, int]) -> Bitext:
    """Select pairs, in order; the others must be counted in `dropped`."""
    report = replace(bitext.report, dropped=bitext.report.dropped + Counter(dropped))
    english = [text for i, text in enumerate(bitext.english) if i in chosen]
    foreign = [text for i, text in enumerate(bitext.foreign) if i in chosen]
    documents = [document for i, document in enumerate(bitext.documents) if i in chosen]
    return _counted(replace(bitext, english=english, foreign=foreign, documents=documents, report=report))


# ---- contamination ---------------------------------------------------------------------------------------------


def overlap(train: Mapping[str, Bitext], texts: Iterable[str]) -> dict[str, int]:
    """Contamination: number of training pairs per language with a side among `texts` (queries and documents)."""
    keys = {text_key(text) for text in texts}
    return {
        language: sum(text_key(a) in keys or text_key(b) in keys for a, b in zip(bt.english, bt.foreign, strict=True))
        for language, bt in train.items()
    }

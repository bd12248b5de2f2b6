"""Word alignment evaluation against gold links: AER, precision and recall of several aligners."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optical_jax.config import DataConfig, OtConfig
from optical_jax.config.vocabulary import MAX_UNKNOWN
from optical_jax.errors import ConfigError, DataError
from optical_jax.runs.bitext import saved_data

if TYPE_CHECKING:
    from optical_jax.alignment.gold_links import GoldLinks
    from optical_jax.alignment.plans import IdfTables
    from optical_jax.alignment.quality import AlignmentQuality
    from optical_jax.alignment.statistical_aligner import StatisticalAligner
    from optical_jax.data.text.formats import Source
    from optical_jax.towers.tower import Tower


def sources_of(bitext: Sequence[str], gold: Sequence[str]) -> dict[str, tuple[Source, Path | None]]:
    """Match bitext entries with gold files: language -> (bitext source, gold file or None).

    Raises:
      ConfigError: a language occurs twice, or a gold file belongs to no bitext.
      DataError: a bitext is missing.
    """
    from optical_jax.data.text.entries import parse_entry

    sources = [parse_entry(entry, "bitext") for entry in bitext]
    languages = [source.language for source in sources]
    for language in languages:
        if languages.count(language) > 1:
            raise ConfigError(f"bitext={' '.join(bitext)} has {language} twice; give one file a language")
    of: dict[str, Path] = {}
    for entry in gold:
        language, _, path = entry.partition("=")
        if language not in languages or not path:
            if len(languages) > 1:
                raise ConfigError(f"gold={entry} names no language of the bitext; use {languages[0]}=FILE")
            language, path = languages[0], entry
        if language in of:
            raise ConfigError(f"gold={' '.join(gold)} has {language} twice; give one file a language")
        of[language] = Path(path).expanduser()
    return {source.language: (source, of.get(source.language)) for source in sources}


def measure(
    student: Tower,
    teacher: Tower,
    ot: OtConfig,
    sources: Mapping[str, tuple[Source, Path | None]],
    *,
    saved: Mapping[str, Any],
    pairs: int,
    rule: str,
    foreign_first: bool,
    first_word: int | None = None,
    max_unknown: float = MAX_UNKNOWN,
    idf: IdfTables | None,
) -> dict[str, AlignmentQuality]:
    """Word alignment quality of student, teacher and a statistical aligner, by language.

    Args:
      saved: the run's config; the statistical aligner is fitted on its training pairs and the evaluated pairs.
      pairs: maximum number of pairs of each bitext, evenly spaced.
      first_word: as of `read_gold`.
      max_unknown: largest share of tokens that student or teacher may not know, where there are no gold links.

    Raises:
      DataError: a bitext or a gold file is malformed, or they do not match.
    """
    from optical_jax.alignment.quality import alignment_quality
    from optical_jax.towers.texts import STUDENT_REMEDY, TEACHER_REMEDY, check_texts, max_tokens, say

    # All files are read before anything is computed.
    read = {
        language: read_pairs(source, gold, pairs, foreign_first=foreign_first, first_word=first_word)
        for language, (source, gold) in sources.items()
    }
    found = {}
    for language, (texts, gold) in read.items():
        # With gold links the metrics show it, and two of the aligners need no model.
        check = partial(check_texts, at_most=max_unknown if gold is None else None, most=len(texts))
        sides = (
            ("foreign texts", student, [foreign for foreign, _ in texts], STUDENT_REMEDY),
            ("English texts", teacher, [english for _, english in texts], TEACHER_REMEDY),
        )
        for what, tower, own, remedy in sides:
            counts = check(tower, own, f"{language}, {what}", remedy=remedy)
            for line in counts.truncation(f"{language} {what}", max_tokens(tower)):
                say(line)
        aligner = count_bitext(language, texts, saved, tokenised=gold is not None)
        found[language] = alignment_quality(student, teacher, texts, ot, gold=gold, aligner=aligner, rule=rule, idf=idf)
    return found


def read_pairs(
    source: Source, gold: Path | None, most: int, *, foreign_first: bool, first_word: int | None = None
) -> tuple[list[tuple[str, str]], list[GoldLinks | None] | None]:
    """Read (foreign, English) texts and their gold links, aligned line by line; malformed lines are errors."""
    from optical_jax.alignment.gold_links import read_gold
    from optical_jax.data.text.words import spaced_words

    texts = []
    for line in source.lines(DataConfig()):
        # Gold links count every line of the file, blank ones too.
        if line.fault or (line.left_out and gold is not None):
            raise DataError(f"{line.where}: {line.fault or f'a {line.left_out} line, which gold links cannot count'}")
        if line.left_out:
            continue
        foreign, english = (unicodedata.normalize("NFC", text).strip(" \t") for text in (line.foreign, line.english))
        texts.append((foreign, english))
    chosen = range(0, len(texts), max(1, -(-len(texts) // most)))
    links = None
    if gold is not None:
        lengths = [(len(spaced_words(foreign)), len(spaced_words(english))) for foreign, english in texts]
        every = read_gold(gold, lengths, foreign_first=foreign_first, first_word=first_word)
        links = [every[n] for n in chosen]
    return [texts[n] for n in chosen], links


def count_bitext(
    language: str, texts: Sequence[tuple[str, str]], saved: Mapping[str, Any], *, tokenised: bool
) -> StatisticalAligner:
    """Fit the statistical aligner on the run's training pairs of the language and the pairs to be aligned."""
    from optical_jax.alignment.quality import words_of
    from optical_jax.alignment.statistical_aligner import fit_aligner

    def words(text: str, tokenised: bool) -> list[str]:
        return [text[start:end] for start, end in words_of(text, tokenised=tokenised)]

    corpus = [(words(foreign, tokenised), words(english, tokenised)) for foreign, english in texts]
    try:
        training = training_pairs(language, saved)
    except (ConfigError, DataError) as error:
        print(f"{language}: the statistical aligner is fitted on these {len(texts)} pairs only: {error}")
        training = []
    corpus += [(words(foreign, False), words(english, False)) for foreign, english in training]
    return fit_aligner(corpus)


def training_pairs(language: str, saved: Mapping[str, Any]) -> list[tuple[str, str]]:
    from optical_jax.data.text.bitext import load_bitext
    from optical_jax.data.text.entries import parse_entry

    data = saved_data(saved)
    own = tuple(entry for entry in data.bitext if parse_entry(entry, "data.bitext").language == language)
    if not own:
        raise DataError(f"the run was not trained on {language}")
    dev = tuple(entry for entry in data.dev if parse_entry(entry, "data.dev").language == language)
    bitext = load_bitext(replace(data, bitext=own, dev=dev)).train[language]
    return list(zip(bitext.foreign, bitext.english, strict=True))

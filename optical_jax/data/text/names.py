"""Bitext of names from Unicode CLDR (languages, places, currencies, time zones) in over a hundred languages.

By Babel (extra `demo`; licence Unicode-3.0). They are human translations, short and compositional, so that phrases of
known words can be held out: "Samara Summer Time" where "Samara Time" and "Tonga Summer Time" are in training.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path

from optical_jax.data.text.bitext import text_key
from optical_jax.errors import ConfigError

LOCALES = {"tl": "fil"}
"""Our language code -> CLDR's, where they differ: Tagalog is under Filipino."""
KINDS = ("languages", "territories", "scripts", "variants", "currencies")
NEARLY_EQUAL = 0.7
"""Pairs whose sides are at least this similar (difflib's ratio of their letters) only teach copying: Kanada, Canada."""
SPLITS = ("train", "dev", "test")

WORD_GAPS = re.compile(r"[\s\u2013/-]+")

Names = dict[str, str]
"""English name -> name in another language."""


@dataclass(frozen=True)
class NameSplits:
    """Language -> pairs, by split. A concept (an English name) is in the same split in all languages."""

    train: dict[str, Names]
    dev: dict[str, Names]
    test: dict[str, Names]
    left_out: dict[str, Counter[str]]
    """Language -> reason -> number of names left out."""


def read_names(language: str) -> dict[str, str]:
    """Read CLDR's names in one language, by key.

    Raises:
      ConfigError: Babel is missing, or does not have the language.
    """
    try:
        from babel import Locale, UnknownLocaleError
    except ImportError:
        raise ConfigError("names need Babel, which is not installed; pip install 'optical_jax[demo]'") from None
    try:
        locale = Locale.parse(LOCALES.get(language, language), sep="-")
    except (UnknownLocaleError, ValueError):
        raise ConfigError(f"lang={language}: CLDR has no such language; use an ISO 639 code such as sw") from None
    names = {f"{kind}.{key}": str(text) for kind in KINDS for key, text in getattr(locale, kind).items()}
    for zone, forms in locale.meta_zones.items():
        names |= {f"zones.{zone}.{form}": str(text) for form, text in forms.get("long", {}).items()}
    return names


def words(text: str) -> list[str]:
    """Word keys of a text, split at spaces and hyphens; those of a held-out phrase must all be in training.

    >>> words("Samara-Sommerzeit (UTC)")
    ['samara', 'sommerzeit', 'utc']
    """
    return [key for word in WORD_GAPS.split(text) if any(map(str.isalnum, word)) and (key := text_key(word))]


def nearly_equal(a: str, b: str) -> bool:
    return SequenceMatcher(None, text_key(a), text_key(b), autojunk=False).ratio() >= NEARLY_EQUAL


def usable_pairs(english: Mapping[str, str], foreign: Mapping[str, str]) -> tuple[Names, Counter[str]]:
    """One-to-one pairs of English name -> foreign name, and the number left out by reason.

    Of several translations, or several English names, the first in key order is kept.
    """
    pairs: Names = {}
    seen: set[str] = set()
    left_out: Counter[str] = Counter()
    for key in sorted(english.keys() & foreign.keys()):
        ours, theirs = english[key], foreign[key]
        if nearly_equal(ours, theirs):
            left_out["nearly_equal"] += 1
        elif ours in pairs or text_key(theirs) in seen:
            left_out["ambiguous"] += 1
        else:
            seen.add(text_key(theirs))
            pairs[ours] = theirs
    return pairs, left_out


def english_concepts() -> dict[str, str]:
    """CLDR's English names by key, with variants in case or punctuation unified."""
    names, first = read_names("en"), {}
    return {key: first.setdefault(text_key(name), name) for key, name in sorted(names.items())}


def split_names(languages: Sequence[str]) -> NameSplits:
    """Compositional train, dev and test splits: held-out phrases consist of words seen in training.

    A concept is held out if, in every language that has it, it has several words on both sides, each of which remains
    in a training pair of that language. Candidates are tried in the order of a hash of the English name; every fourth
    one held out is for dev, the others for test.

    Raises:
      ConfigError: as `read_names`; or a language has no usable pair.
    """
    english = english_concepts()
    found = {language: usable_pairs(english, read_names(language)) for language in languages}
    pairs = {language: names for language, (names, _) in found.items()}
    for language, names in pairs.items():
        if not names:
            raise ConfigError(f"lang={language}: CLDR has no names in it that differ from the English; use another")
    counts = {
        language: Counter(word for pair in names.items() for word in _words_of_pair(pair))
        for language, names in pairs.items()
    }
    splits: dict[str, dict[str, Names]] = {split: {language: {} for language in pairs} for split in SPLITS}
    held_out = 0
    for concept in sorted({name for names in pairs.values() for name in names}, key=_hash):
        having = {
            language: _words_of_pair((concept, names[concept])) for language, names in pairs.items() if concept in names
        }
        split = "train"
        phrases = (concept, *(pairs[language][concept] for language in having))
        if all(len(words(phrase)) > 1 for phrase in phrases) and all(
            counts[lang][word] > 1 for lang, both in having.items() for word in both
        ):
            held_out += 1
            split = "dev" if held_out % 4 == 0 else "test"
        for language, both in having.items():
            splits[split][language][concept] = pairs[language][concept]
            if split != "train":
                counts[language].subtract(both)
    return NameSplits(**splits, left_out={language: left_out for language, (_, left_out) in found.items()})


def write_names(folder: Path, splits: NameSplits) -> None:
    """Write bitext (`<lang>.train.tsv`, `<lang>.dev.tsv`) and a BEIR collection of the held-out phrases to one folder.

    Files of an earlier call are replaced. The collection's documents are all English names, in training or not; its
    split is test. `en.txt` has them one per line.

    Raises:
      ConfigError: the folder has other contents.
    """
    source = folder / "SOURCE.txt"
    if folder.is_dir() and any(folder.iterdir()):
        if not source.is_file() or source.read_text(encoding="utf-8") != SOURCE + "\n":
            raise ConfigError(f"{folder} has other files, which would be overwritten; name a new folder")
        # Ids of names differ between calls, so files of languages of an earlier call would not match.
        for pattern in ("*.train.tsv", "*.dev.tsv", "queries.*.jsonl"):
            for old in folder.glob(pattern):
                old.unlink()
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    _write(source, [SOURCE])
    every = [names for split in (splits.train, splits.dev, splits.test) for names in split.values()]
    ids = {name: f"n{n:04d}" for n, name in enumerate(sorted({name for names in every for name in names}))}
    _write(folder / "en.txt", ids)
    for split, by_language in (("train", splits.train), ("dev", splits.dev)):
        for language, names in by_language.items():
            _write(folder / f"{language}.{split}.tsv", (f"{ours}\t{theirs}" for ours, theirs in names.items()))
    _write(folder / "corpus.jsonl", (_json(number, name) for name, number in ids.items()))
    for language, names in splits.test.items():
        lines = (_json(ids[ours], theirs) for ours, theirs in names.items())
        _write(folder / f"queries.{language}.jsonl", lines)
    judged = sorted({ids[name] for names in splits.test.values() for name in names})
    _write(folder / "qrels" / "test.tsv", ["query-id\tcorpus-id\tscore", *(f"{n}\t{n}\t1" for n in judged)])


SOURCE = (
    "Names from Unicode CLDR as the Python package Babel carries them. Licence: Unicode-3.0 (unicode.org/license.txt)."
)


def _write(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _json(number: str, text: str) -> str:
    return json.dumps({"_id": number, "text": text}, ensure_ascii=False)


def _words_of_pair(pair: tuple[str, str]) -> set[str]:
    return {f"{side} {word}" for side, text in zip(("en", "xx"), pair, strict=True) for word in words(text)}


def _hash(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()

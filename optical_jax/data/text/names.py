"""Names of languages, places, money and hours in some hundred languages: free bitext for a first try.

Unicode's CLDR has them, Babel carries them (extra `demo`; licence Unicode-3.0). They are real translations, made by
people, short and alike, so that one can hold out phrases whose words are known: "Samara Summer Time" where "Samara
Time" and "Tonga Summer Time" were seen.
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
"""Where CLDR's code is not ours: it has Tagalog under Filipino."""
KINDS = ("languages", "territories", "scripts", "variants", "currencies")
NEARLY_EQUAL = 0.7
"""Two sides this alike (difflib's ratio of their letters) teach nothing but copying: Kanada, Canada."""
SPLITS = ("train", "dev", "test")

WORD_GAPS = re.compile(r"[\s\u2013/-]+")

Names = dict[str, str]
"""English name -> name in another language."""


@dataclass(frozen=True)
class NameSplits:
    """Language -> pairs, by split. A concept (an English name) stands in one split, the same in all languages."""

    train: dict[str, Names]
    dev: dict[str, Names]
    test: dict[str, Names]
    left_out: dict[str, Counter[str]]
    """Language -> reason -> names that are not used."""


def read_names(language: str) -> dict[str, str]:
    """CLDR's names of one language, by their keys.

    Raises:
      ConfigError: Babel is missing, or it has no such language.
    """
    try:
        from babel import Locale, UnknownLocaleError
    except ImportError:
        raise ConfigError("names come with Babel, which is not installed; pip install -e '.[demo]'") from None
    try:
        locale = Locale.parse(LOCALES.get(language, language), sep="-")
    except (UnknownLocaleError, ValueError):
        raise ConfigError(f"lang={language}: CLDR has no such language; give an ISO 639 code such as sw") from None
    names = {f"{kind}.{key}": str(text) for kind in KINDS for key, text in getattr(locale, kind).items()}
    for zone, forms in locale.meta_zones.items():
        names |= {f"zones.{zone}.{form}": str(text) for form, text in forms.get("long", {}).items()}
    return names


def words(text: str) -> list[str]:
    """What must have been seen: a text's words by their letters, parted at spaces and hyphens.

    >>> words("Samara-Sommerzeit (UTC)")
    ['samara', 'sommerzeit', 'utc']
    """
    return [key for word in WORD_GAPS.split(text) if any(map(str.isalnum, word)) and (key := text_key(word))]


def nearly_equal(a: str, b: str) -> bool:
    return SequenceMatcher(None, text_key(a), text_key(b), autojunk=False).ratio() >= NEARLY_EQUAL


def usable_pairs(english: Mapping[str, str], foreign: Mapping[str, str]) -> tuple[Names, Counter[str]]:
    """English name -> foreign name, and how many were left out why.

    One English name has one translation, and one translation one English name: the first in the order of the keys.
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
    """CLDR's English names, those that differ in case or punctuation alone written alike."""
    names, first = read_names("en"), {}
    return {key: first.setdefault(text_key(name), name) for key, name in sorted(names.items())}


def split_names(languages: Sequence[str]) -> NameSplits:
    """Hold out phrases by combination.

    A concept is held out if, in every language that has it, it has several words on both sides, each of which still
    stands in a training pair of that language. Which ones are tried first is decided by a hash of the English name;
    every fourth that can be held out is for dev, the others for test.

    Raises:
      ConfigError: as `read_names`; or a language has no pair to learn from.
    """
    english = english_concepts()
    found = {language: usable_pairs(english, read_names(language)) for language in languages}
    pairs = {language: names for language, (names, _) in found.items()}
    for language, names in pairs.items():
        if not names:
            raise ConfigError(f"lang={language}: CLDR has no names in it that differ from the English; take another")
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
    """Bitext (`<lang>.train.tsv`, `<lang>.dev.tsv`) and a collection of the held-out phrases in one folder.

    What an earlier call wrote there is replaced. The collection's documents are all English names, trained on or not;
    its split is called test. `en.txt` has them a line each.

    Raises:
      ConfigError: the folder holds something else.
    """
    source = folder / "SOURCE.txt"
    if folder.is_dir() and any(folder.iterdir()):
        if not source.is_file() or source.read_text(encoding="utf-8") != SOURCE + "\n":
            raise ConfigError(f"{folder} holds files of yours, which would be written over; name a new folder")
        # Numbers of names differ from call to call: a language of an earlier one would be judged by this one's.
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

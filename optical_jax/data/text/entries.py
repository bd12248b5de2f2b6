"""Parsing of data.bitext entries: LANG=PATH, Moses pairs, captions:FOLDER."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from optical_jax.config import Config, expand_variables
from optical_jax.data.files.finding import not_a_file
from optical_jax.data.files.records import LANGUAGE
from optical_jax.data.text.formats import FILE_NAME, Source
from optical_jax.data.text.parquet import DEV_SPLITS, data_set_splits
from optical_jax.errors import ConfigError, DataError

ENTRY = re.compile(rf"(?:(?P<lang>{LANGUAGE})=)?(?P<path>.+)")
LABELLED = re.compile(r"(?P<label>[^/=]+)=.+")
PREFIX = re.compile(rf"(?P<prefix>(?:{LANGUAGE}=)?(?:(?:captions|keywords)(?:/[^:/]+)?:)?)(?P<path>.+)", re.DOTALL)
CAPTIONS = re.compile(r"(?P<what>captions|keywords)(?:/(?P<split>[^:/]+))?:(?P<spec>.+)")
"""captions:SPEC or captions/SPLIT:SPEC, a set of captioned images; or keywords:SPEC, their keywords."""
NO_BITEXT = "data.bitext is empty; name at least one file: --data.bitext sw=FILE"


def parse_entry(entry: str, field: str) -> Source:
    """Parse an entry of data.bitext or data.dev into a source; `$NAME` is expanded from the environment.

    Raises:
      ConfigError: the language is missing, or a variable is not set.
      DataError: a file is missing.
    """
    match = ENTRY.fullmatch(_expanded(entry, field))
    if not match:
        raise ConfigError(f"{field}={entry} has no file; write LANG=FILE")
    if captions := CAPTIONS.fullmatch(match["path"]):
        return _caption_source(captions, match["lang"] or "", entry, field)
    whole, part = _path_and_part(match["path"])
    labelled = None if match["lang"] or whole.exists() else LABELLED.fullmatch(match["path"])
    if labelled:
        raise ConfigError(
            f"{field}={entry}: {labelled['label']} is not a language code; "
            "write two or three letters of ISO 639, as in sw=FILE"
        )
    paths = (whole,)
    if "," in match["path"] and not whole.exists():
        paths = tuple(Path(os.path.expanduser(path)) for path in match["path"].split(","))
        if len(paths) != 2 or not match["lang"]:
            raise ConfigError(f"{field}={entry}: a Moses pair is written LANG=ENGLISH_FILE,FOREIGN_FILE")
    named = FILE_NAME.fullmatch(whole.name)
    language = match["lang"] or (named["lang"] if named else "")
    if not language:
        raise ConfigError(f"{field}={entry}: no language; name the file LANG.SPLIT.tsv[.gz], or write LANG={entry}")
    _check_language(language, entry, field)
    if len(paths) == 1 and whole.is_dir() and (splits := data_set_splits(whole)):
        return Source(language, paths, _split(splits, part, entry, field))
    for path in paths:
        if not path.is_file():
            what = not_a_file(path)
            captions = any(path.glob("captions.*"))
            remedy = f"; for the captions in it write {language}=captions:{match['path']}" if captions else ""
            raise DataError(f"{path}: {what} ({field}={entry}){remedy}")
    return Source(language, paths, part)


def _split(splits: Collection[str], named: str, entry: str, field: str) -> str:
    """Split of a data set's folder: the one named, the only one, or the one that the field is for."""
    wanted = (named,) if named else DEV_SPLITS if field == "data.dev" else ("train",)
    if not named and len(splits) == 1:
        return next(iter(splits))
    if found := [split for split in wanted if split in splits]:
        return found[0]
    there = sorted(splits)
    raise ConfigError(f"{field}={entry}: no split {wanted[0]}; name one of {', '.join(there)}, as in FOLDER#{there[0]}")


def _expanded(entry: str, field: str) -> str:
    """An entry with its variables expanded, but in names of files that exist: each path of it by itself."""
    match = PREFIX.fullmatch(entry)
    if not match or os.path.lexists(os.path.expanduser(match["path"])):
        return entry
    paths = [expand_variables(path, field) for path in match["path"].split(",")]
    return match["prefix"] + ",".join(paths)


def _path_and_part(path: str) -> tuple[Path, str]:
    """A path, and what follows its last # (a sheet, member or split) unless a file has that name."""
    whole = Path(os.path.expanduser(path))
    before, _, part = path.rpartition("#")
    if not before or whole.exists():
        return whole, ""
    return Path(os.path.expanduser(before)), part


def _check_language(language: str, entry: str, field: str) -> None:
    if not language.partition("-")[0].partition("_")[0].islower():
        raise ConfigError(f"{field}={entry}: language {language} is not in lower case; write {language.lower()}=FILE")


def _caption_source(found: re.Match[str], language: str, entry: str, field: str) -> Source:
    from optical_jax.data.text.caption_pairs import CaptionSource

    if not language:
        raise ConfigError(f"{field}={entry}: no language for the {found['what']}; write LANG={entry}")
    _check_language(language, entry, field)
    name, colon, roots = found["spec"].rpartition(":")
    folders = [os.path.expanduser(root) for root in roots.split(",")]
    for folder in folders:
        if not Path(folder).is_dir():
            raise DataError(f"{folder}: no such folder ({field}={entry})")
    split = found["split"] or ("dev" if field == "data.dev" else "train")
    spec, keywords = name + colon + ",".join(folders), found["what"] == "keywords"
    return CaptionSource(language, (), spec=spec, split=split, alone=bool(found["split"]), keywords=keywords)


def for_each_language(cfg: Config) -> dict[str, Config]:
    """Split a config into one per language, each with that language's files alone and the run folder RUN/LANG.

    Args:
      cfg: of one student for all languages; data.weights, meaningless for one language, is dropped.

    Raises:
      ConfigError, DataError: as `parse_entry`.
    """
    names = ("bitext", "dev", "lexicon")
    entries = [
        (name, entry, parse_entry(entry, f"data.{name}").language)
        for name in names
        for entry in getattr(cfg.data, name)
    ]
    found = {}
    for language in dict.fromkeys(language for name, _, language in entries if name == "bitext"):
        own = {name: tuple(entry for kind, entry, of in entries if (kind, of) == (name, language)) for name in names}
        run = f"{cfg.run}/{language}" if cfg.run else ""
        found[language] = replace(cfg, run=run, data=replace(cfg.data, weights=(), **own))
    return found

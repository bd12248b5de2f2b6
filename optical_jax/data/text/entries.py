"""Entries of data.bitext: LANG=PATH, captions:FOLDER and folders."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

from optical_jax.config import Config, expand_variables
from optical_jax.data.files.records import LANGUAGE
from optical_jax.data.text.formats import FILE_NAME, Source
from optical_jax.errors import ConfigError, DataError

ENTRY = re.compile(rf"(?:(?P<lang>{LANGUAGE})=)?(?P<path>.+)")
LABELLED = re.compile(r"(?P<label>[^/=]+)=.+")
CAPTIONS = re.compile(r"(?P<what>captions|keywords)(?:/(?P<split>[^:/]+))?:(?P<spec>.+)")
"""captions:SPEC or captions/SPLIT:SPEC, a set of pictures with captions; or their keywords."""


def parse_entry(entry: str, field: str) -> Source:
    """What one entry of data.bitext or data.dev names; `$NAME` in it is replaced from the environment.

    Raises:
      ConfigError: the language is not to be seen, or a variable is not set.
      DataError: a file is missing.
    """
    match = ENTRY.fullmatch(expand_variables(entry, field))
    if not match:
        raise ConfigError(f"{field}={entry}: no file named; write LANG=FILE")
    if captions := CAPTIONS.fullmatch(match["path"]):
        return _caption_source(captions, match["lang"] or "", entry, field)
    whole = Path(os.path.expanduser(match["path"]))
    labelled = None if match["lang"] or whole.exists() else LABELLED.fullmatch(match["path"])
    if labelled:
        raise ConfigError(
            f"{field}={entry}: {labelled['label']} is no language code; "
            "write two or three letters of ISO 639, as in sw=FILE"
        )
    paths = (whole,)
    if "," in match["path"] and not whole.exists():
        paths = tuple(Path(os.path.expanduser(part)) for part in match["path"].split(","))
        if len(paths) != 2 or not match["lang"]:
            raise ConfigError(f"{field}={entry}: a Moses pair is written LANG=ENGLISH_FILE,FOREIGN_FILE")
    named = FILE_NAME.fullmatch(whole.name)
    language = match["lang"] or (named["lang"] if named else "")
    if not language:
        raise ConfigError(f"{field}={entry}: no language; name the file LANG.SPLIT.tsv[.gz], or write LANG={entry}")
    _check_language(language, entry, field)
    for path in paths:
        if not path.is_file():
            what = "is a folder, not a file" if path.is_dir() else "no such file"
            captions = any(path.glob("captions.*"))
            remedy = f"; for the captions in it write {language}=captions:{match['path']}" if captions else ""
            raise DataError(f"{path}: {what} ({field}={entry}){remedy}")
    return Source(language, paths)


def _check_language(language: str, entry: str, field: str) -> None:
    if not language.partition("-")[0].partition("_")[0].islower():
        raise ConfigError(
            f"{field}={entry}: language {language} is not in small letters; write {language.lower()}=FILE"
        )


def _caption_source(found: re.Match[str], language: str, entry: str, field: str) -> Source:
    from optical_jax.data.text.caption_pairs import CaptionSource

    if not language:
        raise ConfigError(f"{field}={entry}: {found['what']} are there in several languages; write LANG={entry}")
    _check_language(language, entry, field)
    name, colon, roots = found["spec"].rpartition(":")
    folders = [os.path.expanduser(root) for root in roots.split(",")]
    for folder in folders:
        if not Path(folder).is_dir():
            raise DataError(f"{folder}: no such folder ({field}={entry})")
    split = found["split"] or ("dev" if field == "data.dev" else "train")
    spec, keywords = name + colon + ",".join(folders), found["what"] == "keywords"
    return CaptionSource(language, (), spec, split, alone=bool(found["split"]), keywords=keywords)


def for_each_language(cfg: Config) -> dict[str, Config]:
    """One student a language: the config with the files of each language alone, and a run folder RUN/LANG.

    Args:
      cfg: of one student for all; data.weights, which have no meaning for one language, are left out.

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

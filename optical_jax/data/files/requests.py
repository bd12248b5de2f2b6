"""Requests for public data sets: ``NAME:FOLDER``, a split and languages, each checked against what the set has."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from optical_jax.data.files.finding import FileFinder
from optical_jax.errors import ConfigError, DataError

NAMED = re.compile(r"(?P<name>[a-z][a-z0-9_-]+(?:/[A-Za-z_-]+)?):(?P<folders>.+)")
SPLIT_ALIASES = {"dev": "val"}
"""Split names of this project -> those of public sets."""


class UnknownPartError(ConfigError):
    """A data set never has such a split, or nothing in such a language."""


class MissingPartError(DataError):
    """The files of a split, or of a language in it, are missing on this machine."""


def parse_spec(spec: str) -> tuple[str, list[str]]:
    """Split ``NAME[/LANG]:FOLDER[,FOLDER...]`` into ``NAME[/LANG]`` and the folders; the name of a path is empty."""
    named = None if Path(spec).exists() else NAMED.fullmatch(spec)
    return (named["name"] if named else ""), (named["folders"] if named else spec).split(",")


@dataclass(frozen=True)
class SourceRequest:
    """A split of a public data set, in some languages, to be read from some folders."""

    spec: str
    """As the user wrote it."""
    name: str
    """Of the layout."""
    files: FileFinder
    split: str
    languages: Sequence[str]
    """Of the queries or captions; empty for all that the set has."""
    kind: str = "queries"
    """What the languages are of, for messages."""
    document_language: str = ""
    """Of a collection; empty where the user did not name it."""
    text_only: bool = False
    """Of an image set: read captions without images."""

    def split_of(self, known: Sequence[str]) -> str:
        """The split as the data set calls it.

        Raises:
          UnknownPartError: not among `known`.
        """
        for name in (self.split, SPLIT_ALIASES.get(self.split, self.split)):
            if name in known:
                return name
        raise UnknownPartError(f"split={self.split}: {self.spec} has {', '.join(known)}")

    def languages_of(self, known: Iterable[str]) -> list[str]:
        """The requested languages, or all of `known` if none was requested.

        Raises:
          UnknownPartError: one is not among `known`.
        """
        there = list(known)
        for language in self.languages:
            if language not in there:
                raise UnknownPartError(f"lang={language}: {self.spec} has {self.kind} in {', '.join(there)}")
        return list(self.languages or there)

    def documents_in(self, known: Sequence[str]) -> str:
        """The language of the documents, which must be named.

        Raises:
          ConfigError: not named, or not among `known`.
        """
        if self.document_language not in known:
            given = f"there are no documents in {self.document_language!r}" if self.document_language else "name one"
            raise ConfigError(
                f"collection={self.spec}: {given}; {self.name} has documents in {', '.join(known)}: "
                f"write {self.name}/{known[-1]}:FOLDER"
            )
        return self.document_language

    def of_split(self, what: str, *patterns: str) -> list[Path]:
        """The files that hold a split, as `FileFinder.some` finds them.

        Raises:
          MissingPartError: there are none.
        """
        try:
            return self.files.some(what, *patterns)
        except DataError as error:
            raise MissingPartError(str(error)) from None

"""What is asked of a public collection, and the refusals that need none of its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from optical_jax.data.collections.collection import CollectionFiles
from optical_jax.data.files.finding import FileFinder
from optical_jax.data.files.records import Entry, Judgement, Stream
from optical_jax.errors import ConfigError


@dataclass(frozen=True)
class Request:
    """What is asked of a collection."""

    spec: str
    """As the user wrote it."""
    name: str
    files: FileFinder
    split: str
    languages: Sequence[str]
    """Of the queries; none leaves it to the collection."""
    document_language: str
    """Empty where the user did not name it."""

    def documents_in(self, known: Sequence[str]) -> str:
        """The language of the documents, which must be named.

        Raises:
          ConfigError: it is not, or is none of `known`.
        """
        if self.document_language not in known:
            given = f"there are no documents in {self.document_language!r}" if self.document_language else "name one"
            raise ConfigError(
                f"collection={self.spec}: {given}; {self.name} has documents in {', '.join(known)}: "
                f"write {self.name}/{known[-1]}:FOLDER"
            )
        return self.document_language

    def queries_in(self, known: Sequence[str]) -> list[str]:
        """The languages of the queries; all of `known` where none is named.

        Raises:
          ConfigError: one is none of `known`.
        """
        for language in self.languages:
            if language not in known:
                raise ConfigError(f"lang={language}: {self.spec} has queries in {', '.join(known)}")
        return list(self.languages or known)

    def split_of(self, known: Sequence[str]) -> str:
        """The split.

        Raises:
          ConfigError: it is none of `known`.
        """
        if self.split not in known:
            raise ConfigError(f"split={self.split}: {self.spec} has {', '.join(known)}")
        return self.split


def collection(
    ask: Request,
    documents: Stream[Entry],
    queries: Mapping[str, Stream[Entry]],
    judgements: Stream[Judgement],
    language: str,
    *,
    english: Stream[Entry] | None = None,
    triples: Path | None = None,
) -> CollectionFiles:
    """The collection asked for, named after itself and the language of its documents where there are several."""
    name = f"{ask.name}-{language}" if ask.document_language else ask.name
    roots = tuple(ask.files.folders)
    return CollectionFiles(name, ask.split, documents, queries, judgements, english, language, roots, triples)

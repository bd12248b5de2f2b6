"""The bitext that a run learned from, by its config.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from optical_jax.config import DataConfig
from optical_jax.errors import ConfigError, DataError

if TYPE_CHECKING:
    from optical_jax.data.collections.collection import Collection
    from optical_jax.data.text.bitext import Bitext


def saved_data(saved: Mapping[str, Any]) -> DataConfig:
    """Its settings.

    Raises:
      ConfigError: a run of another version.
    """
    try:
        settings: dict[str, Any] = {name: tuple(x) if isinstance(x, list) else x for name, x in saved["data"].items()}
        return DataConfig(**settings)
    except (KeyError, TypeError) as error:
        raise ConfigError(f"config.json is not of this version ({error}); take the version it was made with") from None


def read_training_text(saved: Mapping[str, Any], lost: str) -> dict[str, Bitext] | None:
    """The pairs a run was trained on; where they can no longer be read None, and on stdout what is `lost`, and why."""
    from optical_jax.data.text.bitext import load_bitext

    try:
        return load_bitext(saved_data(saved)).train
    except (ConfigError, DataError) as error:
        print(f"{lost}: {error}")
        return None


def asked_and_judged(collection: Collection) -> list[str]:
    """Queries and the documents judged for them: a document that no query looks for is no answer learned."""
    judged = {document for grades in collection.qrels.values() for document in grades}
    return [
        *(collection.documents[document] for document in judged),
        *(text for queries in collection.queries.values() for text in queries.values()),
    ]


def shared_with_training(train: Mapping[str, Bitext], texts: Sequence[str], where: str) -> dict[str, int]:
    """How many training pairs of each language share a text with these, told on stdout.

    Args:
      where: what the texts are, for people.
    """
    from optical_jax.data.text.bitext import overlap

    shared = overlap(train, texts)
    for language, count in shared.items():
        print(f"training text: {count:,} of {len(train[language]):,} {language} pairs share a text with {where}")
    return shared

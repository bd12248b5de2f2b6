"""The bitext that a run learned from, by its config.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from optical_jax.config import DataConfig
from optical_jax.errors import ConfigError, DataError

if TYPE_CHECKING:
    from optical_jax.data.bitext import Bitext
    from optical_jax.data.collection import Collection


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


def read_training_text(saved: Mapping[str, Any], collection: Collection) -> dict[str, Bitext] | None:
    """The pairs a run was trained on; None, and a line on stdout, where they can no longer be read."""
    from optical_jax.data.bitext import load_bitext

    try:
        return load_bitext(saved_data(saved)).train
    except (ConfigError, DataError) as error:
        print(f"training text could not be checked against {collection.name}, nor counted as a dictionary: {error}")
        return None


def shared_with_training(train: Mapping[str, Bitext], collection: Collection) -> dict[str, int]:
    """How many training pairs share a sentence with the collection, told on stdout.

    What counts are queries and the documents judged for them: a document that no query looks for is no answer learned.
    """
    from optical_jax.data.bitext import overlap

    judged = {document for grades in collection.qrels.values() for document in grades}
    texts = [
        *(collection.documents[document] for document in judged),
        *(text for queries in collection.queries.values() for text in queries.values()),
    ]
    shared = overlap(train, texts)
    for language, count in shared.items():
        print(
            f"training text: {count:,} of {len(train[language]):,} {language} pairs share a text with the queries of "
            f"{collection.name} or their documents"
        )
    return shared

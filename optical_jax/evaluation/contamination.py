"""How many texts of a collection the training has seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optical_jax.data.collections.collection import Collection
    from optical_jax.data.text.bitext import Bitext


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

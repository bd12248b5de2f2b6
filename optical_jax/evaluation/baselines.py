"""Lexical and translation baselines of `eval.py`: BM25, BM25 through a dictionary, and machine-translated queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from optical_jax.errors import ConfigError, DataError
from optical_jax.evaluation.options import parse_translations

if TYPE_CHECKING:
    from optical_jax.data.collections.collection import Collection
    from optical_jax.data.text.bitext import Bitext
    from optical_jax.retrieval.dictionary import Lexicon
    from optical_jax.retrieval.search import Ranking

Queries = dict[str, dict[str, str]]
"""Language -> query id -> text."""


def read_translations(entries: Sequence[str], collection: Collection) -> Queries:
    """Read English translations of the judged queries: JSONL (`_id`, `text`) or TSV (id, text), by the file name.

    Raises:
      ConfigError: the collection has no queries in a language, or its documents are not English.
      DataError: a file is missing or malformed, or lacks a judged query.
    """
    from optical_jax.data.collections.collection import read_texts
    from optical_jax.data.files.records import BadLines, tsv_texts, unique_texts

    translated: Queries = {}
    for language, path in parse_translations(entries).items():
        if language not in collection.queries:
            known = ", ".join(collection.queries)
            raise ConfigError(f"translations={language}={path}: {collection.name} has judged queries in {known}")
        if collection.document_language != "en":
            raise ConfigError(
                f"translations={language}={path}: the documents of {collection.name} are in "
                f"{collection.document_language}, and translations are English"
            )
        if not path.is_file():
            raise DataError(f"{path}: no such file (translations={language}={path})")
        jsonl = path.name.removesuffix(".gz").endswith(".jsonl")
        texts = dict(
            read_texts(path, "query") if jsonl else unique_texts(tsv_texts(path, "query"), "query", BadLines())
        )
        lacking = [query for query in collection.queries[language] if query not in texts]
        if lacking:
            raise DataError(f"{path} lacks {len(lacking)} of the judged {language} queries, such as {lacking[0]!r}")
        translated[language] = {query: texts[query] for query in collection.queries[language]}
    return translated


def count_lexicons(train: Mapping[str, Bitext], collection: Collection) -> dict[str, Lexicon]:
    """Dictionary of each query language, counted in the run's training pairs; untrained languages have none."""
    from optical_jax.retrieval.dictionary import count_lexicon

    if collection.document_language != "en":
        return {}
    return {
        language: count_lexicon(train[language].english, train[language].foreign)
        for language in collection.queries
        if language in train
    }


def fuse_with_dictionary(
    rankings: Mapping[tuple[str, str], Ranking], system: str, ids: Sequence[str]
) -> dict[tuple[str, str], Ranking]:
    """Reciprocal rank fusion of the system's rankings with the dictionary's: ("fused", language) -> ranking.

    Args:
      rankings: of both, by (system, language); languages without a dictionary ranking are left out.
      ids: document ids.
    """
    from optical_jax.retrieval.fusion import reciprocal_rank_fusion

    return {
        ("fused", language): reciprocal_rank_fusion([rankings[system, language], found], ids)
        for (name, language), found in rankings.items()
        if name == "dictionary"
    }


def rank_by_words(
    collection: Collection, translated: Queries, lexicons: Mapping[str, Lexicon]
) -> dict[tuple[str, str], Ranking]:
    """BM25 rankings, by (system, language): bm25 of the queries, mt-bm25 of translations, dictionary word by word."""
    from optical_jax.retrieval.bm25 import make_bm25
    from optical_jax.retrieval.dictionary import make_dictionary_bm25

    bm25 = make_bm25(collection.documents)
    asked = {("bm25", language): queries for language, queries in collection.queries.items()}
    asked |= {("mt-bm25", language): queries for language, queries in translated.items()}
    found = {which: bm25(list(queries.values())) for which, queries in asked.items()}
    if lexicons:
        by_dictionary = make_dictionary_bm25(collection.documents)
        found |= {
            ("dictionary", language): by_dictionary(list(collection.queries[language].values()), lexicon)
            for language, lexicon in lexicons.items()
        }
    return found

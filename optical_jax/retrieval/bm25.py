"""BM25 baseline over untranslated words: matches only words that both languages share."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

import bm25s
import numpy as np

from optical_jax.data.text.folding import words
from optical_jax.retrieval.search import DEPTH, Ranking, TopDocuments, ranks_of_ids


def make_bm25(documents: Mapping[str, str], depth: int = DEPTH) -> Callable[[Sequence[str]], Ranking]:
    """Index documents (id -> text) for BM25 (Lucene's, k1 1.5, b 0.75); the function returned ranks them for queries.

    Documents that share no word with the query are not returned.
    """
    ids, texts = list(documents), [words(text) for text in documents.values()]
    positions = np.arange(len(ids))
    # It logs at DEBUG by default, whatever the application's level.
    logging.getLogger("bm25s").setLevel(logging.WARNING)
    index = bm25s.BM25()
    # bm25s cannot index a collection without any word, such as one of punctuation alone.
    has_words = any(texts)
    if has_words:
        index.index(texts, show_progress=False)

    id_rank = ranks_of_ids(ids)

    def rank(queries: Sequence[str]) -> Ranking:
        top = TopDocuments(len(queries), id_rank, depth)
        for n, query in enumerate(queries):
            query_words = words(query)
            if query_words and has_words:
                scores = index.get_scores(query_words)
                top.add(np.array([n]), positions, np.where(scores > 0, scores, -np.inf)[None])
        return top.ranking()

    return rank

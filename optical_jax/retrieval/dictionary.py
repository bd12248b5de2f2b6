"""Dictionary query translation: a bilingual lexicon estimated from bitext, and BM25 over translated queries (PSQ)."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import scipy.sparse

from optical_jax.data.text.folding import words
from optical_jax.data.text.translation_table import mutual_translations
from optical_jax.retrieval.search import DEPTH, Ranking, TopDocuments, ranks_of_ids

K1, B = 1.5, 0.75
"""BM25 parameters, as in `bm25.make_bm25`."""
TRANSLATIONS = 8
MAX_CELLS = 10_000_000

Lexicon = Mapping[str, Mapping[str, float]]
"""Foreign word -> English word -> probability; the probabilities of a word sum to one."""


def count_lexicon(
    english: Sequence[str], foreign: Sequence[str], translations: int = TRANSLATIONS, max_cells: int = MAX_CELLS
) -> Lexicon:
    """Estimate a bilingual lexicon from sentence pairs by IBM Model 1: the most probable translations of every word.

    Args:
      english, foreign: the sides of the pairs.
      translations: number kept per word.
      max_cells: memory limit, in pairs of words (about 70 bytes each). A larger bitext is subsampled evenly.

    Source: `mutual_translations`, with its geometric mean.
    """
    to_english, e = _ids(english)
    to_foreign, f = _ids(foreign)
    table = mutual_translations(
        e,
        f,
        english_size=len(to_english),
        foreign_size=len(to_foreign),
        top=translations,
        power=0.5,
        max_cells=max_cells,
    )
    rows = zip(to_foreign, table.indptr, table.indptr[1:], strict=False)
    return {
        word: {to_english[table.indices[n]]: float(table.data[n]) for n in range(first, end)}
        for word, first, end in rows
        if end > first
    }


def _ids(texts: Sequence[str]) -> tuple[list[str], list[np.ndarray]]:
    """The vocabulary, and each text as word ids."""
    known: dict[str, int] = {}
    ids = [np.array([known.setdefault(word, len(known)) for word in words(text)], np.int64) for text in texts]
    return list(known), ids


def make_dictionary_bm25(
    documents: Mapping[str, str], depth: int = DEPTH
) -> Callable[[Sequence[str], Lexicon], Ranking]:
    """Index documents (id -> text) for probabilistic structured queries; the function returned ranks them.

    Term and document frequencies of a query word are those of its translations, weighted by probability; BM25 (Lucene's
    form) uses these counts. A word that the lexicon lacks is searched as it is, which finds names and numbers.
    Documents that match nothing are left out.

    Source: Darwish and Oard (SIGIR 2003), probabilistic structured queries; without probabilities Pirkola (SIGIR 1998).
    """
    ids = list(documents)
    known: dict[str, int] = {}
    terms, lengths = array("i"), np.zeros(len(ids), np.int64)
    for n, text in enumerate(documents.values()):
        found = words(text)
        lengths[n] = len(found)
        terms.extend(known.setdefault(word, len(known)) for word in found)
    of = np.repeat(np.arange(len(ids), dtype=np.int32), lengths)
    # Duplicate entries are summed, to term frequencies.
    entries = np.ones(len(terms), np.float32), (np.frombuffer(terms, np.int32), of)
    counts = scipy.sparse.csr_array(entries, shape=(len(known), len(ids)))  # [V, N]
    frequency = np.diff(counts.indptr)
    norms = K1 * (1 - B + B * lengths / max(lengths.mean() if len(ids) else 0.0, 1e-9))
    id_rank, positions = ranks_of_ids(ids), np.arange(len(ids))

    def score(query: str, lexicon: Lexicon) -> np.ndarray:
        scores = np.zeros(len(ids))
        for word, times in Counter(words(query)).items():
            meanings = {known[e]: p for e, p in lexicon.get(word, {word: 1.0}).items() if e in known}
            if not meanings:
                continue
            terms, weights = np.array(list(meanings)), np.array(list(meanings.values()))
            expected = counts[terms].T @ weights  # [N]
            there = np.flatnonzero(expected)
            df = float(weights @ frequency[terms])
            idf = np.log(1 + (len(ids) - df + 0.5) / (df + 0.5))
            scores[there] += times * idf * expected[there] / (expected[there] + norms[there])
        return scores

    def rank(queries: Sequence[str], lexicon: Lexicon) -> Ranking:
        top = TopDocuments(len(queries), id_rank, depth)
        for n, query in enumerate(queries):
            scores = score(query, lexicon)
            top.add(np.array([n]), positions, np.where(scores > 0, scores, -np.inf)[None])
        return top.ranking()

    return rank

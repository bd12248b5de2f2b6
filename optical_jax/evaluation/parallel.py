"""Retrieval over parallel text: each foreign sentence looks for its own English sentence. How runs watch themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np

from optical_jax.evaluation.scoring import maxsim
from optical_jax.types import Params, TokenVectors


def ranks_of_gold(scores: np.ndarray, gold: np.ndarray) -> np.ndarray:
    """Rank (1 = first) of each query's own document in scores [B, N]; a document that ties with it counts as before."""
    own = scores[np.arange(len(gold)), gold][:, None]
    return (scores >= own).sum(axis=1)


def rank_figures(ranks: np.ndarray) -> dict[str, float]:
    """R@1, R@10 and RR@10, each the mean over queries with one relevant document."""
    return {
        "R@1": float((ranks <= 1).mean()),
        "R@10": float((ranks <= 10).mean()),
        "RR@10": float(np.where(ranks <= 10, 1.0 / ranks, 0.0).mean()),
    }


def make_dev_evaluation(
    dev: Mapping[str, tuple[Sequence[str], Sequence[str]]],
    encode_queries: Callable[[Params, Sequence[str]], TokenVectors],
    encode_documents: Callable[[Sequence[str]], TokenVectors],
) -> Callable[[Params], dict[str, dict[str, float]]]:
    """A function from the student's parameters to figures per language.

    Args:
      dev: language -> (English sentences, foreign sentences), in the same order.
      encode_queries: the student, for given parameters.
      encode_documents: the teacher; called once for all its sentences, here.
    """
    score = jax.jit(maxsim)
    prepared = {}
    for language, (english, foreign) in dev.items():
        documents = list(dict.fromkeys(english))
        place = {text: n for n, text in enumerate(documents)}
        prepared[language] = (list(foreign), np.array([place[text] for text in english]), encode_documents(documents))

    def evaluate(params: Params) -> dict[str, dict[str, float]]:
        figures = {}
        for language, (queries, gold, documents) in prepared.items():
            scores = np.asarray(score(encode_queries(params, queries), documents))
            figures[language] = rank_figures(ranks_of_gold(scores, gold))
        return figures

    return evaluate

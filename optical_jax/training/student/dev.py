"""Dev retrieval over held-out bitext: each foreign sentence is a query for its own English sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Float

from optical_jax.retrieval.blocks import Block, blocks_of, chunks_of, hold, scores_of_block
from optical_jax.retrieval.search import encode_blocks
from optical_jax.types import Params, TokenVectors


def ranks_of_gold(scores: np.ndarray, gold: np.ndarray) -> np.ndarray:
    """Rank (1 = first) of each query's relevant document in scores [B, N]; ties count against it."""
    own = scores[np.arange(len(gold)), gold][:, None]
    return (scores >= own).sum(axis=1)


def rank_metrics(ranks: np.ndarray) -> dict[str, float]:
    """R@1, R@10 and RR@10, each the mean over queries with one relevant document."""
    return {
        "R@1": float((ranks <= 1).mean()),
        "R@10": float((ranks <= 10).mean()),
        "RR@10": float(np.where(ranks <= 10, 1.0 / ranks, 0.0).mean()),
    }


def make_dev_evaluation(
    dev: Mapping[str, tuple[Sequence[str], Sequence[str]]],
    encode_student: Callable[[Params, Sequence[str]], TokenVectors],
    encode_teacher: Callable[[Sequence[str]], TokenVectors],
    *,
    student_asks: bool = True,
) -> Callable[[Params], dict[str, dict[str, float]]]:
    """Dev retrieval as a function f(student's parameters) -> metrics by language.

    Sentences that languages share are encoded once, and held without padding in float16: many languages have many.

    Args:
      dev: language -> (English sentences, foreign sentences), in the same order.
      encode_student: for given parameters.
      encode_teacher: called here, and never again.
      student_asks: whether foreign sentences look for English ones, or English for foreign ones.
    """
    texts = list(dict.fromkeys(text for english, _ in dev.values() for text in english))
    vectors: dict[str, np.ndarray] = {}
    for block in encode_blocks(texts, encode_teacher):
        found, mask = np.asarray(block.vectors.vectors), np.asarray(block.vectors.mask)
        vectors.update(
            (texts[int(n)], found[row, mask[row]].astype(np.float16)) for row, n in enumerate(block.positions)
        )

    def evaluate(params: Params) -> dict[str, dict[str, float]]:
        figures = {}
        for language, (english, foreign) in dev.items():
            asked, held = (foreign, english) if student_asks else (english, foreign)
            documents = list(dict.fromkeys(held))
            place = {text: n for n, text in enumerate(documents)}
            learned = encode_blocks(
                list(foreign) if student_asks else documents, lambda batch: encode_student(params, batch)
            )
            known = blocks_of([vectors[text] for text in (documents if student_asks else asked)])
            queries, found = (list(learned), known) if student_asks else (list(known), learned)
            scores = score_all(queries, len(asked), found, len(documents))
            figures[language] = rank_metrics(ranks_of_gold(scores, np.array([place[text] for text in held])))
        return figures

    return evaluate


def score_all(queries: Sequence[Block], B: int, documents: Iterable[Block], N: int) -> Float[np.ndarray, "B N"]:
    """All scores [B, N] at once, for small collections."""
    scores = np.empty((B, N), np.float32)
    chunks = list(chunks_of(queries))
    for block in documents:
        held = hold(block, np.arange(N))
        for chunk in chunks:
            found = np.asarray(scores_of_block(chunk, held))
            real = found[: len(chunk.positions), : len(block.positions)]
            scores[np.ix_(chunk.positions, block.positions)] = real
    return scores

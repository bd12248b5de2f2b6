"""How a run watches itself: figures of dev pairs against a brute force, sentences that languages share encoded once."""

from contextlib import nullcontext

import jax
import numpy as np
import pytest

from optical_jax.config import MeshConfig
from optical_jax.partitioning import make_mesh
from optical_jax.retrieval import blocks
from optical_jax.training.student.dev import make_dev_evaluation, rank_metrics
from optical_jax.types import TokenVectors
from tests.retrieval.test_search import encode, some_texts


def ranks_by_hand(english: list[str], foreign: list[str]) -> np.ndarray:
    """Of each foreign sentence the rank of its own English one among the distinct; ties count as before it."""
    documents = list(dict.fromkeys(english))
    q, d = encode(foreign), encode(documents)
    ranks = []
    for n, own in enumerate(english):
        query = q.vectors[n][q.mask[n]]
        scores = [(query @ vectors[real].T).max(axis=1).sum() for vectors, real in zip(d.vectors, d.mask, strict=True)]
        ranks.append(sum(score >= scores[documents.index(own)] for score in scores))
    return np.array(ranks)


@pytest.mark.parametrize("mesh", [None, MeshConfig(data=4, fsdp=2)])
def test_dev_figures(monkeypatch, mesh):
    """Two languages with 30 English sentences in common; one of them has one twice."""
    monkeypatch.setattr(blocks, "BLOCK_TOKENS", {"cpu": 200, "other": 200})
    common, others = some_texts(30, seed=0), some_texts(25, seed=1)
    noise = np.random.default_rng(2)

    def foreign(texts):
        """Half the words of a sentence, and some of none."""
        return [" ".join([*text.split()[::2], *(f"w{n}" for n in noise.integers(0, 30, 3))]) for text in texts]

    dev = {
        "sw": (common, foreign(common)),
        "so": ([*others, *common, common[0]], foreign([*others, *common, common[0]])),
    }
    asked: list[str] = []
    seen: list[str] = []
    with jax.set_mesh(make_mesh(mesh)) if mesh else nullcontext():
        evaluate = make_dev_evaluation(
            dev,
            lambda params, texts: asked.extend(texts) or encode(texts),
            lambda texts: seen.extend(texts) or encode(texts),
        )
        assert sorted(seen) == sorted({*common, *others})
        figures = evaluate({})
    for language, (english, queries) in dev.items():
        ranks = ranks_by_hand(english, queries)
        assert figures[language] == pytest.approx(rank_metrics(ranks))
        assert 0.1 < figures[language]["R@1"] < 1.0
    assert sorted(asked) == sorted(dev["sw"][1] + dev["so"][1])


def test_english_sentences_look_for_foreign_ones():
    """Of a student that encodes documents: two foreign sentences that are one text are one document."""
    vectors = {"a": [1.0, 0.0], "b": [0.0, 1.0], "x": [0.9, 0.1], "y": [0.8, 0.6], "z": [0.1, 1.0]}

    def by_name(texts):
        return TokenVectors(np.array([[vectors[text]] for text in texts], np.float32), np.ones((len(texts), 1), bool))

    dev = {"sw": (["a", "a", "b"], ["x", "y", "y"])}
    evaluate = make_dev_evaluation(dev, lambda params, texts: by_name(texts), by_name, student_asks=False)
    # a finds x first and y second, b finds y before x.
    assert evaluate({})["sw"] == pytest.approx({"R@1": 2 / 3, "R@10": 1.0, "RR@10": (1 + 0.5 + 1) / 3})


def test_figures_by_hand():
    assert rank_metrics(np.array([1, 2, 10, 11])) == pytest.approx(
        {"R@1": 0.25, "R@10": 0.75, "RR@10": (1 + 0.5 + 0.1) / 4}
    )

"""Figures of text-image retrieval: by hand, and as ir-measures counts Success@k."""

import ir_measures
import numpy as np
import pytest
from ir_measures import Success

from optical_jax.evaluation.retrieval import mean_by_unit
from optical_jax.retrieval.image_metrics import (
    IMAGE_METRICS,
    RECALLS,
    first_ranks,
    mean_rank_variance,
    per_query_metrics,
    two_way_metrics,
)
from optical_jax.retrieval.metrics import group_means
from optical_jax.retrieval.search import Ranking, TopDocuments, ranks_of_ids
from optical_jax.retrieval.significance import compare_runs, randomisation_test


def ranking_of(*rows) -> Ranking:
    documents = np.array(rows)
    return Ranking(documents, -np.arange(documents.size, dtype=np.float32).reshape(documents.shape))


# ---- ranks -------------------------------------------------------------------------------------------------------


def test_the_first_of_several_right_documents_counts():
    ranking = ranking_of([2, 0, 3, 1], [0, 1, 2, 3], [3, 2, 1, 0])
    assert first_ranks(ranking, [[0, 1], {3}, (3, 2)], 4).tolist() == [2, 4, 1]


def test_a_right_document_without_a_vector_stands_last():
    """It was not scored, so the row is short: -1 fills it."""
    assert first_ranks(ranking_of([1, 2, -1, -1]), [[0]], 4).tolist() == [4]
    # The filler of one row is not the last document of the row before.
    assert first_ranks(ranking_of([1, 2, 3, -1], [0, -1, -1, -1]), [[3], [1]], 4).tolist() == [3, 4]


def test_a_rank_that_is_not_known_is_an_error():
    with pytest.raises(ValueError, match="below depth=2 of 4"):
        first_ranks(ranking_of([1, 2], [1, 2]), [[1], [3]], 4)
    assert first_ranks(ranking_of([1, 2], [1, 2]), [[1], [2]], 4).tolist() == [1, 2]


@pytest.mark.parametrize("right", [[[0]], [[0], []], [[0]] * 3])
def test_every_query_has_a_right_document(right):
    with pytest.raises(ValueError, match="2 queries need as many"):
        first_ranks(ranking_of([0, 1], [1, 0]), right, 2)


@pytest.mark.parametrize("levels", [1000, 3], ids=["scores", "ties"])
def test_recall_is_ir_measures_success(levels):
    rng = np.random.default_rng(0)
    queries, documents = 40, 30
    scores = np.float32(rng.integers(0, levels, (queries, documents)))
    right = [rng.choice(documents, rng.integers(1, 6), replace=False).tolist() for _ in range(queries)]
    ids = [f"d{n:02}" for n in rng.permutation(documents)]
    top = TopDocuments(queries, ranks_of_ids(ids))
    top.add(np.arange(queries), np.arange(documents), scores)
    names = [f"q{n}" for n in range(queries)]
    run = top.ranking().as_run(names, ids)
    qrels = {name: {ids[n]: 1 for n in each} for name, each in zip(names, right, strict=True)}
    ranks = first_ranks(top.ranking(), right, documents)
    found = per_query_metrics(dict(zip(names, ranks.tolist(), strict=True)))
    for metric in ir_measures.iter_calc([Success @ 1, Success @ 5, Success @ 10], qrels, run):
        name = str(metric.measure).replace("Success", "R")
        assert found[metric.query_id][name] == metric.value, (metric.query_id, name)


# ---- figures -----------------------------------------------------------------------------------------------------


def test_figures_of_both_ways_by_hand():
    """Captions at 1, 2, 6, 30; pictures at 1, 11."""
    t2i = per_query_metrics({"a": 1, "b": 2, "c": 6, "d": 30})
    assert t2i["c"] == {"R@1": 0.0, "R@5": 0.0, "R@10": 1.0, "rank": 6.0}
    figures = two_way_metrics(t2i, per_query_metrics({"x": 1, "y": 11}))
    assert figures == {
        "t2i R@1": 0.25, "t2i R@5": 0.5, "t2i R@10": 0.75, "t2i median_rank": 4.0, "t2i mean_rank": 9.75,
        "t2i queries": 4, "i2t R@1": 0.5, "i2t R@5": 0.5, "i2t R@10": 0.5, "i2t median_rank": 6.0,
        "i2t mean_rank": 6.0, "i2t queries": 2, "rSum": 300.0,
    }  # fmt: skip
    assert set(IMAGE_METRICS) <= set(figures)


def test_groups_are_the_setting_s_and_each_language_counts_once():
    def of(ranks):
        per_query = per_query_metrics({str(n): rank for n, rank in enumerate(ranks)})
        return two_way_metrics(per_query, per_query)

    languages = {"sw": of([1]), "so": of([20, 20, 20]), "de": of([1, 1])}
    groups = group_means(languages, ("sw", "so"), IMAGE_METRICS)
    assert groups["low"]["t2i R@1"] == 0.5
    assert groups["low"]["i2t mean_rank"] == 10.5
    assert groups["gap"]["rSum"] == pytest.approx(300.0)
    assert group_means(languages, (), IMAGE_METRICS)["low"] is None


def test_paired_tests_take_them():
    """Runs of 30 captions: the second finds twelve more at once, and nothing else changes."""
    before = {"sw": per_query_metrics({str(n): 2 for n in range(30)})}
    after = {"sw": per_query_metrics({str(n): 1 if n < 12 else 2 for n in range(30)})}
    tests = {test.metric: test for test in compare_runs(before, after, metrics=RECALLS)}
    assert list(tests) == ["R@1", "R@5", "R@10"]
    assert tests["R@1"].difference == pytest.approx(0.4)
    assert tests["R@1"].p_randomisation == randomisation_test(np.array([[1.0]] * 12 + [[0.0]] * 18))[0] < 0.01
    assert tests["R@5"].p_ttest == 1.0


# ---- across languages --------------------------------------------------------------------------------------------


def test_rank_variance_by_hand():
    """Ranks 1, 3, 5: variance 8/3. Ranks 2, 2, 2: none. The third picture is not asked for in Somali."""
    ranks = {"sw": {"a": 1, "b": 2, "c": 9}, "so": {"a": 3, "b": 2}, "de": {"a": 5, "b": 2, "c": 1}}
    assert mean_rank_variance(ranks) == {"MRV": pytest.approx(4 / 3), "languages": 3, "pictures": 2}


def test_rank_variance_needs_two_languages_and_a_shared_picture():
    assert mean_rank_variance({}) is None
    assert mean_rank_variance({"sw": {"a": 1}}) is None
    assert mean_rank_variance({"sw": {"a": 1}, "so": {"b": 1}}) is None


def test_captions_of_a_picture_are_averaged():
    picture_of = {"1": "a", "2": "a", "3": "b"}
    ranks = {caption: {"rank": rank} for caption, rank in {"1": 2.0, "2": 5.0, "3": 7.0}.items()}
    assert mean_by_unit(ranks, picture_of) == {"a": {"rank": 3.5}, "b": {"rank": 7.0}}

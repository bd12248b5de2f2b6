"""Paired tests against SciPy and by hand."""

import numpy as np
import pytest
from scipy import stats

from optical_jax.retrieval.metrics import METRICS
from optical_jax.retrieval.significance import compare_runs, holm, paired_ttest, randomisation_test


def test_few_queries_are_counted_through():
    """Against SciPy's exact permutation test of paired samples."""
    rng = np.random.default_rng(0)
    x, y = rng.random((8, 3)), rng.random((8, 3)) + np.array([0.0, 0.2, 0.5])
    expected = [
        stats.permutation_test(
            (y[:, m], x[:, m]), lambda a, b: np.mean(a - b), permutation_type="samples", n_resamples=np.inf
        ).pvalue
        for m in range(3)
    ]
    np.testing.assert_allclose(randomisation_test(y - x), expected)


def test_two_queries_by_hand():
    """Signs ++ and -- give a sum of 3, +- and -+ one of 1: half of them are as extreme as what was seen."""
    assert randomisation_test(np.array([[1.0], [2.0]])) == pytest.approx([0.5])


def test_many_queries_are_drawn_with_a_seed():
    rng = np.random.default_rng(1)
    differences = rng.standard_normal((200, 2)) + np.array([0.1, 0.0])
    p = randomisation_test(differences, seed=3)
    np.testing.assert_array_equal(p, randomisation_test(differences, seed=3))
    # The sum under random signs is nearly normal; 10,000 draws leave an error of at most 0.005.
    z = np.abs(differences.sum(axis=0)) / np.sqrt(np.square(differences).sum(axis=0))
    np.testing.assert_allclose(p, 2 * stats.norm.sf(z), atol=0.02)
    assert (randomisation_test(np.ones((200, 1))) == 1 / 10_001).all()


def test_runs_that_agree_do_not_differ():
    assert randomisation_test(np.zeros((300, 1))) == pytest.approx([1.0])
    assert paired_ttest(np.zeros((300, 1))) == pytest.approx([1.0])


def test_ttest():
    rng = np.random.default_rng(2)
    x, y = rng.random((30, 2)), rng.random((30, 2))
    np.testing.assert_allclose(paired_ttest(y - x), stats.ttest_rel(y, x).pvalue)
    assert paired_ttest(np.array([[0.5]])) == pytest.approx([1.0])
    assert paired_ttest(np.array([[0.4 - 0.3], [0.7 - 0.6]])) == pytest.approx([0.0])


def test_holm_by_hand():
    """0.01 x 4, 0.02 x 3, then 0.03 x 2 and 0.9 x 1; no value falls below one before it, none exceeds 1."""
    np.testing.assert_allclose(holm(np.array([0.9, 0.02, 0.01, 0.03])), [0.9, 0.06, 0.04, 0.06])
    np.testing.assert_allclose(holm(np.array([0.7, 0.6])), [1.0, 1.0])


def run_of(values: np.ndarray) -> dict[str, dict[str, float]]:
    return {f"q{i}": dict.fromkeys(METRICS, float(v)) for i, v in enumerate(values)}


def test_comparison_corrects_over_the_whole_table():
    rng = np.random.default_rng(4)
    sw, so = rng.random(40), rng.random(40)
    a = {"sw": run_of(sw), "so": run_of(so)}
    b = {"sw": run_of(sw + 0.3 + 0.1 * rng.random(40)), "so": run_of(so)}
    tests = compare_runs(a, b)
    assert [(t.language, t.metric) for t in tests] == [(lang, m) for lang in ("sw", "so") for m in METRICS]
    better, same = tests[0], tests[-1]
    assert better.difference == pytest.approx(better.mean_b - better.mean_a)
    assert 0.3 < better.difference < 0.4
    # 16 tests, of which the first 8 have the same smallest p: each times 16.
    assert better.p_randomisation_holm == pytest.approx(16 * better.p_randomisation)
    assert better.p_ttest_holm == pytest.approx(16 * better.p_ttest)
    assert (same.difference, same.p_randomisation_holm, same.p_ttest_holm) == (0.0, 1.0, 1.0)


def test_other_queries_cannot_be_paired():
    with pytest.raises(ValueError, match="queries of sw differ"):
        compare_runs({"sw": run_of(np.ones(2))}, {"sw": run_of(np.ones(3))})
    with pytest.raises(ValueError, match="languages differ: sw and so"):
        compare_runs({"sw": run_of(np.ones(2))}, {"so": run_of(np.ones(2))})

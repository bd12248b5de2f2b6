"""Significance of the difference of two runs: paired randomisation and t-tests over queries, Holm-corrected."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import stats

from optical_jax.retrieval.metrics import METRICS, PerQuery

ROUNDS = 10_000
"""Random sign flips; with few enough queries all are enumerated instead."""


@dataclass(frozen=True)
class PairedTest:
    """Paired tests of one metric in one language. The Holm-corrected p-values are over the whole table."""

    language: str
    metric: str
    queries: int
    mean_a: float
    mean_b: float
    difference: float
    """b - a."""
    p_randomisation: float
    p_randomisation_holm: float
    p_ttest: float
    p_ttest_holm: float


def compare_runs(
    a: Mapping[str, PerQuery], b: Mapping[str, PerQuery], seed: int = 0, metrics: Sequence[str] = METRICS
) -> list[PairedTest]:
    """Test the difference b - a of each of `metrics` in every language (language -> query -> metric -> value).

    Raises:
      ValueError: the two differ in languages or in queries.
    """
    if a.keys() != b.keys():
        raise ValueError(f"languages differ: {', '.join(a)} and {', '.join(b)}; evaluate both on the same")
    cells: list[tuple[str, str, int, float, float]] = []
    p_randomisation: list[float] = []
    p_ttest: list[float] = []
    for language in a:
        if a[language].keys() != b[language].keys():
            raise ValueError(f"queries of {language} differ; evaluate both on the same collection")
        x, y = (np.array([[run[language][q][m] for m in metrics] for q in a[language]]) for run in (a, b))
        cells += [(language, m, len(x), float(x[:, i].mean()), float(y[:, i].mean())) for i, m in enumerate(metrics)]
        p_randomisation += randomisation_test(y - x, seed).tolist()
        p_ttest += paired_ttest(y - x).tolist()
    adjusted = holm(np.array(p_randomisation)).tolist(), holm(np.array(p_ttest)).tolist()
    return [
        PairedTest(*cell, cell[4] - cell[3], *p_values)
        for cell, *p_values in zip(cells, p_randomisation, adjusted[0], p_ttest, adjusted[1], strict=True)
    ]


def randomisation_test(
    differences: Float[np.ndarray, "B M"], seed: int = 0, rounds: int = ROUNDS
) -> Float[np.ndarray, "M"]:
    """Paired randomisation test: two-sided p of each column's mean under random sign flips.

    Exact if all 2^B sign vectors are at most `rounds`; else sampled, with the observed one included.
    """
    queries = len(differences)
    exact = 2**queries <= rounds
    observed = np.abs(differences.sum(axis=0))
    # Tolerance for rounding: sums of the same numbers in another order count as equally extreme.
    bound = observed - 1e-9 * np.abs(differences).sum(axis=0)
    hits, drawn = np.zeros(differences.shape[1]), 0
    for signs in _all_signs(queries) if exact else _random_signs(queries, rounds, seed):
        hits += (np.abs(signs @ differences) >= bound).sum(axis=0)
        drawn += len(signs)
    return hits / drawn if exact else (hits + 1) / (drawn + 1)


def _all_signs(queries: int) -> Iterator[np.ndarray]:
    yield np.array(list(itertools.product((1.0, -1.0), repeat=queries)))


def _random_signs(queries: int, rounds: int, seed: int, block: int = 1000) -> Iterator[np.ndarray]:
    """In blocks, to bound memory for large query sets."""
    rng = np.random.default_rng(seed)
    for start in range(0, rounds, block):
        yield rng.integers(0, 2, size=(min(block, rounds - start), queries)) * 2.0 - 1.0


def paired_ttest(differences: Float[np.ndarray, "B M"]) -> Float[np.ndarray, "M"]:
    """Two-sided p of Student's paired t-test, per column.

    1 if all differences are zero, and for a single query.
    """
    # Differences that are equal up to rounding have no variance to divide by.
    varies = np.ptp(differences, axis=0) > 1e-12 * np.abs(differences).max(axis=0)
    p = np.where(np.any(differences != 0, axis=0) & (len(differences) > 1), 0.0, 1.0)
    if varies.any():
        _, p[varies] = stats.ttest_1samp(differences[:, varies], 0.0)
    return p


def holm(p: Float[np.ndarray, "N"]) -> Float[np.ndarray, "N"]:
    """Holm-Bonferroni adjusted p-values: below alpha means significant over all N tests."""
    order = np.argsort(p)
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(steps, 1.0)
    return adjusted

"""Retrieval metrics (nDCG@10, RR@10, R@k, AP) by ir-measures, per query and as means over queries and languages."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import ir_measures
from ir_measures import AP, RR, P, R, nDCG

from optical_jax.data.files.records import LARGEST_GRADE, faults_in_ids
from optical_jax.errors import DataError

MEASURES = {
    "AP": AP, "nDCG@10": nDCG @ 10, "RR@10": RR, "R@1": R @ 1, "R@5": R @ 5, "R@10": R @ 10, "R@100": R @ 100,
    "P@10": P @ 10,
}  # fmt: skip
"""Metric -> measure of ir-measures. A grade above 0 is relevant; the gain of nDCG is the grade itself."""
METRICS = tuple(MEASURES)

Run = Mapping[str, Mapping[str, float]]
"""Query id -> document id -> score."""
MetricValues = dict[str, float]
"""Metric -> value."""
PerQuery = dict[str, MetricValues]
"""Query id -> metric -> value."""


def evaluate_run(run: Run, qrels: Mapping[str, Mapping[str, int]]) -> PerQuery:
    """Metrics of every query of the qrels; one that is missing from the run, or has no grade above 0, counts as zero.

    Ties of scores are broken by document id, descending, as trec_eval does. A grade below 0 counts as 0.

    Raises:
      DataError: an id that is not valid (`id_fault`), or a grade above `LARGEST_GRADE`.
    """
    found: dict[str, MetricValues] = {query: {} for query in qrels}
    for metric in ir_measures.pytrec_eval.iter_calc(list(MEASURES.values()), checked(qrels, run), run):
        if metric.measure == RR:
            # RR@10 of ir-measures is from MS MARCO's script, which breaks ties the other way.
            found[metric.query_id]["RR@10"] = metric.value if metric.value >= 1 / 10 else 0.0
        else:
            found[metric.query_id][str(metric.measure)] = metric.value
    return {query: {name: figures[name] for name in METRICS} for query, figures in found.items()}


def checked(qrels: Mapping[str, Mapping[str, int]], run: Run) -> dict[str, dict[str, int]]:
    """The qrels as trec_eval can take them, which is written in C and checks nothing.

    It counts grades in an array with an entry a grade: one below 0 is written outside of it, a large one takes time and
    memory, and one beyond 32 bits is another number. Half a surrogate pair in an id is read as a null pointer.

    Raises:
      DataError: as `evaluate_run`.
    """
    for where, rows in (("qrels", qrels), ("run", run)):
        for ids in (rows, *rows.values()):
            if fault := faults_in_ids(ids):
                raise DataError(f"{where}: {fault}; give it another id")
    for query, grades in qrels.items():
        if max(grades.values(), default=0) > LARGEST_GRADE:
            raise DataError(f"qrels: query {query!r} has a grade above {LARGEST_GRADE:,}; use smaller grades")
    return {query: {name: max(grade, 0) for name, grade in grades.items()} for query, grades in qrels.items()}


def mean_metrics(per_query: Mapping[str, Mapping[str, float]]) -> MetricValues:
    """The mean of each metric over queries, and their number as "queries"."""
    means = {name: sum(figures[name] for figures in per_query.values()) / len(per_query) for name in METRICS}
    return means | {"queries": len(per_query)}


def group_means(
    languages: Mapping[str, MetricValues], low_resource: Collection[str], metrics: Sequence[str] = METRICS
) -> dict[str, MetricValues | None]:
    """Macro averages of `metrics` over low- and high-resource languages, and high - low ("gap").

    A group without languages is None, and so is the gap then.
    """

    def mean(group: list[MetricValues]) -> MetricValues | None:
        return {name: sum(figures[name] for figures in group) / len(group) for name in metrics} if group else None

    low = mean([figures for language, figures in languages.items() if language in low_resource])
    high = mean([figures for language, figures in languages.items() if language not in low_resource])
    gap = {name: high[name] - low[name] for name in metrics} if low and high else None
    return {"low": low, "high": high, "gap": gap}

"""Paired significance tests between the arms of a study: randomisation and t-test over queries, Holm correction."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from optical_jax.evaluation.report import read_per_query
from optical_jax.retrieval.significance import holm, paired_ttest, randomisation_test
from optical_jax.studies.design import Study, Task, reference_of
from optical_jax.studies.tables import TESTED, results_folder, scoring_of, table_names, tested_of

GROUPS = ("low", "high", "all")

MetricValues = Mapping[str, np.ndarray]
"""Query id -> metrics, in the order of the tested metrics."""


@dataclass(frozen=True)
class ArmTest:
    """Paired test of an arm against a reference; the unit is a query, averaged over seeds (in a group also over
    languages)."""

    collection: str
    scope: str
    """Group or language."""
    metric: str
    arm: str
    reference: str
    units: int
    languages: int
    seeds: int
    """Number of seeds that both arms have in every one of these languages."""
    difference: float
    """Mean of the arm minus mean of the reference; in a group, the mean of its languages' differences."""
    p: float
    """Two-sided, from a randomisation test with random signs."""
    p_holm: float
    """Holm-corrected over all arms, references, scopes of the same kind and metrics on this collection."""
    p_ttest_holm: float


@dataclass(frozen=True)
class Sample:
    """Paired differences of an arm and a reference in one scope, for all metrics."""

    scope: str
    arm: str
    reference: str
    languages: int
    seeds: int
    differences: MetricValues


def references_of(study: Study, choices: Mapping[str, Any] | None) -> list[str]:
    """Arms to test against: the study's reference, and the best arm in tuning (on dev pairs) if that is another."""
    figures = {
        name: list(found["trials"].get(found["trial"], {}).values())
        for name, found in (choices or {"arms": {}})["arms"].items()
    }
    most = max(map(len, figures.values()), default=0)
    means = {name: float(np.mean(found)) for name, found in figures.items() if found and len(found) == most}
    best = [max(means, key=means.__getitem__)] if means else []
    return list(dict.fromkeys([reference_of(study), *best]))


def tests_of(study: Study, done: Sequence[Task], references: Sequence[str]) -> list[ArmTest]:
    """Test every arm against every reference, in groups and in single languages, Holm-corrected separately.

    Two arms are compared in the languages and seeds that both have.
    """
    cells = {(task.arm, task.language, task.seed): task for task in done}
    pairs = [
        (arm.name, reference)
        for n, reference in enumerate(references)
        for arm in study.arms
        if arm.name not in references[: n + 1]
    ]
    low = set(done[0].config.low_resource) if done else set()
    tests = []
    for name in (name for collection in study.collections for name in table_names(collection)):
        metrics = tested_of(study, name)

        @functools.cache
        def metrics_of(
            arm: str, language: str, seeds: tuple[int, ...], name: str = name, metrics: tuple[str, ...] = metrics
        ) -> MetricValues:
            folder = results_folder(name, scoring_of(study, name))
            return mean_over_runs([cells[arm, language, seed] for seed in seeds], folder, language, metrics)

        kinds: dict[str, list[Sample]] = {"groups": [], "languages": []}
        for arm, reference in pairs:
            per_language: dict[str, MetricValues] = {}
            seeds: dict[str, int] = {}
            for language in study.languages:
                common = tuple(
                    seed for seed in study.seeds if {(arm, language, seed), (reference, language, seed)} <= cells.keys()
                )
                ours, theirs = metrics_of(arm, language, common), metrics_of(reference, language, common)
                if ours and theirs:
                    per_language[language] = {query: ours[query] - theirs[query] for query in theirs}
                    seeds[language] = len(common)
            for scope, languages in scopes_of(list(per_language), low):
                several = [per_language[language] for language in languages]
                fewest = min(seeds[language] for language in languages)
                kind = kinds["groups" if scope in GROUPS else "languages"]
                kind.append(Sample(scope, arm, reference, len(languages), fewest, mean_over_languages(several)))
        for samples in kinds.values():
            tests += compare(name, samples, metrics)
    return tests


def scopes_of(languages: Sequence[str], low: set[str]) -> Iterator[tuple[str, list[str]]]:
    """Scopes of tests as (name, languages): groups, `all` only if there are both; then single languages."""
    groups = [x for x in languages if x in low], [x for x in languages if x not in low]
    yield from ((name, group) for name, group in zip(GROUPS, groups, strict=False) if group)
    if all(groups):
        yield GROUPS[-1], list(languages)
    yield from ((language, [language]) for language in languages)


def mean_over_runs(tasks: Sequence[Task], name: str, language: str, metrics: Sequence[str] = TESTED) -> MetricValues:
    """Per-query metrics in a folder under RUN/eval, averaged over runs; empty if a run was not evaluated there."""
    folders = [task.folder / "eval" / name for task in tasks]
    if not tasks or not all((folder / "metrics.json").is_file() for folder in folders):
        return {}
    found = [read_per_query(folder, "student", [language], metrics)[language] for folder in folders]
    return {query: np.mean([[run[query][m] for m in metrics] for run in found], axis=0) for query in found[0]}


def mean_over_languages(languages: Sequence[MetricValues]) -> MetricValues:
    """Average per-query differences over languages: translations of one query are not independent samples.

    Scaled so that the mean over units is the macro average over languages, whatever the number of queries of each.
    """
    ids = dict.fromkeys(query for figures in languages for query in figures)
    scale = len(ids) / len(languages)
    return {
        query: np.sum([scale / len(figures) * figures[query] for figures in languages if query in figures], axis=0)
        for query in ids
    }


def compare(collection: str, samples: Sequence[Sample], metrics: Sequence[str] = TESTED) -> list[ArmTest]:
    """Randomisation and paired t-test of every sample and metric, Holm-corrected over all of them."""
    # Samples with the same queries share one matrix of random signs: drawing them dominates the run time.
    alike: dict[tuple[str, ...], list[Sample]] = {}
    for sample in samples:
        alike.setdefault(tuple(sample.differences), []).append(sample)
    found = []
    for queries, several in alike.items():
        differences = np.concatenate([np.stack(list(one.differences.values())) for one in several], axis=1)
        columns = [(one, metric) for one in several for metric in metrics]
        p_values = randomisation_test(differences).tolist(), paired_ttest(differences).tolist()
        found += [
            (one, metric, len(queries), mean, p, p_t)
            for (one, metric), mean, p, p_t in zip(columns, differences.mean(axis=0).tolist(), *p_values, strict=True)
        ]
    adjusted, adjusted_t = (holm(np.array([each[n] for each in found])).tolist() for n in (4, 5))
    return [
        ArmTest(collection, s.scope, metric, s.arm, s.reference, units, s.languages, s.seeds, mean, p, p_holm, p_t_holm)
        for (s, metric, units, mean, p, _), p_holm, p_t_holm in zip(found, adjusted, adjusted_t, strict=True)
    ]

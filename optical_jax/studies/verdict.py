"""Summary sentences of a study: best arms, significant differences, progress."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from optical_jax.studies.comparison import GROUPS, ArmTest
from optical_jax.studies.design import Study, reference_of
from optical_jax.studies.results import Results, Summary, all_references
from optical_jax.studies.tables import scoring_of, shown_of, table_names, tested_of

LEVEL = 0.05
GROUP_WORDS = {"low": "low-resource languages", "high": "high-resource languages", "all": "all languages"}

Key = tuple[str, str, str, str, str]
"""Arm, group, collection, scoring, metric."""


def summaries_by_key(results: Results) -> dict[Key, Summary]:
    return {(s.arm, s.group, s.collection, s.scoring, s.metric): s for s in results.summaries}


def tests_by_key(results: Results, reference: str) -> dict[tuple[str, str, str, str], ArmTest]:
    """(arm, scope, collection, metric) -> test against this reference."""
    return {(t.arm, t.scope, t.collection, t.metric): t for t in results.tests if t.reference == reference}


def is_significant(test: ArmTest | None) -> bool:
    return test is not None and test.p_holm < LEVEL


def progress_line(results: Results) -> str:
    """Progress of a study: finished, failed and missing runs."""
    if not results.tasks:
        return "unfinished: no trial is chosen yet, so no final run has started"
    total, done, failed = len(results.tasks), len(results.done), len(results.failed)
    told = f"{done} of {total} final runs are done"
    told += f", {failed} failed" if failed else ""
    return f"finished: {told}" if done + failed == total else f"unfinished: {told}, {total - done - failed} are missing"


def collections_of(study: Study, results: Results) -> list[str]:
    """Tables with results, in the study's order; "dev" if the study has no collections."""
    found = {row.collection for row in results.rows}
    names = [name for collection in study.collections for name in table_names(collection)] or ["dev"]
    return [name for name in names if name in found]


def groups_of(results: Results, collection: str) -> list[str]:
    """Groups that have languages; without `all` if it equals the only group."""
    found = {summary.group for summary in results.summaries if summary.collection == collection}
    groups = [group for group in GROUPS if group in found]
    return groups if len(groups) == 3 else groups[:1]


def comparable_means(
    study: Study, results: Results, group: str, collection: str, metric: str, scoring: str
) -> dict[str, float]:
    """Means of the arms with the most languages and seeds; other arms' means are not comparable with them."""
    by_key = summaries_by_key(results)
    found = [by_key.get((arm.name, group, collection, scoring, metric)) for arm in study.arms]
    most = max(((summary.languages, summary.seeds) for summary in found if summary), default=(0, 0))
    return {s.arm: s.mean for s in found if s and (s.languages, s.seeds) == most}


def best_arms(study: Study, results: Results, group: str, collection: str, metric: str, scoring: str) -> set[str]:
    """Arms with the highest comparable mean."""
    means = comparable_means(study, results, group, collection, metric, scoring)
    return {arm for arm, mean in means.items() if mean == max(means.values())}


def headline(study: Study, results: Results) -> list[str]:
    """Headline: best arms and number of significant tests, for the first metric of the first collection.

    Over all its languages. Empty without results; only the first sentence if nothing was tested.
    """
    collections = collections_of(study, results)
    if not collections:
        return []
    collection, reference = collections[0], reference_of(study)
    metric, scoring = shown_of(study, collection)[0], scoring_of(study, collection)
    group = groups_of(results, collection)[-1]
    means = comparable_means(study, results, group, collection, metric, scoring)
    ranked = ", then ".join(f"{arm} ({means[arm]:.3f})" for arm in sorted(means, key=lambda arm: -means[arm])[:2])
    by_key = summaries_by_key(results)
    starts = [name for name in all_references(study) if name.partition(" ")[0] == "untrained"]
    before = [found.mean for name in starts if (found := by_key.get((name, group, collection, scoring, metric)))]
    start = f"; the student before training: {before[0]:.3f}" if len(before) == len(starts) == 1 else ""
    said = [f"Highest {metric} on {collection}, {GROUP_WORDS[group]}: {ranked}{start}."]
    tests = tests_by_key(results, reference)
    if found := [test for arm in study.arms if (test := tests.get((arm.name, group, collection, metric)))]:
        above, below = (sum(is_significant(t) and t.difference * sign > 0 for t in found) for sign in (1, -1))
        said.append(
            f"Of {len(found)} arm{'s' * (len(found) > 1)} tested against {reference}, {above} scored significantly "
            f"higher and {below} significantly lower (p < {LEVEL:g} after Holm's correction)."
        )
    return said


def verdict(study: Study, results: Results) -> list[str]:
    """Sentences on the tests against each reference: overall if they agree, then per collection and group."""
    if not results.tests:
        return ["Nothing could be tested yet: no arm and the reference have a language and a seed in common."]
    said = []
    for reference in results.references:
        tests = tests_by_key(results, reference)
        said += overall(study, reference, results.tests)
        for collection in collections_of(study, results):
            for group in groups_of(results, collection):
                metrics = tested_of(study, collection)
                told = {
                    arm.name: {m: tests[arm.name, group, collection, m] for m in metrics}
                    for arm in study.arms
                    if (arm.name, group, collection, metrics[0]) in tests
                }
                if told:
                    said.append(f"{collection}, {GROUP_WORDS[group]}: {_sentence(reference, told)}")
    return said


def overall(study: Study, reference: str, tests: Sequence[ArmTest]) -> list[str]:
    """Sentences that hold in every group, collection and metric tested."""
    of_groups = [test for test in tests if test.scope in GROUPS]
    groups = [test for test in of_groups if test.reference == reference]
    said = []
    for arm in (arm.name for arm in study.arms):
        own = [test for test in groups if test.arm == arm]
        for word, sign in (("above", 1), ("below", -1)):
            if own and all(is_significant(test) and test.difference * sign > 0 for test in own):
                said.append(f"{arm} is {word} {reference} on every collection, group and metric that was tested.")
    # A test between two references is listed under only one of them.
    touching = [test for test in of_groups if reference in (test.arm, test.reference)]
    if groups and not any(is_significant(test) for test in touching):
        said.append(f"No difference between {reference} and any other arm could be shown on anything that was tested.")
    return said


def _sentence(reference: str, told: Mapping[str, Mapping[str, ArmTest]]) -> str:
    parts: list[str] = []
    for word, sign in (("above", 1), ("below", -1)):
        arms = {
            arm: [t for t in tests.values() if is_significant(t) and t.difference * sign > 0]
            for arm, tests in told.items()
        }
        if found := [f"{arm} ({_differences(tests)})" for arm, tests in arms.items() if tests]:
            parts.append(f"{word} {reference}: {'; '.join(found)}")
    if none := [arm for arm, tests in told.items() if not any(map(is_significant, tests.values()))]:
        parts.append(f"no difference from {reference} could be shown for {', '.join(none)}")
    return ". ".join(part[0].upper() + part[1:] if n else part for n, part in enumerate(parts)) + "."


def _differences(tests: Sequence[ArmTest]) -> str:
    return ", ".join(f"{test.metric} {test.difference:+.3f}" for test in tests)

"""Means, spreads and tests of a study, against values by hand; and the page they are told on."""

import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from optical_jax.commands.study import load_study
from optical_jax.errors import ConfigError
from optical_jax.files import write_json
from optical_jax.retrieval.metrics import METRICS
from optical_jax.studies.comparison import ArmTest, Sample, compare, mean_over_languages, references_of, scopes_of
from optical_jax.studies.design import Arm, Study
from optical_jax.studies.folders import FAILED, has_results
from optical_jax.studies.page import differences, write_page
from optical_jax.studies.report import write_results
from optical_jax.studies.results import Row, collect_results, summarise
from optical_jax.studies.runner import chosen_tasks
from optical_jax.studies.verdict import best_arms, collections_of, headline, overall, verdict
from tests import ROOT


def row(language: str, seed: int, value: float, group: str = "low") -> Row:
    return Row("a", "t", language, group, seed, "c-dev", "maxsim", "AP", value, 3)


def test_groups_are_means_over_languages_then_over_seeds():
    """sw and so of seed 0: 0.2 and 0.4; of seed 1: 0.4 and 0.6; fr: 0.9 and 0.9. all: (1.5 and 1.9) / 3."""
    rows = [row("sw", 0, 0.2), row("so", 0, 0.4), row("sw", 1, 0.4), row("so", 1, 0.6)]
    rows += [row("fr", 0, 0.9, "high"), row("fr", 1, 0.9, "high")]
    found = {s.group: s for s in summarise(rows)}
    assert found["low"].mean == pytest.approx(0.4)
    assert found["low"].sd == pytest.approx(0.2 / 2**0.5)
    assert (found["high"].mean, found["high"].sd) == pytest.approx((0.9, 0.0))
    assert found["all"].mean == pytest.approx(1.7 / 3)
    assert found["all"].sd == pytest.approx(0.4 / 3 / 2**0.5)
    assert {(s.seeds, s.languages) for s in found.values()} == {(2, 2), (2, 1), (2, 3)}


def test_a_seed_that_lacks_a_language_does_not_count():
    (low, _) = summarise([row("sw", 0, 0.2), row("so", 0, 0.4), row("sw", 1, 0.9)])
    assert (low.mean, low.seeds, low.languages) == (pytest.approx(0.3), 1, 2)
    assert low.sd != low.sd


def test_seeds_that_lack_different_languages_count_as_what_they_are():
    (low, _) = summarise([row("sw", 0, 0.2), row("so", 1, 0.6)])
    assert (low.mean, low.seeds, low.languages) == (pytest.approx(0.4), 2, 1)


# ---- a study written by hand ---------------------------------------------------------------------------------------

QUERIES = [f"q{n}" for n in range(8)]


def made_study(folder: Path, figures) -> Study:
    """Finished final runs of the tiny study in two languages; figures(arm, language, seed) are AP of the queries."""
    base = load_study(str(ROOT / "configs/studies/tiny_losses.py"))
    study = replace(base, folder=str(folder), languages=("sw", "fr"), collections=("elsewhere/c",))
    study = replace(study, reference="pooled_cosine")
    arms = {arm.name: {"trial": "lr0.001", "trials": {"lr0.001": {"sw": 0.5}, "lr0.005": {}}} for arm in study.arms}
    write_json(folder / "choices.json", {"metric": "RR@10", "arms": arms})
    for task in tasks_of(study):
        ap = figures(task.arm, task.language, task.seed)
        place = task.folder / "eval" / "c-dev"
        write_json(
            place / "metrics.json",
            {
                "collection": "c",
                "split": "dev",
                "scoring": "maxsim",
                "checkpoint": 40,
                "languages": {task.language: dict.fromkeys(METRICS, sum(ap) / len(ap)) | {"queries": len(ap)}},
                "references": {"bm25": {task.language: dict.fromkeys(METRICS, 0.125) | {"queries": len(ap)}}},
            },
        )
        own = {"system": "student", "language": task.language}
        lines = [own | {"query": q} | dict.fromkeys(METRICS, x) for q, x in zip(QUERIES, ap, strict=True)]
        (place / "per_query.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        dev = {task.language: {"R@1": 0.1, "R@10": 0.5, "RR@10": 0.2}}
        records = [
            {"step": 0, "dev": dev},
            {"step": 20, "loss": 0.5, "pairs_per_second": 100.0, "greedy_cosine": 0.7},
            {"step": 40, "loss": 0.25, "pairs_per_second": 160.0, "greedy_cosine": 0.8},
            {"step": 40, "dev": dev},
            {"step": 40, "params_sha256": "0"},
        ]
        (task.folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return study


def tasks_of(study: Study):
    return chosen_tasks(study, json.loads((Path(study.folder) / "choices.json").read_text()))


def steady(arm: str, language: str, seed: int) -> list[float]:
    """transport is above by 0.25 (sw) or by 0.125 and 0 (fr, seed 0 and 1) on every query."""
    lead = {"sw": 0.25, "fr": 0.125 * (seed == 0)}[language] * (arm == "transport")
    return [0.25 + 0.03125 * n + lead for n in range(8)]


def test_the_unit_is_a_query_averaged_over_seeds_and_languages(tmp_path):
    """All 8 differences are alike, so of 2^8 signs the two that are all alike are as extreme: p = 2 / 256.

    fr: (0.125 + 0) / 2 = 0.0625; all: (0.25 + 0.0625) / 2. Holm: 9 tests of groups, 6 of languages, each of the same p.
    """
    results = collect_results(study := made_study(tmp_path, steady))
    assert results.references == ["pooled_cosine", "transport"], "the second by its dev figures"
    assert collections_of(study, results) == ["c-dev"]
    found = {(test.scope, test.metric): test for test in results.tests}
    assert {scope for scope, _ in found} == {"low", "high", "all", "sw", "fr"}
    assert {(test.arm, test.reference, test.units, test.seeds) for test in results.tests} == {
        ("transport", "pooled_cosine", 8, 2)
    }
    differences = {"low": 0.25, "sw": 0.25, "high": 0.0625, "fr": 0.0625, "all": 0.15625}
    for (scope, metric), test in found.items():
        assert test.difference == pytest.approx(differences[scope])
        assert test.p == pytest.approx(2 / 256)
        assert test.p_holm == pytest.approx(min(1, (6 if scope in ("sw", "fr") else 9) * 2 / 256)), metric


def test_pairs_of_runs_that_are_not_whole_are_left_out(tmp_path):
    study = made_study(tmp_path, steady)
    tasks = {(task.arm, task.language, task.seed): task for task in tasks_of(study)}
    # Trained, but its evaluation was cut short; another's loss was no number; a third was evaluated too early.
    (tasks["transport", "sw", 1].folder / "eval" / "c-dev" / "metrics.json").unlink()
    (tasks["transport", "fr", 1].folder / FAILED).write_text("loss is nan at step 3\n")
    early = tasks["pooled_cosine", "sw", 0].folder / "eval" / "c-dev" / "metrics.json"
    write_json(early, json.loads(early.read_text()) | {"checkpoint": 20})
    results = collect_results(study)
    assert results.missing == [tasks["pooled_cosine", "sw", 0], tasks["transport", "sw", 1]]
    assert results.failed == [tasks["transport", "fr", 1]]
    # Left for both: fr of seed 0, where transport leads by 0.125.
    assert {(test.scope, test.languages, test.seeds) for test in results.tests} == {("high", 1, 1), ("fr", 1, 1)}
    assert {test.difference for test in results.tests} == {0.125}
    page = write_page(study, results).read_text()
    assert "unfinished: 5 of 8 final runs are done, 1 failed, 2 are missing" in page
    assert "loss is nan at step 3" in page


def test_an_arm_that_never_came_through_does_not_hide_the_others(tmp_path):
    study = made_study(tmp_path, steady)
    for task in tasks_of(study):
        if task.arm == "transport":
            (task.folder / FAILED).write_text("loss is nan\n")
    results = collect_results(study)
    assert results.tests == []
    assert {row.arm for row in results.rows} == {"pooled_cosine"}
    assert "Nothing could be tested yet" in verdict(study, results)[0]


def test_words_claim_what_tests_show(tmp_path):
    """9 x 2 / 256 = 0.07: not below 0.05, however large the difference looks."""
    said = verdict(study := made_study(tmp_path / "a", steady), collect_results(study))
    assert (
        said[0] == "No difference between pooled_cosine and any other arm could be shown on anything that was tested."
    )
    assert "c-dev, low-resource languages: no difference from pooled_cosine could be shown for transport." in said


def test_an_arm_that_is_above_one_reference_is_no_arm_without_a_difference():
    """a is the reference, b is above it and the other reference, c is like b. b against a stands under a's name."""

    def test_of(arm: str, reference: str, difference: float) -> ArmTest:
        p = 0.01 if difference else 0.9
        return ArmTest("c-dev", "low", "AP", arm, reference, 8, 1, 1, difference, p, p, p)

    trials = load_study(str(ROOT / "configs/studies/tiny_losses.py")).arms[0].trials
    study = replace(
        load_study(str(ROOT / "configs/studies/tiny_losses.py")), arms=tuple(Arm(name, "", trials) for name in "abc")
    )
    tests = [test_of("b", "a", 0.5), test_of("c", "a", 0.0), test_of("c", "b", 0.0)]
    assert overall(study, "a", tests) == ["b is above a on every collection, group and metric that was tested."]
    assert overall(study, "b", tests) == []


def test_words_name_who_is_above(tmp_path, monkeypatch):
    monkeypatch.setattr("optical_jax.studies.verdict.LEVEL", 0.1)
    said = verdict(study := made_study(tmp_path / "a", steady), collect_results(study))
    assert said[0] == "transport is above pooled_cosine on every collection, group and metric that was tested."
    assert (
        "1 scored significantly higher and 0 significantly lower (p < 0.1 "
        in headline(study, collect_results(study))[1]
    )
    assert said[1].endswith("above pooled_cosine: transport (AP +0.250, R@1 +0.250, R@10 +0.250).")


def test_holm_families_are_what_is_compared_together():
    """2 scopes x 3 metrics of one arm, and of four signs two are as extreme."""
    differences = {"q": np.ones(3), "r": np.ones(3)}
    tests = compare("c-dev", [Sample(scope, "b", "a", 1, 1, differences) for scope in ("low", "all")])
    assert [(test.p, test.p_holm, test.difference) for test in tests] == [(0.5, 1.0, 1.0)] * 6


def test_a_group_is_tested_by_the_mean_of_its_languages():
    """0.1 on each of sw's four queries, -0.3 on fr's one: (0.1 - 0.3) / 2, though most queries are above."""
    sw, fr = {f"q{n}": np.full(3, 0.1) for n in range(4)}, {"r": np.full(3, -0.3)}
    units = mean_over_languages([sw, fr])
    assert len(units) == 5
    np.testing.assert_allclose(np.mean(list(units.values()), axis=0), -0.1)
    # Of the same queries each has the mean over languages.
    shared = mean_over_languages([sw, {query: 3 * x for query, x in sw.items()}])
    np.testing.assert_allclose(list(shared.values()), 0.2)


def test_a_group_that_is_all_there_is_is_not_tested_twice():
    assert dict(scopes_of(["sw", "so"], {"sw", "so"})) == {"low": ["sw", "so"], "sw": ["sw"], "so": ["so"]}
    assert dict(scopes_of(["sw", "fr"], {"sw"}))["all"] == ["sw", "fr"]


def test_every_arm_meets_the_one_that_tuning_found_best(tmp_path):
    study = made_study(tmp_path, steady)
    third = replace(study, arms=(*study.arms, Arm("third", "The same again.", study.arms[0].trials)))
    tuned = {"transport": 0.4, "pooled_cosine": 0.5, "third": 0.6}
    choices = {"arms": {arm: {"trial": "x", "trials": {"x": {"sw": dev}}} for arm, dev in tuned.items()}}
    assert references_of(third, choices) == ["pooled_cosine", "third"]
    del choices["arms"]["third"]["trials"]["x"]["sw"]
    assert references_of(third, choices) == ["pooled_cosine"]
    assert references_of(third, None) == ["pooled_cosine"]


def test_fewer_seeds_are_no_highest_mean(tmp_path):
    study = made_study(tmp_path, steady)
    best = best_arms(study, collect_results(study), "low", "c-dev", "AP", "maxsim")
    assert best == {"transport"}
    (alone,) = (task for task in tasks_of(study) if (task.arm, task.language, task.seed) == ("transport", "sw", 1))
    (alone.folder / FAILED).write_text("loss is nan\n")
    assert best_arms(study, collect_results(study), "low", "c-dev", "AP", "maxsim") == {"pooled_cosine"}


def test_what_one_run_was_asked_by_hand_is_not_asked_of_all(tmp_path):
    study = made_study(tmp_path, steady)
    task = tasks_of(study)[0]
    by_hand = task.folder / "eval" / "other-dev" / "metrics.json"
    figures = json.loads((task.folder / "eval" / "c-dev" / "metrics.json").read_text())
    write_json(by_hand, figures | {"collection": "other"})
    results = collect_results(study)
    assert results.missing == []
    assert {row.collection for row in results.rows if row.queries} == {"c-dev"}


def test_what_was_asked_of_files_that_changed_is_asked_again(tmp_path):
    study = made_study(tmp_path, steady)
    (task, *_) = tasks_of(study)
    place = task.folder / "eval" / "c-dev"
    write_json(place / "metrics.json", json.loads((place / "metrics.json").read_text()) | {"inputs": {"corpus": "a1"}})
    assert has_results(place, 40, references=True, inputs={"corpus": "a1", "queries.so": "c3"})
    assert not has_results(place, 40, references=True, inputs={"corpus": "b2"})
    assert not has_results(place, 20, references=True, inputs={})
    write_json(place / "metrics.json", json.loads((place / "metrics.json").read_text()) | {"references": {}})
    assert has_results(place, 40, references=False, inputs={})
    assert not has_results(place, 40, references=True, inputs={})


def test_runs_before_and_after_a_file_changed_are_not_compared(tmp_path):
    study = made_study(tmp_path, steady)
    for n, task in enumerate(tasks_of(study)[:2]):
        write_json(task.folder / "env.json", {"inputs": {"bitext": {"sw.tsv": f"{n}"}}})
    with pytest.raises(ConfigError, match=r"sw.tsv changed between the runs in .*transport.* and .*pooled_cosine"):
        collect_results(study)


def test_pictures_that_a_language_names_are_its_own(tmp_path):
    """Their one digest may be another in each language; in one language it tells that pictures changed."""
    study = made_study(tmp_path, steady)
    tasks = tasks_of(study)
    for task in tasks:
        write_json(task.folder / "env.json", {"inputs": {"pictures": {"things: pictures": str(task.config.data)}}})
    collect_results(study)
    changed = next(task for task in tasks[1:] if task.config.data == tasks[0].config.data)
    write_json(changed.folder / "env.json", {"inputs": {"pictures": {"things: pictures": "other"}}})
    with pytest.raises(ConfigError, match="things: pictures changed between the runs"):
        collect_results(study)


# ---- files -------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Every tag closed in its turn, and all that a page could fetch."""

    VOID = ("meta", "br", "path", "use")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.fetched: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.fetched += [value for name, value in attrs if name in ("src", "href", "xlink:href") and value[0] != "#"]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_files_and_page(tmp_path):
    study = replace(made_study(tmp_path, steady), question="Which is <better> & why?")
    names = [path.name for path in write_results(study, collect_results(study))]
    assert {"table.csv", "summary.csv", "tests.csv", "timing.csv", "report.html"} <= set(names)
    assert "seconds" not in (tmp_path / "table.csv").read_text() + (tmp_path / "summary.csv").read_text()
    # The first line of steps waits for the compiler: 16 / 160 is left.
    timing = (tmp_path / "timing.csv").read_text().splitlines()
    assert len(timing) == 1 + 8
    assert all(",step_seconds,0.1," in line for line in timing[1:])
    text = (tmp_path / "report.html").read_text()
    page = Page(text)
    assert page.open == []
    assert page.fetched == []
    assert "script" not in page.seen
    assert "Which is &lt;better&gt; &amp; why?" in text
    # 4 figures: two of budget, languages, low against high; and the one of sharpness.
    assert page.seen.count("svg") == 5
    for told in ("prefers-color-scheme: dark", "OPTICAL&#x27;s loss", "finished: 8 of 8", "0.359", "bm25", "failed"):
        assert told in text, told
    # It opens with a plot, then three sentences, then the lists.
    opening = text.partition("<h2>In short</h2>")[2]
    assert opening.startswith("<figure><svg")
    assert "</figure><p" in opening.partition("<ul>")[0]
    said = "Highest R@1 on c-dev, all languages: transport (0.516), then pooled_cosine (0.359)."
    tested = "Of 1 arm tested against pooled_cosine, 0 scored significantly higher and 0 significantly lower"
    assert f"<p>{said} {tested}" in opening.partition("<ul>")[0]
    before = (tmp_path / "report.html").read_bytes()
    write_results(study, collect_results(study))
    assert (tmp_path / "report.html").read_bytes() == before


def test_a_mean_over_fewer_seeds_is_marked_and_not_the_highest(tmp_path):
    """transport leads, and lacks a seed."""
    study = made_study(tmp_path, steady)
    write_page(study, collect_results(study))
    table = "AP of every language</summary>"
    whole = (tmp_path / "report.html").read_text().partition(table)[2].partition("</details>")[0]
    assert "<b>0.609</b>" in whole
    (alone,) = (task for task in tasks_of(study) if (task.arm, task.language, task.seed) == ("transport", "sw", 1))
    (alone.folder / FAILED).write_text("loss is nan\n")
    write_page(study, collect_results(study))
    marked = (tmp_path / "report.html").read_text().partition(table)[2].partition("</details>")[0]
    assert "0.609" in marked
    assert "<b>0.609</b>" not in marked
    assert "1 seeds" in marked


def test_a_page_tells_of_no_tuning_where_there_was_none(tmp_path):
    study = made_study(tmp_path, steady)
    one = tuple(replace(arm, trials={"lr0.001": arm.trials["lr0.001"]}) for arm in study.arms)
    page = write_page(replace(study, arms=one), collect_results(study)).read_text()
    assert "tuning had another" not in page
    assert "No arm was tuned." in page
    assert "tuning had another" in write_page(study, collect_results(study)).read_text()


def test_a_page_of_one_language_opens_with_the_curve_over_pairs_seen(tmp_path):
    study = replace(made_study(tmp_path, steady), languages=("sw",))
    page = write_page(study, collect_results(study)).read_text()
    opening = page.partition("<h2>In short</h2>")[2]
    assert "over pairs seen" in opening.partition("</figure>")[0]
    assert page.count("over pairs seen") == 1


def test_a_page_tells_in_what_arms_differ(tmp_path):
    study = made_study(tmp_path, steady)
    first, second = study.arms
    few = {name: replace(c, data=replace(c.data, max_pairs=30)) for name, c in second.trials.items()}
    assert differences(study) == ""
    told = differences(replace(study, arms=(first, replace(second, trials=few))))
    assert told == f"data.max_pairs 0 ({first.name}), 30 ({second.name})"


def test_a_study_that_never_began_has_a_page_too(tmp_path):
    study = replace(load_study(str(ROOT / "configs/studies/tiny_losses.py")), folder=str(tmp_path))
    write_results(study, collect_results(study))
    assert "unfinished: no trial is chosen yet" in (tmp_path / "report.html").read_text()
    assert headline(study, collect_results(study)) == []

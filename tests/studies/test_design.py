"""What a study may be, which runs it is made of, and which trials it takes."""

import json
import shutil
from dataclasses import replace

import pytest

from optical_jax.commands.study import load_study
from optical_jax.errors import ConfigError
from optical_jax.studies.design import (
    arms_with_references,
    best_trials,
    check_study,
    final_tasks,
    pairs_seen,
    tuning_tasks,
)
from optical_jax.studies.results import REFERENCES, all_references, reference_names
from optical_jax.studies.runner import choose, equal_steps, run_study
from tests import ROOT

STUDY = replace(
    load_study(str(ROOT / "configs/studies/tiny_losses.py")),
    folder="f",
    languages=("sw", "so"),
    tuning_languages=("sw", "so"),
)
FIRST, SECOND = STUDY.arms
TRIALS = dict(FIRST.trials)
LONGER = {name: replace(c, training=replace(c.training, steps=41)) for name, c in TRIALS.items()}
TOLD = {name: replace(c, checkpoint=replace(c.checkpoint, best_metric="R@1")) for name, c in TRIALS.items()}
ANSWERING = {name: replace(c, student=replace(c.student, sides="documents")) for name, c in TRIALS.items()}
WRONG = {name: replace(c, optimizer=replace(c.optimizer, peak_lr=-1.0)) for name, c in TRIALS.items()}
UNTOLD = {name: replace(c, data=replace(c.data, dev_pairs=0)) for name, c in TRIALS.items()}


def test_the_tiny_study_is_fair():
    check_study(STUDY)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"folder": ""}, "no folder"),
        ({"arms": ()}, "give arms, languages, seeds"),
        ({"languages": (), "tuning_languages": ()}, "give arms, languages, seeds"),
        ({"seeds": ()}, "give arms, languages, seeds"),
        ({"arms": (FIRST, FIRST)}, "share a name"),
        ({"arms": (replace(FIRST, name="a/b"), SECOND)}, "'a/b' cannot name a folder"),
        ({"arms": (replace(FIRST, trials={"..": TRIALS["lr0.001"]}),)}, "'..' cannot name a folder"),
        ({"reference": "greedy"}, "reference='greedy' is none of"),
        ({"arms": (FIRST, replace(SECOND, trials={"a": TRIALS["lr0.001"]}))}, "'pooled_cosine': 1} trials"),
        ({"arms": (replace(FIRST, trials={}), replace(SECOND, trials={}))}, "at least one"),
        ({"tuning_languages": ()}, "name tuning_languages"),
        ({"tuning_languages": ("sw", "fr")}, "tuning_languages ['fr'] are not in languages"),
        ({"tuning_seed": 1}, "tuning_seed=1 is one of seeds"),
        ({"arms": (FIRST, replace(SECOND, trials=LONGER))}, "trials see [640, 656] pairs"),
        ({"budget": "minutes"}, "budget='minutes' is not valid; use 'pairs' or 'seconds'"),
        ({"arms": (FIRST, replace(SECOND, trials=TOLD))}, "trials differ in checkpoint.best_metric"),
        ({"arms": (FIRST, replace(SECOND, trials=ANSWERING))}, "student.sides=documents"),
        ({"arms": (FIRST, replace(SECOND, trials=WRONG))}, "optimizer.peak_lr=-1.0 is not valid"),
        ({"arms": (FIRST, replace(SECOND, trials=UNTOLD))}, "data.dev_pairs=0"),
    ],
)
def test_unfair_studies_are_refused(change, said):
    with pytest.raises(ConfigError) as error:
        check_study(replace(STUDY, **change))
    assert said in str(error.value)


@pytest.mark.parametrize("path", ["nowhere/at/all", "$NO_SUCH_VARIABLE/flores"])
def test_a_collection_that_is_not_there_is_told_before_anything_runs(path, tmp_path):
    study = replace(STUDY, folder=str(tmp_path / "study"), collections=(*STUDY.collections, path))
    with pytest.raises(ConfigError, match="collections"):
        run_study(study)
    assert not (tmp_path / "study").exists()


def test_two_collections_of_one_name_are_refused(tmp_path):
    """Both would be written to RUN/eval/collection-dev."""
    (there,) = STUDY.collections
    shutil.copytree(ROOT / there, tmp_path / "collection")
    study = replace(STUDY, folder=str(tmp_path / "study"), collections=(there, str(tmp_path / "collection")))
    with pytest.raises(ConfigError, match="would both be reported as collection-dev"):
        run_study(study)


def test_files_of_another_language_are_refused(tmp_path):
    study = replace(
        STUDY, folder=str(tmp_path / "study"), in_language=lambda config, _: STUDY.in_language(config, "sw")
    )
    with pytest.raises(ConfigError, match="arm transport learns sw, but the language is so; use so=FILE"):
        run_study(study)


def test_references_stand_beside_the_first_arm_of_each_student_and_data():
    """Another loss or other pictures change neither the student before its first step nor the dictionary."""
    fewer = {name: replace(c, data=replace(c.data, max_pairs=30)) for name, c in TRIALS.items()}
    seeing = {name: replace(c, data=replace(c.data, pictures="p")) for name, c in TRIALS.items()}
    arms = (FIRST, SECOND, replace(SECOND, name="seeing", trials=seeing), replace(SECOND, name="few", trials=fewer))
    study = replace(STUDY, arms=arms)
    assert arms_with_references(study) == ["transport", "few"]
    assert all_references(study) == [*REFERENCES, "untrained (few)", "dictionary (few)"]
    assert reference_names(study, "pooled_cosine") == {}


def test_an_arm_that_was_added_after_tuning_has_no_final_runs_yet():
    final = final_tasks(STUDY, {"transport": "lr0.001", "pooled_cosine": "gone"}, {})
    assert {task.arm for task in final} == {"transport"}


def test_equal_seconds_need_a_language_to_time_in():
    one = tuple(replace(arm, trials={"a": arm.trials["lr0.001"]}) for arm in STUDY.arms)
    check_study(replace(STUDY, arms=one, tuning_languages=()))
    with pytest.raises(ConfigError, match="tuning_languages"):
        check_study(replace(STUDY, arms=one, tuning_languages=(), budget="seconds"))


def test_every_arm_is_tuned_alike_and_every_run_has_its_folder():
    tuning = tuning_tasks(STUDY)
    # 2 arms x 2 trials x 2 languages, all with the tuning's seed.
    assert [sum(task.arm == arm.name for task in tuning) for arm in STUDY.arms] == [4, 4]
    assert {task.seed for task in tuning} == {100} == {task.config.seed for task in tuning}
    final = final_tasks(STUDY, {"transport": "lr0.001", "pooled_cosine": "lr0.005"}, {"pooled_cosine": 7})
    assert len(final) == 2 * 2 * 2
    warmups = {task.arm: task.config.optimizer.warmup_steps for task in final}
    assert warmups == {"transport": 10, "pooled_cosine": 2}, "10 of 40 steps, and 7 / 4 of 7"
    assert [task.seed for task in final] == [0] * 4 + [1] * 4
    assert {(task.arm, task.config.optimizer.peak_lr, task.config.training.steps) for task in final} == {
        ("transport", 1e-3, 40),
        ("pooled_cosine", 5e-3, 7),
    }
    folders = [task.config.run for task in (*tuning, *final)]
    assert len(set(folders)) == 16
    assert {"f/tuning/transport/lr0.005/so", "f/final/pooled_cosine/sw-1"} <= set(folders)


def test_without_a_choice_nothing_is_tuned():
    one = replace(STUDY, arms=tuple(replace(arm, trials={"a": arm.trials["lr0.001"]}) for arm in STUDY.arms))
    assert tuning_tasks(one) == []
    assert len(tuning_tasks(replace(one, budget="seconds"))) == 4
    assert best_trials(one, {}) == {"transport": "a", "pooled_cosine": "a"}


NAN = float("nan")


@pytest.mark.parametrize(
    ("first", "second", "taken"),
    [
        ((0.25, 0.5), (0.25, 0.75), "lr0.005"),
        ((0.25, 0.75), (0.5, 0.5), "lr0.001"),  # the same mean: the first
        ((0.25, 0.25), (0.875, NAN), "lr0.001"),  # what fails in a language is no choice
        ((NAN, 0.25), (0.5, NAN), "lr0.005"),  # both failed somewhere
        ((NAN, NAN), (NAN, 0.125), "lr0.005"),
        ((NAN, NAN), (NAN, NAN), "lr0.001"),
        ((0.0, 0.0), (NAN, NAN), "lr0.001"),
    ],
)
def test_choices(first, second, taken):
    """Dev figures of an arm's two trials in two languages; the other arm's are fixed."""
    tasks = tuning_tasks(STUDY)
    languages = ("sw", "so")
    given = {("transport", "lr0.001"): first, ("transport", "lr0.005"): second}
    dev = [given.get((t.arm, t.trial), (0.5, 0.5))[languages.index(t.language)] for t in tasks]
    arms = choose(STUDY, tasks, dev)["arms"]
    assert {name: found["trial"] for name, found in arms.items()} == {"transport": taken, "pooled_cosine": "lr0.001"}
    kept = {x: figure for x, figure in zip(languages, first, strict=True) if figure == figure}
    assert arms["transport"]["trials"]["lr0.001"] == kept


def test_equal_seconds(tmp_path):
    """Batches of 16: at 320 pairs a second a step takes 50 ms, at 80 it takes 200 ms, so a quarter of 40 steps."""
    study = replace(STUDY, folder=str(tmp_path), budget="seconds", tuning_languages=("sw",))
    for task in tuning_tasks(study):
        rates = {"transport": [1.0, 70.0, 80.0, 90.0], "pooled_cosine": [1.0, 320.0]}[task.arm]
        task.folder.mkdir(parents=True)
        lines = [json.dumps({"step": n, "pairs_per_second": rate}) + "\n" for n, rate in enumerate(rates)]
        (task.folder / "metrics.jsonl").write_text("".join(lines))
    best = {"transport": "lr0.001", "pooled_cosine": "lr0.001"}
    assert equal_steps(study, best) == {"transport": 10, "pooled_cosine": 40}
    # An arm that failed before anything was timed keeps its steps and slows nobody.
    for path in tmp_path.glob("tuning/pooled_cosine/**/metrics.jsonl"):
        path.unlink()
    assert equal_steps(study, best) == {"transport": 40}


def test_pairs_seen_counts_the_whole_batch():
    assert pairs_seen(TRIALS["lr0.001"]) == 40 * 16

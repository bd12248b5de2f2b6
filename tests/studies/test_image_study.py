"""Studies over pictures: which tables they have, what is tested in them, baselines, and a whole small one."""

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from optical_jax.commands.study import load_study, main, print_size
from optical_jax.config import Config, ImageStageConfig
from optical_jax.config.files import load_config_file
from optical_jax.config.validation import validate
from optical_jax.data.collections.captions import hashes
from optical_jax.data.images.sources import read_image_set
from optical_jax.errors import ConfigError
from optical_jax.files import write_json
from optical_jax.retrieval.blocks import blocks_of
from optical_jax.retrieval.image_metrics import RECALLS
from optical_jax.retrieval.image_search import by_position
from optical_jax.runs.load import load
from optical_jax.studies import tables
from optical_jax.studies.comparison import ArmTest, references_of
from optical_jax.studies.design import Arm, Study, check_study, final_tasks, tuning_tasks
from optical_jax.studies.evaluators import Evaluator, image_tower_of
from optical_jax.studies.folders import check_collections, has_results
from optical_jax.studies.page import in_short, write_page
from optical_jax.studies.readers import reads_images
from optical_jax.studies.results import Results, collect_results
from optical_jax.studies.runner import choose, chosen_tasks
from optical_jax.studies.task import run_task
from optical_jax.studies.verdict import verdict
from optical_jax.towers.pair import TowerPair, save_pair
from optical_jax.towers.texts import pool_blocks
from tests import ROOT
from tests.helpers.image_sets import NAMES, TRAIN, write_images, write_pair
from tests.helpers.source_folders import jsonl, put

TINY = load_study(str(ROOT / "configs/studies/tiny_losses.py"))
TEXTS = TINY.collections[0]
MULTILINGUAL = str(ROOT / "configs/images/multilingual.py")
TEACHER = str(ROOT / "configs/images/teacher.py")


def untuned(**training) -> Arm:
    """The tiny study's second arm, as a baseline of another length."""
    trial = TINY.arms[1].trials["lr0.001"]
    return Arm("cheap", "It costs less.", {"one": replace(trial, training=replace(trial.training, **training))}, True)


WITH_BASELINE = replace(TINY, arms=(*TINY.arms, untuned(steps=3)))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("sets") / "things")


# ---- baselines -----------------------------------------------------------------------------------------------------


def test_a_baseline_is_not_tuned_and_sees_what_it_sees(tmp_path):
    check_study(WITH_BASELINE)
    assert {task.arm for task in tuning_tasks(WITH_BASELINE)} == {"transport", "pooled_cosine"}
    chosen = {"transport": "lr0.001", "pooled_cosine": "lr0.005", "cheap": "one"}
    final = final_tasks(WITH_BASELINE, chosen, {})
    assert {task.config.training.steps for task in final if task.arm == "cheap"} == {3}
    study = replace(WITH_BASELINE, folder=str(tmp_path), seeds=(0,))
    tasks = tuning_tasks(study)
    choices = choose(study, tasks, [0.1] * len(tasks))
    assert choices["arms"]["cheap"] == {"trial": "one", "trials": {"one": {}}}
    assert [task.arm for task in chosen_tasks(study, choices)] == ["transport", "pooled_cosine", "cheap"]
    assert "cheap" not in references_of(study, choices)


@pytest.mark.parametrize(
    ("arms", "said"),
    [
        ((untuned(),), "give arms, languages, seeds"),
        ((*TINY.arms, replace(TINY.arms[0], name="b", baseline=True)), "baseline b has 2 trials"),
    ],
)
def test_what_no_baseline_is(arms, said):
    with pytest.raises(ConfigError, match=said):
        check_study(replace(TINY, arms=arms))


def test_how_large_a_study_with_a_baseline_is(capsys):
    print_size(WITH_BASELINE)
    said = capsys.readouterr().out
    assert "tuning: 4 runs (2 trials an arm, sw)" in said
    assert "final: 6 runs" in said
    assert "each run: 40 steps, 640 pairs" in said


# ---- tables --------------------------------------------------------------------------------------------------------


def test_a_set_of_pictures_is_two_tables(pictures):
    study = replace(TINY, collections=(TEXTS, str(pictures)))
    assert tables.table_names(TEXTS) == ["collection-dev"]
    assert tables.table_names(str(pictures)) == ["things-t2i-dev", "things-i2t-dev"]
    assert tables.tested_of(study, "things-t2i-dev") == tables.shown_of(study, "things-i2t-dev") == RECALLS
    assert tables.tested_of(study, "collection-dev") == ("AP", "R@1", "R@10")
    assert tables.shown_of(study, "collection-dev") == ("R@1", "R@10", "AP")
    assert tables.languages_of(str(pictures)) == {"en", "sw"}
    named = replace(study, metrics=("R@5", "R@1"))
    assert {tables.tested_of(named, name) for name in ("things-t2i-dev", "collection-dev")} == {("R@5", "R@1")}
    # Copied to where its collections are not, it has what its runs have.
    assert tables.table_names("elsewhere/things") == ["things-dev", "things-t2i-dev", "things-i2t-dev"]


def taught_by(path) -> Study:
    """The tiny study with another teacher."""
    return replace(TINY, arms=[replace(arm, trials={
        name: replace(trial, teacher=replace(trial.teacher, path=str(path), max_length=16))
        for name, trial in arm.trials.items()
    }) for arm in TINY.arms])  # fmt: skip


def test_pictures_read_by_another_pair(tmp_path, pictures, monkeypatch):
    pair = write_pair(tmp_path / "other")
    taught = taught_by(write_pair(tmp_path / "teacher"))
    monkeypatch.setenv("OTHER", str(pair))
    for named in (str(pair), "$OTHER"):
        study = replace(taught, collections=(f"{pictures} by {named}",))
        names = ["things-by-other-t2i-dev", "things-by-other-i2t-dev"]
        assert tables.table_names(study.collections[0]) == names
        assert tables.tested_of(study, names[0]) == RECALLS
        assert tables.languages_of(study.collections[0]) == {"en", "sw"}
        inputs = check_collections(study)
        assert set(inputs) == {name + pooled for name in names for pooled in ("", "-pooled")}
    before = dict(inputs[names[0]])
    # Whatever files the pair is made of: those of a later checkpoint have other names.
    assert before.keys() == hashes(read_image_set(str(pictures), "dev").files).keys() | {"pictures", "pair"}
    write_json(tmp_path / "metrics.json", {"checkpoint": 4, "inputs": before, "references": {}})
    assert has_results(tmp_path, 4, False, before)
    # Another one in its place is another input: what the first gave is evaluated again.
    shutil.rmtree(pair)
    write_pair(pair, pictures_seed=1)
    after = check_collections(study)[names[0]]
    assert {name for name, sha256 in after.items() if before[name] != sha256} == {"pair"}
    assert not has_results(tmp_path, 4, False, after)


def test_who_reads_pictures(tmp_path, pictures):
    clip = write_pair(tmp_path / "clip")
    assert reads_images(str(clip))
    own = tmp_path / "own"
    save_pair(TowerPair(load(clip, part="text"), load(clip, part="image"), "pooled", {"logit_scale": 1.0}), own)
    assert reads_images(str(own))
    check_collections(replace(taught_by(clip), collections=(f"{pictures} by {own}",)))
    assert not reads_images(str(ROOT / "configs/tiny/teacher"))
    assert not reads_images("optical_jax/english_teacher")


def test_a_folder_may_be_called_by_anything(tmp_path):
    folder = write_images(tmp_path / "questions by users")
    assert tables.base_name(str(folder)) == "questions by users"
    assert tables.source_of(str(folder)) == tables.Source(str(folder))
    assert tables.source_of(f"{folder} by runs/images") == tables.Source(str(folder), pair="runs/images")


def test_captions_alone_are_texts(pictures):
    study = replace(TINY, collections=(f"captions:{pictures}",))
    assert tables.table_names(study.collections[0]) == ["things-captions-dev"]
    assert tables.tested_of(study, "things-captions-dev") == ("AP", "R@1", "R@10")
    assert set(check_collections(study)) == {"things-captions-dev", "things-captions-dev-pooled"}


def test_a_teacher_of_texts_reads_no_pictures(pictures):
    with pytest.raises(ConfigError, match=r"things: .*tiny/teacher has no image tower; use SET by PAIR"):
        check_collections(replace(TINY, collections=(str(pictures),)))


@pytest.mark.parametrize(
    ("collection", "change", "said"),
    [
        (
            "PICTURES by PAIR",
            {"metrics": ("AP",)},
            "'AP' is not a metric of things-by-pair; use some of R@1, R@5, R@10",
        ),
        ("PICTURES by PAIR", {"languages": ("fr",), "tuning_languages": ("fr",)}, "has no captions in any of fr"),
        ("PICTURES by TEXTS", {}, "has no image tower; use SET by PAIR"),
        ("PICTURES by nowhere", {}, "nowhere"),
        ("captions:PICTURES by PAIR", {}, "is evaluated without images; leave out by"),
        (f"{TEXTS} by PAIR", {}, "is evaluated without images; leave out by"),
        (f"captions:{TEXTS}", {}, "has no captions of images; leave out captions:"),
    ],
)
def test_what_cannot_be_asked_is_refused(tmp_path, pictures, collection, change, said):
    named = {"PICTURES": pictures, "PAIR": write_pair(tmp_path / "pair"), "TEXTS": ROOT / "configs/tiny/teacher"}
    for name, path in named.items():
        collection = collection.replace(name, str(path))
    with pytest.raises(ConfigError, match=said):
        check_collections(replace(taught_by(named["PAIR"]), collections=(collection,), **change))


def test_a_pair_of_other_texts_is_refused(tmp_path, pictures):
    """Its pictures lie in a space that the student did not learn. Refused before training, and by whoever asks it."""
    path = write_pair(tmp_path / "teacher")
    teacher, other = load(path, part="text"), write_pair(tmp_path / "other", seed=3)
    named = f"{pictures} by {other}"
    study = replace(taught_by(path), folder=str(tmp_path / "study"), collections=(named,))
    with pytest.raises(ConfigError, match="is not the runs' teacher, so its image vectors"):
        run_task(tuning_tasks(study)[0], Evaluator([named]), references=False)
    assert not (tmp_path / "study").exists()
    with pytest.raises(ConfigError, match="is not the runs' teacher, so its image vectors"):
        image_tower_of(str(other), teacher)


def test_means_of_vectors():
    """(1, 0) and (0, 1): the direction between them; one alone is itself."""
    one, two = by_position(pool_blocks(blocks_of([np.array([[0.0, 1.0]], np.float32), np.eye(2, dtype=np.float32)])), 2)
    np.testing.assert_allclose(one, [[0.0, 1.0]], atol=1e-6)
    np.testing.assert_allclose(two, [[2**-0.5, 2**-0.5]], atol=1e-6)


# ---- a study written by hand ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("tested", ["maxsim", "pooled"])
def test_tests_are_over_pictures_by_recalls(tmp_path, pictures, tested):
    """transport finds all 8 pictures first, pooled_cosine none among ten: each recall differs by 1; p = 2 / 256.

    Ranked the other way nothing finds anything.
    """
    study = replace(TINY, folder=str(tmp_path), collections=(str(pictures),), arms=WITH_BASELINE.arms, seeds=(0,))
    study = replace(study, scoring=tested)
    arms = {arm.name: {"trial": next(iter(arm.trials)), "trials": {}} for arm in study.arms}
    write_json(tmp_path / "choices.json", {"metric": "RR@10", "arms": arms})
    for task in chosen_tasks(study, {"arms": arms}):
        steps = task.config.training.steps
        for way, scoring in ((way, scoring) for way in ("t2i", "i2t") for scoring in ("maxsim", "pooled")):
            found = float(task.arm == "transport" and scoring == tested)
            folder = task.folder / "eval" / f"things-{way}-dev{'-pooled' * (scoring == 'pooled')}"
            figures = dict.fromkeys(RECALLS, found) | {"rank": 1.0}
            about = {"collection": f"things-{way}", "split": "dev", "scoring": scoring, "checkpoint": steps}
            about["languages"] = {"sw": figures | {"queries": 8}}
            about["references"] = {"untrained": about["languages"]}
            write_json(folder / "metrics.json", about)
            own = {"system": "student", "language": "sw"}
            put(folder, {"per_query.jsonl": jsonl(*(own | {"query": f"p{n}"} | figures for n in range(8)))})
        dev = {"step": 0, "dev": {"sw": {"R@1": 0.1, "R@10": 0.5, "RR@10": 0.2}}}
        trained = [] if task.arm == "cheap" else [{"step": steps, "loss": 0.5, "pairs_per_second": 100.0}]
        put(task.folder, {"metrics.jsonl": jsonl(dev, *trained, {"step": steps, "params_sha256": "0"})})
    results = collect_results(study)
    assert results.missing == []
    tests = {(t.collection, t.arm, t.metric): t for t in results.tests}
    assert {key[0] for key in tests} == {"things-t2i-dev", "things-i2t-dev"}
    assert {key[2] for key in tests} == set(RECALLS)
    against = tests["things-t2i-dev", "pooled_cosine", "R@5"]
    assert (against.reference, against.units, against.difference) == ("transport", 8, -1.0)
    assert against.p == pytest.approx(2 / 256)
    # The baseline made no step: it has no time, and stands in the tables all the same.
    assert {row.arm for row in results.rows if row.collection == "timing"} == {"transport", "pooled_cosine"}
    assert {row.arm for row in results.rows if row.metric == "R@5"} == {
        "transport",
        "pooled_cosine",
        "cheap",
        "untrained",
    }
    # By these words the page finds the sentences that it folds.
    assert any(line.startswith("things-t2i-dev, low-resource languages: ") for line in verdict(study, results))
    page = write_page(study, results).read_text()
    assert "Results on things-i2t-dev" in page
    ranked = {"maxsim": "token by token (maxsim)", "pooled": "by mean vectors (pooled)"}
    assert f"Ranked {ranked.pop(tested)}." in page
    assert f"The same models {ranked.popitem()[1]}; not tested" in page
    assert "A baseline: it is not tuned." in page
    assert "<summary>" not in page.partition("What was compared")[0]


def test_a_long_verdict_is_folded(monkeypatch):
    """Of 13 sentences eight are on single groups, and the whole stands first."""
    said = [f"c{n}, {group}: x." for n in range(4) for group in ("low-resource languages", "high-resource languages")]
    said += [f"c{n}, all languages: y." for n in range(5)]
    monkeypatch.setattr("optical_jax.studies.page.verdict", lambda study, results: said)
    results = Results([], [], [ArmTest("c", "all", "AP", "a", "b", 1, 1, 1, 0.0, 1.0, 1.0, 1.0)], ["b"], [], [], [], [])
    seen, _, folded = in_short(TINY, results).partition("<details>")
    assert [line for line in said if line in seen] == said[8:]
    assert [line for line in said if line in folded] == said[:8]


# ---- the one that ships ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pictures", "pictures_shown", "pictures_more", "pictures_keywords", "multi30k"])
def test_the_studies_are_fair(name):
    check_study(load_study(str(ROOT / f"configs/studies/{name}.py")))


def test_a_scoring_there_is_not_is_refused():
    with pytest.raises(ConfigError, match="scoring='mean' is not valid; use 'maxsim' or 'pooled'"):
        check_study(replace(TINY, scoring="mean"))


def test_the_second_teacher_goes_on_from_the_first():
    first, second = (
        load_config_file(path, ImageStageConfig) for path in (TEACHER, TEACHER.replace("teacher", "margin"))
    )
    assert second.image.path == first.run
    assert not second.loss.learn_scale
    assert (second.data, second.text) == (first.data, first.text)


def test_the_linear_map_is_of_an_encoder_that_learned_elsewhere():
    """From the same captions, of all the study's languages and English, and from no part of the study's teacher."""
    study, made = load_study(str(ROOT / "configs/studies/pictures.py")), load_config_file(MULTILINGUAL, Config)
    check_study(study)
    (mapped,) = (arm for arm in study.arms if arm.baseline)
    (trial,) = mapped.trials.values()
    assert (trial.student.path, trial.student.head, trial.training.steps) == (f"{made.run}/export", "fitted", 0)
    assert made.teacher.path == made.student.path == "optical_jax/english_teacher"
    taught_by = {config.teacher.path for arm in study.arms for config in arm.trials.values()}
    assert taught_by == {load_config_file(TEACHER, ImageStageConfig).text.path}
    learned = {entry.partition("=")[::2] for entry in made.data.bitext}
    pairs = {tables.source_of(collection).pair for collection in study.collections}
    assert pairs == {"runs/images", "runs/images_unseen"}
    asked = {
        entry.partition("=")[::2]
        for language in study.languages
        for entry in study.in_language(trial, language).data.bitext
    }
    assert learned >= asked
    assert {language for language, _ in learned} >= {*study.languages, "en"}
    validate(made, needs_run=False)


# ---- a whole one ---------------------------------------------------------------------------------------------------

STUDY = """
from dataclasses import replace

from optical_jax.config import (
    CheckpointConfig, Config, DataConfig, LossConfig, OptimizerConfig, StudentConfig, TeacherConfig, TrainingConfig
)
from optical_jax.studies.design import Arm, Study

BASE = Config(
    teacher=TeacherConfig(path={pair!r}, max_length=12),
    student=StudentConfig(vocabulary="train", vocab_size=120, max_length=12),
    data=DataConfig(pictures={pictures!r}, global_batch=8, batching="buckets", buckets=(12,)),
    loss=LossConfig("contrastive"),
    optimizer=OptimizerConfig(warmup_steps=0),
    training=TrainingConfig(steps=2, log_every=1, dev_every=2),
    checkpoint=CheckpointConfig(every=2, keep=1, keep_best=False, copy_teacher=False),
)
LINEAR = replace(
    BASE, student=StudentConfig(path={encoder!r}, head="fitted", max_length=12), data=replace(BASE.data, pictures=""),
    training=replace(BASE.training, steps=0),
)


def in_language(config, language):
    return replace(config, data=replace(config.data, bitext=(f"{{language}}=captions:" + {pictures!r},)))


def get_study():
    return Study(
        folder={folder!r}, title="t", question="q", in_language=in_language, languages=("sw",), seeds=(0,),
        arms=(Arm("pictures", "a", {{"one": BASE}}), Arm("linear", "b", {{"one": LINEAR}}, baseline=True)),
        collections=({pictures!r}, {pictures!r} + " by " + {other!r}, "captions:" + {pictures!r}),
    )
"""


@pytest.mark.slow
def test_a_study_over_pictures_from_file_to_page(tmp_path, pictures, capsys):
    pair, other = write_pair(tmp_path / "pair"), write_pair(tmp_path / "other", pictures_seed=1)
    study = STUDY.format(
        pair=str(pair),
        pictures=str(pictures),
        other=str(other),
        encoder=str(ROOT / "configs/tiny/teacher"),
        folder=str(tmp_path / "study"),
    )
    file = tmp_path / "study.py"
    file.write_text(study)
    assert main([str(file)]) == 0, capsys.readouterr().err
    with (tmp_path / "study" / "table.csv").open(newline="") as table:
        found = list(csv.DictReader(table))
    rows = [row for row in found if row["collection"].startswith("things") and "captions" not in row["collection"]]
    assert {row["arm"] for row in rows} == {"pictures", "linear", "untrained", "teacher"}
    by_other = {"things-by-other-t2i-dev", "things-by-other-i2t-dev"}
    assert {row["collection"] for row in rows} == {"things-t2i-dev", "things-i2t-dev", *by_other}
    by_words = {row["arm"] for row in found if row["collection"] == "things-captions-dev"}
    assert by_words == {"pictures", "linear", "untrained", "bm25", "dictionary"}
    # The same captions find other pictures first where another tower reads these.
    runs = tmp_path / "study" / "final" / "pictures" / "sw-0" / "eval"
    texts = [(runs / f"things{by}-t2i-dev" / "per_query.jsonl").read_text() for by in ("", "-by-other")]
    assert texts[0] != texts[1]
    assert {int(row["queries"]) for row in rows} == {len(NAMES) - TRAIN}
    # Among four pictures every one is among the first five.
    assert {float(row["value"]) for row in rows if row["metric"] == "R@5"} == {1.0}
    run = tmp_path / "study" / "final" / "linear" / "sw-0"
    assert json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["step"] == 0
    assert "finished: 2 of 2 final runs are done" in (tmp_path / "study" / "report.html").read_text()

"""Which pair a run, folder or hub name stands for, and that its towers are compared as they were trained."""

import json
import shutil
from pathlib import Path

import pytest

from optical_jax.runs.pair import text_and_image_of_run as towers_of_run
from optical_jax.runs.pair import towers_of_model
from tests.helpers.image_runs import make_pair, make_student_run, make_teacher_run


@pytest.fixture(scope="module")
def student(tmp_path_factory) -> Path:
    return make_student_run(tmp_path_factory.mktemp("runs") / "plain", seed=0, with_image=False)


@pytest.mark.parametrize("interaction", ["pooled", "tokens"])
def test_a_run_is_compared_as_its_pair_was_trained(student, tmp_path, interaction):
    """Its own towers, and as --pictures-by: of a teacher, and of a student that a pair taught."""
    teacher = make_teacher_run(tmp_path / "teacher", 20, interaction)
    taught = make_student_run(tmp_path / "taught", seed=30)
    shutil.copy(teacher / "model" / "pair.json", taught / "teacher")
    pooled = interaction == "pooled"
    assert towers_of_run(teacher, "last").by_means == pooled
    assert towers_of_run(taught, "last").by_means == pooled
    for run in (teacher, taught):
        assert towers_of_run(student, "last", str(run)).by_means == pooled
        assert towers_of_model(str(student / "teacher"), str(run)).by_means == pooled


@pytest.mark.parametrize("interaction", ["pooled", "tokens"])
def test_a_hub_name_is_compared_as_its_pair_was_trained(student, tmp_path, interaction):
    """HF_HUB_OFFLINE is set (conftest.py): what was downloaded once is read without a network."""
    repository, commit = tmp_path / "models--someone--pair", "0" * 40
    make_pair(repository / "snapshots" / commit, 40, interaction)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    pooled, cache = interaction == "pooled", str(tmp_path)
    assert towers_of_model("someone/pair", cache_dir=cache).by_means == pooled
    assert towers_of_model(str(student / "teacher"), "someone/pair", cache_dir=cache).by_means == pooled
    assert towers_of_run(student, "last", "someone/pair", cache).by_means == pooled


def test_a_runs_own_pair_gives_way_to_the_one_named(tmp_path):
    run, pair = make_student_run(tmp_path / "run", seed=50), make_pair(tmp_path / "pair", 60)
    (run / "teacher" / "pair.json").write_text(json.dumps({"interaction": "pooled", "logit_scale": 2.0}))
    assert towers_of_run(run, "last").by_means
    assert not towers_of_run(run, "last", str(pair)).by_means

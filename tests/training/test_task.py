"""What a prepared training holds, and what it lets go of."""

import gc
import weakref
from dataclasses import replace

import jax
import numpy as np
import pytest

from optical_jax.commands.settings import ImageTeacherCommand, TrainCommand, parse_command
from optical_jax.training.dry_run import dry_run
from optical_jax.training.image_teacher import task as image_teacher
from optical_jax.training.student import task as student
from tests import ROOT
from tests.helpers.drawn_images import EDGE, write_set

TINY = ROOT / "configs" / "tiny"


def image_settings(folder, *flags):
    drawn = ["--image.image-size", EDGE, "--image.patch-size", "8", "--image.width", "16", "--image.layers", "1"]
    more = ["--image.heads", "2", "--image.mlp-width", "32", "--data.global-batch", "8", "--training.steps", "2"]
    command = ["--text.path", TINY / "teacher", "--data.images", folder, *drawn, *more, *flags]
    return parse_command(ImageTeacherCommand, list(map(str, command))).settings


@pytest.fixture(scope="module")
def bars(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("data") / "bars")


def weights_of(model, without=()) -> list[weakref.ref]:
    """References to the host arrays of a tower or a dual encoder, but for those of another."""
    towers, others = getattr(model, "towers", {"": model}).values(), {id(leaf) for leaf in jax.tree.leaves(without)}
    arrays = [
        leaf
        for tower in towers
        for leaf in jax.tree.leaves(tower.params)
        if isinstance(leaf, np.ndarray) and id(leaf) not in others
    ]
    assert arrays
    return [weakref.ref(array) for array in arrays]


def test_a_released_student_holds_no_weights_on_the_host():
    cfg = parse_command(TrainCommand, ["--config", str(ROOT / "configs" / "tiny.py")]).settings
    prepared = student.prepare(cfg, None)
    # Not the teacher's, from which the student has some: on a CPU the device's arrays may be the host's.
    weights = weights_of(prepared.models["student"], prepared.models["teacher"].params)
    prepared.release()
    prepared.fill_caches = None
    gc.collect()
    assert not [each for each in weights if each() is not None]


def test_a_released_image_teacher_holds_no_weights_on_the_host(bars):
    prepared = image_teacher.prepare(image_settings(bars, "--text.no-locked"), None)
    weights = weights_of(prepared.models["model"])
    prepared.release()
    prepared.fill_caches = None
    gc.collect()
    assert not [each for each in weights if each() is not None]


def test_a_dry_run_counts_what_is_trained_of_each_tower(bars, capsys):
    """Of a locked tower nothing; of the other one all, which is counted by hand."""
    cfg = image_settings(bars)
    prepared = image_teacher.prepare(cfg, None)
    image = sum(leaf.size for leaf in jax.tree.leaves(prepared.models["model"].image.params))
    dry_run(cfg, replace(prepared))
    said = capsys.readouterr().out
    assert "text: 0 of its parameters are trained" in said
    assert f"image: {image:,} of its parameters are trained" in said
    assert "captions: 89 texts encoded before the first step:" in said
    assert "flops: at most " in said

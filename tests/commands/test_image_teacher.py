"""The image-text teacher's command at tiny size: a run that is whole, stopped and gone on with, loaded and exported."""

import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from optical_jax import encode, load
from optical_jax.commands.export import main as export
from optical_jax.commands.image_teacher import main as image_teacher
from optical_jax.config import IMAGE_DEV_METRICS, Config, ImageSideConfig, ImageStageConfig, to_json
from optical_jax.errors import ConfigError
from optical_jax.models.formats.pretrained import open_model
from optical_jax.retrieval.image_metrics import IMAGE_METRICS
from optical_jax.runs.pair import open_source
from optical_jax.towers.pair import load_pair
from optical_jax.training.image_teacher.data import make_dev_metrics, read_stage_data
from optical_jax.training.image_teacher.start import make_image_side, make_pair
from tests import ROOT
from tests.helpers.drawn_images import EDGE
from tests.helpers.image_folders import encoded
from tests.helpers.processes import begun, records, wait_until
from tests.helpers.trainings import TINY
from tests.training.image_teacher.test_start import settings


@pytest.fixture(scope="module")
def folder(image_teacher_training) -> Path:
    return image_teacher_training.folder


@pytest.fixture(scope="module")
def flags(image_teacher_training) -> list[str]:
    return image_teacher_training.flags


@pytest.fixture(scope="module")
def run(image_teacher_training) -> Path:
    return image_teacher_training.run


# ---- the run -----------------------------------------------------------------------------------------------------


def test_what_a_run_keeps(run):
    kept = {"text", "image", "pair.json", "seen_pictures.json", "exported_files.json"}
    assert {path.name for path in (run / "model").iterdir()} == kept
    lines = records(run)
    assert {"scale", "pair_cosine", "text_first_rank", "grad_norm"} <= set(lines[1])
    assert all(set(r["dev"]["bars"]) == set(IMAGE_DEV_METRICS) for r in lines if "dev" in r)
    kinds = json.loads((run / "env.json").read_text())["inputs"]
    assert set(kinds) == {"images", "dev", "text.path"}
    assert {Path(name).name for name in kinds["images"]} == {"captions.en.train.jsonl", "images.train.npz"}
    report = json.loads((run / "images.json").read_text())
    assert [(one["set"], one["split"], one["pictures"], one["captions"]) for one in report["train"]] == [
        ("bars", "train", 45, 89)
    ]
    assert [(one["set"], one["split"], one["seen_pictures"]) for one in report["dev"]] == [("bars", "dev", 0)]
    assert len(set(json.loads((run / "model" / "seen_pictures.json").read_text()))) == 45


def test_another_set_or_split_is_refused_and_free_settings_are_not(run, folder, flags, tmp_path, capsys):
    run = shutil.copytree(run, tmp_path / "run")
    for changed in (["--data.splits", "train", "dev"], ["--loss.name", "sigmoid"], ["--text.no-locked"]):
        assert image_teacher([*flags, "--run", str(run), *changed]) == 2
        assert "holds a run of another config" in capsys.readouterr().err
    moved = tmp_path / "moved"
    shutil.copytree(folder, moved)
    free = ["--data.threads", "1", "--image.remat", "full", "--data.images", str(moved)]
    assert image_teacher([*flags, "--run", str(run), *free]) == 0
    (moved / "captions.en.train.jsonl").write_text(
        (moved / "captions.en.train.jsonl").read_text().replace("red on", "pink on")
    )
    longer = ["--training.steps", "8"]
    assert image_teacher([*flags, "--run", str(run), *free, *longer]) == 2
    assert "images of run" in capsys.readouterr().err


# ---- the towers --------------------------------------------------------------------------------------------------


def test_the_towers_of_a_run_and_of_its_export_are_the_same(run, folder, tmp_path, capsys):
    out = tmp_path / "pair"
    assert export(["--run", str(run), "--out", str(out), "--license", "apache-2.0"]) == 0
    assert open_model(out).parts == ("text", "image")
    texts = ["the red with blue"]
    pixels = np.random.default_rng(0).standard_normal((2, EDGE, EDGE, 3)).astype(np.float32)
    for part, given in (("text", texts), ("image", pixels)):
        trained, exported, alone = load(run, part=part), load(out, part=part), load(out / part)
        vectors = encode(trained, given).vectors
        np.testing.assert_array_equal(vectors, encode(exported, given).vectors)
        np.testing.assert_array_equal(vectors, encode(alone, given).vectors)
        assert vectors.shape[2] == 48
        assert exported.recipe == trained.recipe == alone.recipe
    assert load(out, part="text").recipe is None
    assert load(out, part="image").recipe.size == (EDGE, EDGE)
    # Texts ask, and pictures are looked for.
    assert load(run).recipe is None
    assert load(run, side="document").recipe is not None
    # The locked tower is the one it began as; that of pictures learned.
    np.testing.assert_array_equal(encode(load(TINY), texts).vectors, encode(load(out, part="text"), texts).vectors)
    untrained = load(run, part="image", checkpoint="untrained")
    assert np.abs(encode(untrained, pixels).vectors - encode(load(run, part="image"), pixels).vectors).max() > 1e-3
    logits = open_model(out).pair().logits
    assert set(logits) == {"logit_scale"}
    assert logits["logit_scale"] != np.float32(-np.log(0.07))
    assert open_source(str(out)).seen_images == open_source(str(run)).seen_images
    card = (out / "README.md").read_text()
    for said in ("license: apache-2.0", "| bars | train | 45 | 89 |", "None of these images was trained on", "t2i R@5"):
        assert said in card
    assert str(folder) not in card
    assert str(run) not in card


def test_the_code_on_the_card_runs(run, tmp_path, monkeypatch):
    from PIL import Image

    assert export(["--run", str(run), "--out", str(tmp_path / "pair")]) == 0
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(tmp_path / "a.jpg")
    code = (tmp_path / "pair" / "README.md").read_text().split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    found: dict = {}
    exec(code, found)
    assert found["scores"].shape == (1, 1)


@pytest.mark.slow
def test_a_student_of_the_pair_keeps_the_tower_of_pictures(run, tmp_path, capsys):
    """Taught by the run itself, by its export, and by reference; `load` finds the pictures' tower in each run."""
    from optical_jax.commands.train import main as train

    out, taught_by = tmp_path / "pair", {}
    assert export(["--run", str(run), "--out", str(out)]) == 0
    pixels = np.random.default_rng(0).standard_normal((2, EDGE, EDGE, 3)).astype(np.float32)
    expected = encode(load(run, part="image"), pixels).vectors
    moved = shutil.copytree(run, tmp_path / "moved")
    cases = {"run": (run, []), "export": (out, []), "reference": (moved, ["--checkpoint.no-copy-teacher"])}
    for name, (teacher, more) in cases.items():
        student = tmp_path / name
        few = ["--training.steps", "2", "--training.dev-every", "0", "--run", str(student)]
        flags = ["--config", str(ROOT / "configs" / "tiny.py"), "--teacher.path", str(teacher), *few, *more]
        assert train(flags) == 0, capsys.readouterr().err
        pictures = load(student, part="image")
        np.testing.assert_array_equal(encode(pictures, pixels).vectors, expected)
        assert pictures.recipe.size == (EDGE, EDGE)
        assert json.loads((student / "teacher" / "pair.json").read_text())["interaction"] == "pooled"
        assert open_source(str(student)).seen_images == open_source(str(run)).seen_images
        taught_by[name] = records(student)[-1]["params_sha256"]
        assert load(student, part="text").cfg == load(student).cfg
        assert (student / "teacher" / "image" / "model.safetensors").exists() == (not more)
    assert len(set(taught_by.values())) == 1
    # A run that has gone on, or back, has other weights than those that taught.
    shutil.rmtree(moved / "checkpoints" / "6")
    with pytest.raises(ConfigError, match="holds other weights than the teacher"):
        load(tmp_path / "reference", part="image")


def test_a_run_without_pictures_says_so(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(to_json(Config())))
    (tmp_path / "student").mkdir()
    with pytest.raises(ConfigError, match="has no teacher/image/ folder; copy the whole run, or use a dual encoder"):
        load(tmp_path, part="image")


# ---- the start ---------------------------------------------------------------------------------------------------


def test_a_pair_goes_on_where_it_was(run, tmp_path):
    """Towers, recipe and scale of an earlier run; a width that differs gets a new projection."""
    cfg = replace(settings(), image=ImageSideConfig(path=str(run)))
    cfg = replace(cfg, text=replace(cfg.text, path=str(run)))
    pair, before = make_pair(cfg, []), load(run, part="image")
    assert pair.image.recipe == before.recipe
    np.testing.assert_array_equal(
        pair.image.params["head"]["projection"]["kernel"], before.params["head"]["projection"]["kernel"]
    )
    assert pair.logits["logit_scale"] != pytest.approx(np.log(1 / 0.07))
    other = make_image_side(cfg, 12, open_source(str(run)))
    assert other.params["head"]["projection"]["kernel"].shape == (16, 12)
    bare = shutil.copytree(run / "model" / "image", tmp_path / "bare")
    (bare / "preprocessor_config.json").unlink()
    with pytest.raises(ConfigError, match="has no image preprocessing"):
        make_image_side(cfg, 48, open_source(str(bare)))


# ---- data and figures --------------------------------------------------------------------------------------------


def test_dev_figures_of_a_tower_that_knows_no_picture(folder, run):
    """A tower whose pictures all lie in one place: every rank is by the ids, and is known."""
    found = read_stage_data(replace(ImageStageConfig().data, images=(str(folder),)))
    pair = load_pair(run / "model")
    flat = jax.tree.map(np.zeros_like, pair.image.params)
    flat["encoder"]["norm"]["bias"] += 1
    flat["head"]["projection"]["kernel"] += 1
    figures = make_dev_metrics(found.dev, pair, "en")({"text": pair.text.params, "image": flat})["bars"]
    order = sorted(found.dev["bars"].pictures, reverse=True)  # of equals the last id stands first
    ranks = np.array([order.index(one.picture) + 1 for one in found.dev["bars"].captions["en"].values()])
    for k in (1, 5, 10):
        assert figures[f"t2i R@{k}"] == pytest.approx((ranks <= k).mean())
    assert list(figures) == list(IMAGE_DEV_METRICS)
    assert set(IMAGE_DEV_METRICS) < set(IMAGE_METRICS)


# ---- what is wrong -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "code", "said"),
    [
        (["--text.path", ""], 2, "text.path='' is not valid; name a text tower"),
        (["--text.path", "/no/such/folder"], 2, "/no/such/folder"),
        (["--text.projection", "99"], 2, "text.projection=99 is wider than the tower's vectors; give at most 48"),
        (["--text.max-length", "999"], 2, "text.max_length=999 is more than the tower reads"),
        (["--data.images", "/no/such/folder"], 3, "data.images=/no/such/folder: /no/such/folder does not exist"),
        (["--data.splits", "tset"], 3, "has no captions.<lang>.tset.jsonl"),
        (["--data.splits", "train", "train"], 2, "data.splits=('train', 'train') is not valid; name each once"),
        (["--data.language", "sw"], 3, "has no captions.sw.train.jsonl"),
        (["--data.global-batch", "1"], 2, "data.global_batch=1 is not valid; the loss compares"),
        (["--image.patch-size", "7"], 2, "image.image_size=24 does not divide into patches of image.patch_size=7"),
        (["--image.heads", "3"], 2, "image.width=16 does not divide into image.heads=3"),
        (["--image.locked"], 2, "image.locked=True would freeze random weights"),
        (["--image.pooling", "auto"], 2, "image.pooling='auto' needs a checkpoint"),
        (["--image.path", str(TINY)], 2, "image.image_size=24 is for random initialisation"),
        (["--augmentation.area", "0.9", "0.5"], 2, "augmentation.area=(0.9, 0.5)"),
        (["--loss.temperature", "0.001"], 2, "loss.temperature=0.001 is not valid"),
        (["--checkpoint.best-metric", "RR@10"], 2, "checkpoint.best_metric='RR@10' is not valid; use one of t2i R@1"),
    ],
)  # fmt: skip
def test_wrong_settings(wrong, code, said, flags, tmp_path, capsys):
    assert image_teacher([*flags, "--run", str(tmp_path / "x"), *wrong]) == code
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert said in told
    assert not (tmp_path / "x" / "config.json").exists()


def test_broken_pictures_are_told_before_anything_is_trained(flags, folder, tmp_path, capsys):
    """Of a set beside whole ones; a broken dev picture is one too."""
    broken = tmp_path / "broken"
    for split in ("train", "dev"):
        (broken / f"images.{split}").mkdir(parents=True)
        lines = [{"_id": f"{split}{n}", "text": f"picture {n}"} for n in range(3)]
        (broken / f"captions.en.{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        for n in range(3):
            (broken / f"images.{split}" / f"{split}{n}.png").write_bytes(b"no picture" if n == 1 else encoded((n,) * 3))
    both = ["--data.images", str(folder), str(broken), "--run", str(tmp_path / "x")]
    assert image_teacher([*flags, *both]) == 3
    told = capsys.readouterr().err
    assert "2 of 6 images cannot be read" in told
    assert all(f"{name}.png: not an image" in told for name in ("train1", "dev1"))
    assert not (tmp_path / "x" / "config.json").exists()
    # Unasked, the first is told when it is met.
    assert image_teacher([*flags, *both, "--data.no-check-pictures", "--data.dev-split", ""]) == 3
    assert "cannot be read:" not in capsys.readouterr().err


def test_without_dev_captions_the_setting_is_named(flags, folder, tmp_path, capsys):
    alone = tmp_path / "alone"
    alone.mkdir()
    for path in folder.glob("*.train.*"):
        shutil.copy(path, alone)
    assert image_teacher([*flags, "--data.images", str(alone), "--run", str(tmp_path / "x")]) == 3
    told = capsys.readouterr().err
    assert "data.dev_split=dev: " in told
    assert "its splits: train" in told
    assert "leave it empty" in told


# ---- stopped -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_kill_costs_time_alone_and_a_signal_saves_first(flags, tmp_path):
    """SIGTERM saves and exits 75, kill -9 leaves the last checkpoint; the run ends as one that nobody disturbed."""
    more = [*flags, "--training.steps", "60", "--checkpoint.every", "10", "--training.log-every", "5", "--run"]
    run = tmp_path / "stopped"
    for number, code, checkpoint in ((signal.SIGTERM, 75, 10), (signal.SIGKILL, -9, 30)):
        with begun("-m", "optical_jax", "image_teacher", *more, run) as process:
            wait_until((run / "checkpoints" / str(checkpoint)).is_dir, process)
            process.send_signal(number)
            process.communicate(timeout=120)
        assert process.returncode == code
        assert "params_sha256" not in records(run)[-1]
    for name in ("stopped", "whole"):
        assert image_teacher([*more, str(tmp_path / name)]) == 0
    assert records(run)[-1] == records(tmp_path / "whole")[-1]

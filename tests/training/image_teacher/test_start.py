"""An image-text teacher before its first step: its towers, its sets of pictures, its settings."""

from dataclasses import fields, replace
from pathlib import Path

import jax
import numpy as np
import pytest

from optical_jax import encode, load
from optical_jax.commands.settings import ImageTeacherCommand, parse_command
from optical_jax.config import (
    AugmentationConfig,
    EncoderConfig,
    HeadConfig,
    ImageEncoderConfig,
    ImageSideConfig,
    ImageStageConfig,
    ImageTextLossConfig,
    ImageTowerConfig,
    TextSideConfig,
    TowerConfig,
)
from optical_jax.config.validation import validate_image_teacher
from optical_jax.data.pixels import Augmentation, PictureRecipe
from optical_jax.errors import ConfigError
from optical_jax.files import write_json
from optical_jax.models.formats.export import export_pair
from optical_jax.models.formats.pretrained import Pair, Pretrained
from optical_jax.models.late_interaction import tower_specs
from optical_jax.params import init_params
from optical_jax.training.image_teacher.data import read_stage_data, some_images
from optical_jax.training.image_teacher.start import make_pair
from tests import ROOT
from tests.helpers.drawn_images import write_set

TINY = ROOT / "configs" / "tiny" / "teacher"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_set(tmp_path_factory.mktemp("data") / "bars")


def settings(**more) -> ImageStageConfig:
    cfg = ImageStageConfig(
        image=ImageSideConfig(image_size=16, patch_size=8, width=16, layers=1, heads=2, mlp_width=32)
    )
    return replace(cfg, **{"text": replace(cfg.text, path=str(TINY)), **more})


def test_a_projection_of_texts_starts_near_their_own_scores():
    cfg = settings(text=replace(settings().text, projection=40))
    captions = ["the red with blue", "the woman buys bread", "a dog sees a house"]
    pair = make_pair(cfg, captions)
    assert (pair.text.cfg.vector_width, pair.image.cfg.vector_width) == (40, 40)
    own, cut = (encode(tower, captions).vectors for tower in (load(TINY), pair.text))
    np.testing.assert_allclose(cut[0] @ cut[1].T, own[0] @ own[1].T, atol=0.02)
    assert pair.logits == {"logit_scale": pytest.approx(np.log(1 / 0.07))}


def test_a_pair_of_others_goes_on_with_its_scale(tmp_path):
    """CLIP's files: both towers as they are, tokens and patches instead of one vector, and the learned temperature."""
    tokenizer = load(TINY).tokenizer
    text = TowerConfig(
        EncoderConfig("clip", len(tokenizer), 16, 1, 2, 32, 32, 0, "quick_gelu", 1e-5, eos_id=tokenizer.sep_token_id),
        HeadConfig(projection=8, pooling="eos", query_length=32, document_length=32),
    )
    shape = ImageEncoderConfig(image_size=16, patch_size=8, width=16, layers=1, heads=2, mlp_width=32)
    image = ImageTowerConfig(shape, HeadConfig(projection=8, pooling="cls"))
    towers = [
        Pretrained(init_params(tower_specs(one), jax.random.key(1)), one, None, tmp_path) for one in (text, image)
    ]
    export_pair(Pair(*towers, {"logit_scale": np.float32(2.5)}), tokenizer, tmp_path / "clip")
    (tmp_path / "clip" / "optical_jax.json").unlink()  # no longer an export of ours
    write_json(tmp_path / "clip" / "preprocessor_config.json", PictureRecipe((16, 16), None).to_json())
    both = str(tmp_path / "clip")
    pair = make_pair(settings(text=TextSideConfig(path=both), image=ImageSideConfig(path=both)), [])
    assert pair.logits == {"logit_scale": 2.5}
    assert (pair.text.cfg.head.pooling, pair.image.cfg.head.pooling) == ("none", "none")
    jax.tree.map(np.testing.assert_array_equal, pair.image.params, jax.device_get(towers[1].params))
    asked = settings(
        text=TextSideConfig(path=both),
        image=ImageSideConfig(path=both),
        loss=ImageTextLossConfig("sigmoid", temperature=0.5),
    )
    assert make_pair(asked, []).logits == pytest.approx({"logit_scale": np.log(2), "logit_bias": -10})
    locked = settings(text=TextSideConfig(path=str(TINY)), image=ImageSideConfig(path=both, locked=True))
    assert make_pair(locked, []).image.cfg.head.projection == 48


def test_a_tower_of_texts_is_no_tower_of_pictures():
    cfg = replace(settings(), image=ImageSideConfig(path=str(TINY)))
    with pytest.raises(ConfigError, match="has only the text tower, not the image tower"):
        make_pair(cfg, [])


def test_sets_and_splits_are_joined(folder, tmp_path):
    """The same set twice is one in pictures; ids of two splits are told apart."""
    data = replace(ImageStageConfig().data, images=(str(folder), str(write_set(tmp_path / "bars"))))
    found = read_stage_data(replace(data, splits=("train", "dev")))
    assert len(found.train.pictures) == 2 * 60
    assert len(found.train.captions["en"]) == 2 * (89 + 29)
    for picture, text in found.train.captions["en"].values():
        assert picture in found.train.pictures
        assert picture.rpartition("/")[2].split("-")[1] in text
    assert list(found.dev) == ["bars", "bars (2)"]
    assert "all of them trained on" in found.lines()[-1]
    few = some_images(found.dev["bars"], "en", 4)
    assert list(few.pictures) == [list(found.dev["bars"].pictures)[n] for n in (0, 3, 7, 11)]
    assert {one.picture for one in few.captions["en"].values()} == set(few.pictures)


def test_the_config_is_sound_and_settings_are_those_of_what_they_set():
    command = parse_command(ImageTeacherCommand, ["--config", str(ROOT / "configs" / "images" / "teacher.py")])
    validate_image_teacher(command.settings)
    of_pixels = {each.name: each.default for each in fields(Augmentation)}
    assert {"enabled": True, **of_pixels} == {each.name: each.default for each in fields(AugmentationConfig)}

"""Pixels equal to those of transformers' PIL image processors to the last bit, and seeded augmentation."""

import dataclasses
import json
import resource
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from optical_jax.data import pixels
from optical_jax.data.pixels import (
    Augmentation,
    PictureRecipe,
    augmented_pixels,
    center_crop,
    cut_out,
    kept_part,
    patch_grid,
    picture_pixels,
    read_recipe,
)
from optical_jax.errors import ConfigError

SIGLIP = PictureRecipe(resize=(224, 224), crop=None, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
SMALL = {"size": {"shortest_edge": 20}, "crop_size": {"height": 20, "width": 20}}
CLASSES = {"CLIP": CLIPImageProcessorPil, "Siglip": SiglipImageProcessorPil, "ViT": ViTImageProcessorPil}
CONFIGS = {
    "CLIP": ("CLIP", {}),
    "CLIP small": ("CLIP", SMALL),
    "CLIP as in 2021": ("CLIP", {"size": 24, "crop_size": 18, "resample": 3, "feature_extractor_type": "x"}),
    "CLIP cut larger than it is": ("CLIP", {"size": 15, "crop_size": {"height": 22, "width": 19}}),
    "CLIP not resized": ("CLIP", {"do_resize": False, "crop_size": 25}),
    "CLIP bilinear, no crop": ("CLIP", {"size": [19, 30], "do_center_crop": False, "resample": 2}),
    "CLIP not normalised": ("CLIP", {**SMALL, "do_normalize": False}),
    "CLIP as it is": ("CLIP", {**SMALL, "do_normalize": False, "do_rescale": False}),
    "CLIP of another scale": ("CLIP", {**SMALL, "rescale_factor": 1 / 127.5, "image_mean": 1.0, "image_std": 1.0}),
    "Siglip": ("Siglip", {}),
    "Siglip bilinear": ("Siglip", {"size": {"height": 32, "width": 32}, "resample": 2}),
    "Siglip of an edge": ("Siglip", {"size": 16, "do_center_crop": True, "crop_size": 16}),
    "Siglip lanczos": ("Siglip", {"size": {"height": 8, "width": 40}, "resample": 1}),
    "ViT": ("ViT", {"size": 30}),
}


def drawn(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def theirs(family, config, rgb):
    config = {key: value for key, value in config.items() if not key.endswith("_type")}
    found = CLASSES[family](**config)(rgb, return_tensors="np", input_data_format="channels_last")["pixel_values"]
    return found[0].transpose(1, 2, 0)


def ours(family, config, rgb):
    kind = {} if "feature_extractor_type" in config else {"image_processor_type": f"{family}ImageProcessor"}
    kind = kind or {"feature_extractor_type": f"{family}FeatureExtractor"}
    return picture_pixels(rgb, PictureRecipe.from_json({**config, **kind}))


@pytest.mark.parametrize("name", sorted(CONFIGS))
@pytest.mark.parametrize("shape", [(37, 53), (53, 37), (20, 20), (19, 130), (1, 3)])
def test_to_the_last_bit(name, shape):
    family, config = CONFIGS[name]
    rgb = drawn(*shape)
    expected = theirs(family, config, rgb).astype(np.float32)
    found = ours(family, config, rgb)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected, strict=True)


@settings(max_examples=30)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40))
def test_to_the_last_bit_at_any_size(height, width, edge, crop_height, crop_width):
    config = {"size": {"shortest_edge": edge}, "crop_size": {"height": crop_height, "width": crop_width}}
    rgb = drawn(height, width, seed=edge)
    np.testing.assert_array_equal(ours("CLIP", config, rgb), theirs("CLIP", config, rgb))


def test_by_hand():
    """One grey pixel, stretched to 2 x 2: 51 / 255 = 0.2, less 0.5, over 0.25."""
    recipe = PictureRecipe(resize=(2, 2), crop=None, mean=(0.5,) * 3, std=(0.25,) * 3)
    np.testing.assert_allclose(picture_pixels(np.full((1, 1, 3), 51, np.uint8), recipe), np.full((2, 2, 3), -1.2))


def test_the_middle():
    rgb = np.arange(5 * 4, dtype=np.uint8).reshape(5, 4, 1).repeat(3, axis=2)
    assert center_crop(rgb, (3, 2))[:, :, 0].tolist() == [[5, 6], [9, 10], [13, 14]]
    assert center_crop(rgb[:1, :1] + 7, (2, 4))[:, :, 0].tolist() == [[0, 0, 0, 0], [0, 0, 7, 0]]


# ---- preprocessor_config.json ------------------------------------------------------------------------------------


def test_defaults_are_those_of_the_classes():
    assert PictureRecipe.from_json({"image_processor_type": "CLIPImageProcessor"}) == PictureRecipe()
    assert PictureRecipe.from_json({"image_processor_type": "SiglipImageProcessorFast"}) == SIGLIP
    vit = PictureRecipe.from_json({"feature_extractor_type": "ViTFeatureExtractor"})
    assert vit == dataclasses.replace(SIGLIP, resample="bilinear")


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_written_and_read_back(name):
    family, config = CONFIGS[name]
    recipe = PictureRecipe.from_json({**config, "image_processor_type": f"{family}ImageProcessorPil"})
    written = json.loads(json.dumps(recipe.to_json()))
    assert PictureRecipe.from_json(written) == recipe
    kind = written["image_processor_type"].removesuffix("ImageProcessor")
    rgb = drawn(31, 23)
    np.testing.assert_array_equal(theirs(kind, written, rgb), picture_pixels(rgb, recipe))


def test_from_a_folder_of_today_and_of_before(tmp_path):
    config = SIGLIP.to_json()
    with pytest.raises(ConfigError, match="no preprocessor_config"):
        read_recipe(tmp_path)
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": config, "processor_class": "x"}))
    assert read_recipe(tmp_path) == SIGLIP
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**config, "resample": 2}))
    assert read_recipe(tmp_path) == dataclasses.replace(SIGLIP, resample="bilinear")
    for text in ("{", "[]"):
        (tmp_path / "preprocessor_config.json").write_text(text)
        with pytest.raises(ConfigError, match=r"preprocessor_config\.json: not (a )?JSON"):
            read_recipe(tmp_path)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"image_processor_type": "Siglip2ImageProcessor"}, "Siglip2ImageProcessor is not supported; use one of CLIP"),
        ({}, "image_processor_type=absent"),
        ({"image_processor_type": "CLIPImageProcessor", "do_pad": True}, "do_pad"),
        ({"image_processor_type": "CLIPImageProcessor", "size": {"longest_edge": 9}}, "longest_edge"),
        ({"image_processor_type": "CLIPImageProcessor", "crop_size": {"shortest_edge": 9}}, "crop_size"),
        (
            {"image_processor_type": "SiglipImageProcessor", "do_center_crop": True},
            r"config\.json: crop_size is missing",
        ),
        ({"image_processor_type": "ViTImageProcessor", "do_center_crop": True, "crop_size": None}, "crop_size is miss"),
        ({"image_processor_type": "CLIPImageProcessor", "resample": 9}, "resample=9"),
        ({"image_processor_type": "CLIPImageProcessor", "do_center_crop": False}, "many sizes"),
        ({"image_processor_type": "CLIPImageProcessor", "image_std": [1, 0, 1]}, "std"),
        ({"image_processor_type": "ViTImageProcessor", "size": 0}, "one pixel"),
    ],
)
def test_what_is_not_done_is_refused(config, message):
    with pytest.raises(ConfigError, match=message):
        PictureRecipe.from_json(config)


# ---- what of a picture is seen --------------------------------------------------------------------------------------


WIDE_CROP = PictureRecipe(resize=50, crop=(50, 50))
LARGER_CROP = PictureRecipe(resize=None, crop=(10, 10))


@pytest.mark.parametrize(
    ("recipe", "size", "expected"),
    [
        (WIDE_CROP, (100, 200), (50, 0, 150, 100)),
        (WIDE_CROP, (300, 100), (0, 100, 100, 200)),
        (SIGLIP, (30, 70), (0, 0, 70, 30)),
        # Black around it: three rows above and below, one column left and two right.
        (LARGER_CROP, (4, 7), (-2, -3, 8, 7)),
    ],
)
def test_the_part_that_is_seen(recipe, size, expected):
    assert kept_part(*size, recipe) == pytest.approx(expected)


def test_the_part_is_where_the_colours_come_from():
    """Each pixel tells its place; nothing is resized."""
    rgb = np.stack([*np.mgrid[0:9, 0:14], np.zeros((9, 14))], axis=2).astype(np.uint8)
    recipe = PictureRecipe(resize=None, crop=(4, 6), scale=None, mean=None, std=None)
    left, top, right, bottom = part = kept_part(9, 14, recipe)
    seen = picture_pixels(rgb, recipe)
    assert seen[0, 0, :2].tolist() == [top, left]
    assert seen[-1, -1, :2].tolist() == [bottom - 1, right - 1]
    np.testing.assert_array_equal(cut_out(rgb, part), seen)


def test_beyond_the_picture_it_is_black():
    rgb = np.full((4, 7, 3), 200, np.uint8)
    recipe = dataclasses.replace(LARGER_CROP, scale=None, mean=None, std=None)
    np.testing.assert_array_equal(cut_out(rgb, kept_part(4, 7, recipe)), picture_pixels(rgb, recipe))


def test_patches_leave_a_rest_at_the_right_and_below():
    """Three patches of 16 in 50 pixels, which are 100 of the picture: 96 of them."""
    assert patch_grid(100, 200, WIDE_CROP, 16) == ((3, 3), pytest.approx((50, 0, 146, 96)))
    assert patch_grid(30, 70, SIGLIP, 16) == ((14, 14), pytest.approx((0, 0, 70, 30)))


# ---- augmentation ------------------------------------------------------------------------------------------------

STILL = Augmentation(area=(1, 1), ratio=(1, 1), brightness=0, contrast=0, saturation=0)
RECIPE = dataclasses.replace(SIGLIP, resize=(16, 16))


def test_the_same_key_gives_the_same_pixels():
    rgb = drawn(40, 50)
    first = augmented_pixels(rgb, RECIPE, Augmentation(), (1, 2, 3))
    assert first.shape == (16, 16, 3)
    assert first.dtype == np.float32
    np.testing.assert_array_equal(augmented_pixels(rgb, RECIPE, Augmentation(), (1, 2, 3)), first)
    assert not np.array_equal(augmented_pixels(rgb, RECIPE, Augmentation(), (1, 2, 4)), first)


def test_nothing_changed_is_the_plain_picture():
    rgb = drawn(40, 40)
    np.testing.assert_array_equal(augmented_pixels(rgb, RECIPE, STILL, (5,)), picture_pixels(rgb, RECIPE))


def test_flip_is_off_unless_asked_for():
    rgb = drawn(40, 40)
    plain = picture_pixels(rgb, RECIPE)
    mirrored = picture_pixels(rgb[:, ::-1].copy(), RECIPE)
    flipping = dataclasses.replace(STILL, flip=True)
    found = [augmented_pixels(rgb, RECIPE, flipping, (key,)) for key in range(40)]
    times = [sum(np.array_equal(pixels, which) for pixels in found) for which in (plain, mirrored)]
    assert sum(times) == 40
    assert min(times) > 8
    assert all(np.array_equal(augmented_pixels(rgb, RECIPE, STILL, (key,)), plain) for key in range(9))


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 99))
def test_the_part_lies_inside_and_has_its_share(height, width, key):
    """Where x is the column and y the row, the corners of what comes out tell the part."""
    y, x = np.mgrid[:height, :width].astype(np.uint8)
    rgb = np.stack([x, y, np.zeros_like(x)], axis=2)
    raw = PictureRecipe(resize=(200, 200), crop=None, resample="nearest", scale=None, mean=None, std=None)
    found = augmented_pixels(rgb, raw, dataclasses.replace(STILL, area=(0.8, 1), ratio=(3 / 4, 4 / 3)), (key,))
    w, h = (int(np.ptp(found[:, :, colour])) + 1 for colour in (0, 1))
    assert w <= width
    assert h <= height
    if 3 / 4 <= width / height <= 4 / 3 and min(height, width) >= 20:
        assert 0.7 <= w * h / (width * height) <= 1


def test_colours_stay_near():
    """Of a grey picture contrast and saturation change nothing, brightness at most a tenth."""
    raw = PictureRecipe(resize=(4, 4), crop=None, scale=None, mean=None, std=None)
    grey = np.full((8, 8, 3), 100, np.uint8)
    found = np.array([augmented_pixels(grey, raw, Augmentation(), (key,)) for key in range(50)])
    assert (found == found[:, :1, :1, :1]).all()
    assert 90 <= found.min() < 95
    assert 105 < found.max() <= 110


@pytest.mark.parametrize("wrong", [{"area": (0, 1)}, {"area": (0.9, 0.8)}, {"area": (0.5, 2)}, {"contrast": 1.0}])
def test_augmentations_that_cannot_be(wrong):
    with pytest.raises(ConfigError, match=r"augmentation\."):
        Augmentation(**wrong)


# ---- thin images -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(1, 60_000), (60_000, 1), (2, 50_000), (1_000_000, 1), (64, 1_000_000)])
@pytest.mark.parametrize("resample", ["bicubic", "nearest", "lanczos"])
def test_thin_images_take_no_more_time_and_memory_than_others(height, width, resample):
    """Whole, 60,000 x 1 at a shorter edge of 224 would have 3 billion pixels. Each half has a colour."""
    rgb = np.zeros((height, width, 3), np.uint8)
    rgb[: height // 2 if height > width else None, : width // 2 if width > height else None] = 200
    recipe = PictureRecipe(224, (224, 224), resample, None, None, None)
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = picture_pixels(rgb, recipe)
    assert time.perf_counter() - start < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1_000_000
    # The middle is where the colours meet.
    across = found if width > height else found.transpose(1, 0, 2)
    assert (across[:, 0] >= 200).all()  # filters overshoot where colours meet
    assert (across[:, -1] == 0).all()
    assert (across[:1] == across).all()


@pytest.mark.parametrize("resample", ["bilinear", "hamming", "bicubic", "lanczos"])
@pytest.mark.parametrize("crop", [(24, 24), (30, 20), (40, 16)])
@pytest.mark.parametrize(("height", "width"), [(3, 900), (900, 3), (7, 400)])
def test_the_crop_of_a_thin_image_is_that_of_the_whole(height, width, crop, resample, monkeypatch):
    """But for rounding; a smooth image, so that no pass of the filter is clipped at black or white."""
    y, x = np.mgrid[:height, :width]
    rgb = np.stack([100 + 50 * np.sin(y / 9), 120 + 40 * np.cos(x / 9), 90 + (x + y) % 90 / 9], axis=2).astype(np.uint8)
    recipe = PictureRecipe(24, crop, resample, None, None, None)
    whole = picture_pixels(rgb, recipe)
    monkeypatch.setattr(pixels, "RESIZED_PIXELS", 0)
    assert abs(picture_pixels(rgb, recipe) - whole).max() <= 2


def test_the_part_that_is_seen_of_a_thin_image_has_a_pixel():
    recipe = PictureRecipe()
    assert min(cut_out(np.zeros((1, 60_000, 3), np.uint8), kept_part(1, 60_000, recipe)).shape) > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": {"height": "large", "width": 3}}, "a value of another kind"),
        ({"size": {"height": [1], "width": 3}}, "a value of another kind"),
        ({"size": {"height": 1e999, "width": 3}}, "a value of another kind"),
        ({"image_mean": [0.5, 0.5]}, "2 values for red, green and blue"),
        ({"image_std": "dark"}, "values for red, green and blue"),
        ({"rescale_factor": "1/255"}, "a value of another kind"),
        ({"resample": [3]}, r"resample=\[3\] is not valid"),
        ({"size": {"height": 10**9, "width": 10**9}}, "at most 4096"),
    ],
)
def test_settings_of_another_kind_name_their_file(tmp_path, change, message):
    config = {"image_processor_type": "SiglipImageProcessor", **change}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=message):
        read_recipe(tmp_path)


@pytest.mark.parametrize("text", ["[" * 100_000, "{", '{"a": "\\ud83d"}', "\xff"])
def test_settings_that_are_not_json_name_their_file(tmp_path, text):
    (tmp_path / "preprocessor_config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"preprocessor_config\.json: "):
        read_recipe(tmp_path)

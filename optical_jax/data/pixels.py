"""Image preprocessing (resize, crop, normalise) and augmentation, bit-identical to Hugging Face's PIL processors."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
from jaxtyping import Float32, UInt8

from optical_jax.data.rgb import FILTERS, Filter, resize_rgb
from optical_jax.errors import ConfigError, DataError
from optical_jax.files import read_json

Triple = tuple[float, float, float]

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
HALF = (0.5, 0.5, 0.5)
RECIPE_FILES = ("preprocessor_config.json", "processor_config.json")
"""transformers 5 writes the second, with the contents of the first as its `image_processor`."""
GREY_OF_RGB = np.array([0.299, 0.587, 0.114], np.float32)
"""Luma of ITU-R BT.601."""
CROPS_TRIED = 10
LONGEST_EDGE = 4096
"""Pixels of an encoder's input."""
RESIZED_PIXELS = 16_000_000
"""Images that would be resized to more are cropped first: of a shorter edge of 224, those 300 times as long as wide."""

SQUARE = {"height": 224, "width": 224}
HALVES: dict[str, Any] = {"size": SQUARE, "resample": 3, "image_mean": HALF, "image_std": HALF}
DEFAULTS: dict[str, dict[str, Any]] = {
    "CLIP": {
        "size": {"shortest_edge": 224},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": SQUARE,
        "image_mean": CLIP_MEAN,
        "image_std": CLIP_STD,
        "default_to_square": False,
    },
    "Siglip": {**HALVES, "default_to_square": False},
    "ViT": {**HALVES, "resample": 2, "default_to_square": True},
}
"""Default settings of each family's image processor class."""
FAMILY_ENDINGS = ("ImageProcessorPil", "ImageProcessorFast", "ImageProcessor", "FeatureExtractor")
NOT_DONE = ("do_pad", "use_square_size")
"""Steps of other families, which are not supported."""


@dataclass(frozen=True)
class PictureRecipe:
    """Image preprocessing settings, from images of any size to pixels of one size; defaults are CLIP's."""

    resize: int | tuple[int, int] | None = 224
    """Pixels of the shorter edge; or height and width, whatever the aspect ratio; None for no resizing."""
    crop: tuple[int, int] | None = (224, 224)
    """Height and width of the centre crop, padded with black; None for no crop."""
    resample: Filter = "bicubic"
    scale: float | None = 1 / 255
    """Factor on the values 0 to 255; None for no rescaling."""
    mean: Triple | None = CLIP_MEAN
    """Mean of red, green and blue after rescaling; None for no normalisation."""
    std: Triple | None = CLIP_STD

    def __post_init__(self) -> None:
        """
        Raises:
          ConfigError: a size, filter or std that is not valid, or settings that leave images of different sizes.
        """
        if self.crop is None and not isinstance(self.resize, tuple):
            raise ConfigError(f"pictures.resize={self.resize} without a crop gives images of many sizes; add a crop")
        edges = [edge for size in (self.resize, self.crop) for edge in (size if isinstance(size, tuple) else (size,))]
        if any(edge is not None and not 1 <= edge <= LONGEST_EDGE for edge in edges):
            raise ConfigError(
                f"pictures.resize={self.resize}, crop={self.crop}: use edges of at least one pixel, "
                f"and at most {LONGEST_EDGE}"
            )
        if self.resample not in get_args(Filter):
            raise ConfigError(
                f"pictures.resample={self.resample} is not valid; use one of {', '.join(get_args(Filter))}"
            )
        if (self.mean is None) != (self.std is None) or (self.std is not None and 0 in self.std):
            raise ConfigError(f"pictures.mean={self.mean}, std={self.std}: set both or none, with std above 0")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the output."""
        return self.crop or cast(tuple[int, int], self.resize)

    @staticmethod
    def from_json(config: Mapping[str, Any], name: str = RECIPE_FILES[0]) -> PictureRecipe:
        """Parse a preprocessor_config.json, current or from before 2022 (sizes as plain numbers).

        Args:
          config: the parsed file, of CLIP, SigLIP, or ViT (which many others use).
          name: of the file, for messages.

        Raises:
          ConfigError: another family, or a step or size that is not supported.
        """
        config = config.get("image_processor", config)
        family = _family(config, name)
        # null means the default.
        known = {**DEFAULTS[family], **{key: value for key, value in config.items() if value is not None}}
        if asked := [key for key in NOT_DONE if known.get(key)]:
            raise ConfigError(f"{name}: {asked[0]} is not supported; use a model of CLIP, SigLIP or ViT")
        numbers = {int(number): filter_name for filter_name, number in FILTERS.items()}
        if known["resample"] not in list(numbers):
            raise ConfigError(f"{name}: resample={known['resample']} is not valid; use one of {sorted(numbers)}")
        try:
            return PictureRecipe._of_known(known, numbers, name)
        except (TypeError, ValueError, OverflowError) as error:
            raise ConfigError(f"{name}: a value of another kind ({error}); fetch the file again") from None

    @staticmethod
    def _of_known(known: Mapping[str, Any], numbers: Mapping[int, str], name: str) -> PictureRecipe:
        normalised = known.get("do_normalize", True)
        return PictureRecipe(
            resize=_size(known, "size", known["default_to_square"], name) if known.get("do_resize", True) else None,
            crop=cast(Any, _size(known, "crop_size", True, name)) if known.get("do_center_crop") else None,
            resample=cast(Filter, numbers[known["resample"]]),
            scale=float(known.get("rescale_factor", 1 / 255)) if known.get("do_rescale", True) else None,
            mean=_triple(known["image_mean"]) if normalised else None,
            std=_triple(known["image_std"]) if normalised else None,
        )

    def to_json(self) -> dict[str, Any]:
        """Contents of a preprocessor_config.json, which transformers and `from_json` read."""
        size = self.resize
        if isinstance(size, tuple):
            size = {"height": size[0], "width": size[1]}
        found: dict[str, Any] = {
            "image_processor_type": "CLIPImageProcessor" if self.crop else "SiglipImageProcessor",
            "do_convert_rgb": True,
            "do_resize": size is not None,
            "size": {"shortest_edge": size} if isinstance(size, int) else size,
            "resample": int(FILTERS[self.resample]),
            "do_center_crop": self.crop is not None,
            "crop_size": {"height": self.crop[0], "width": self.crop[1]} if self.crop else None,
            "do_rescale": self.scale is not None,
            "rescale_factor": self.scale,
            "do_normalize": self.mean is not None,
            "image_mean": self.mean and list(self.mean),
            "image_std": self.std and list(self.std),
        }
        return {key: value for key, value in found.items() if value is not None}


def read_recipe(folder: Path) -> PictureRecipe:
    """Read the preprocessing settings in a model's folder.

    Raises:
      ConfigError: there are none, the file is corrupt, or as `PictureRecipe.from_json`.
    """
    path = next((folder / name for name in RECIPE_FILES if (folder / name).is_file()), None)
    if path is None:
        raise ConfigError(f"{folder}: no {' and no '.join(RECIPE_FILES)}; use the complete folder of the image model")
    try:
        config = read_json(path)
    except DataError as error:
        raise ConfigError(str(error)) from None
    if not isinstance(config, dict) or not isinstance(config.get("image_processor", {}), dict):
        raise ConfigError(f"{path}: not a JSON object; fetch the file again")
    return PictureRecipe.from_json(config, str(path))


def find_recipe(folder: Path) -> PictureRecipe | None:
    """Preprocessing settings in a model's folder; None if there are none. Raises as `read_recipe`."""
    return read_recipe(folder) if any((folder / name).is_file() for name in RECIPE_FILES) else None


def picture_pixels(rgb: UInt8[np.ndarray, "H W 3"], recipe: PictureRecipe) -> Float32[np.ndarray, "h w 3"]:
    """Preprocess an image for an image encoder, to `recipe.size`.

    Of a thin image, which would be resized to more than `RESIZED_PIXELS`, only the crop is resized: the values are the
    same but for rounding.
    """
    if recipe.resize is not None:
        size = resized(rgb.shape[0], rgb.shape[1], recipe)
        box = None
        if recipe.crop is not None and size[0] * size[1] > RESIZED_PIXELS:
            size, box = _crop_of_resized(rgb.shape[0], rgb.shape[1], size, recipe.crop)
        rgb = resize_rgb(rgb, size, recipe.resample, box)
    if recipe.crop is not None:
        rgb = center_crop(rgb, recipe.crop)
    return normalise(rgb, recipe)


def kept_part(height: int, width: int, recipe: PictureRecipe) -> tuple[float, float, float, float]:
    """Part of an image that `picture_pixels` keeps: left, top, right and bottom edge in pixels of the image.

    Edges are outside of the image where it is smaller than the crop and padded with black.
    """
    size = resized(height, width, recipe)
    edges = []
    for length, before, wanted in zip(size, (height, width), recipe.crop or size, strict=True):
        first = (length - wanted) // 2
        edges.append((first * before / length, (first + wanted) * before / length))
    (top, bottom), (left, right) = edges
    return left, top, right, bottom


def patch_grid(
    height: int, width: int, recipe: PictureRecipe, patch: int
) -> tuple[tuple[int, int], tuple[float, float, float, float]]:
    """Patch grid of an image for patches of `patch` pixels: rows and columns, and the part of the image they cover.

    The part is as of `kept_part`. Incomplete patches at the right and lower edge are not covered.
    """
    left, top, right, bottom = kept_part(height, width, recipe)
    rows, columns = (length // patch for length in recipe.size)
    down, across = (count * patch / length for count, length in zip((rows, columns), recipe.size, strict=True))
    return (rows, columns), (left, top, left + (right - left) * across, top + (bottom - top) * down)


def cut_out(rgb: UInt8[np.ndarray, "H W 3"], part: tuple[float, float, float, float]) -> UInt8[np.ndarray, "h w 3"]:
    """Crop an image to a part, as of `patch_grid`, rounded to pixels, at least one, and padded with black."""
    left, top, right, bottom = (round(edge) for edge in part)
    right, bottom = max(right, left + 1), max(bottom, top + 1)
    out = np.zeros((bottom - top, right - left, 3), np.uint8)
    there = rgb[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    y, x = max(-top, 0), max(-left, 0)
    out[y : y + there.shape[0], x : x + there.shape[1]] = there
    return out


def _crop_of_resized(
    height: int, width: int, size: tuple[int, int], crop: tuple[int, int]
) -> tuple[tuple[int, int], tuple[float, float, float, float]]:
    """The part of a resized image that a centre crop keeps: its height and width, and where it is in the image."""
    kept = [min(length, wanted) for length, wanted in zip(size, crop, strict=True)]
    edges = []
    for length, before, wanted in zip(size, (height, width), kept, strict=True):
        first = (length - wanted) // 2
        edges.append((first * before / length, min((first + wanted) * before / length, before)))
    (top, bottom), (left, right) = edges
    return (kept[0], kept[1]), (left, top, right, bottom)


def resized(height: int, width: int, recipe: PictureRecipe) -> tuple[int, int]:
    """Height and width after resizing, before the crop."""
    if recipe.resize is None:
        return height, width
    return recipe.resize if isinstance(recipe.resize, tuple) else shortest_edge(height, width, recipe.resize)


def shortest_edge(height: int, width: int, edge: int) -> tuple[int, int]:
    """Height and width with a shorter edge of this length; the longer one is rounded down."""
    longer = int(edge * max(height, width) / min(height, width))
    return (edge, longer) if height < width else (longer, edge)


def center_crop(rgb: UInt8[np.ndarray, "H W 3"], size: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
    """Centre crop, padded with black where the image is smaller."""
    out = np.zeros((*size, 3), np.uint8)
    source, target = [], []
    for length, wanted in zip(rgb.shape, size, strict=False):
        if wanted <= length:
            first = (length - wanted) // 2
            source.append(slice(first, first + wanted))
            target.append(slice(0, wanted))
        else:
            first = math.ceil((wanted - length) / 2)
            source.append(slice(0, length))
            target.append(slice(first, first + length))
    out[tuple(target)] = rgb[tuple(source)]
    return out


def normalise(rgb: UInt8[np.ndarray, "H W 3"], recipe: PictureRecipe) -> Float32[np.ndarray, "H W 3"]:
    """Rescale values, subtract the mean and divide by the standard deviation."""
    return _value_table(recipe.scale, recipe.mean, recipe.std)[rgb, np.arange(3)]


@functools.lru_cache(maxsize=16)
def _value_table(scale: float | None, mean: Triple | None, std: Triple | None) -> Float32[np.ndarray, "256 3"]:
    """Lookup table of normalised values, as there are 256 per channel but a hundred thousand per image."""
    values = np.arange(256, dtype=np.float64)
    # Rescaled in float64 and then rounded, the rest in float32, as in transformers.
    values = (values if scale is None else values * scale).astype(np.float32)
    table = np.repeat(values[:, None], 3, axis=1)
    if mean is not None and std is not None:
        table = (table - np.array(mean, np.float32)) / np.array(std, np.float32)
    return table


# ---- augmentation ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Augmentation:
    """Image augmentation in training: random crop, flip and colour jitter."""

    area: tuple[float, float] = (0.8, 1.0)
    """Smallest and largest share of the image's area in a random crop, which is resized to the recipe's size."""
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Smallest and largest aspect ratio (width over height) of that crop."""
    flip: bool = False
    """Flip images horizontally with probability 1/2. Wrong for captions that mention left and right."""
    brightness: float = 0.1
    """Random factor between 1 - this and 1 + this; likewise contrast and saturation."""
    contrast: float = 0.1
    saturation: float = 0.1

    def __post_init__(self) -> None:
        """
        Raises:
          ConfigError: a range is empty, or a share not between 0 and 1.
        """
        for name in ("area", "ratio"):
            low, high = getattr(self, name)
            if not 0 < low <= high or (name == "area" and high > 1):
                raise ConfigError(
                    f"augmentation.{name}={low, high} is not valid; use a range above 0, lower bound first"
                )
        for field in fields(self)[-3:]:
            if not 0 <= getattr(self, field.name) < 1:
                raise ConfigError(
                    f"augmentation.{field.name}={getattr(self, field.name)} is not valid; use 0 to below 1"
                )


def augmented_pixels(
    rgb: UInt8[np.ndarray, "H W 3"], recipe: PictureRecipe, how: Augmentation, key: Sequence[int]
) -> Float32[np.ndarray, "h w 3"]:
    """Augment and preprocess an image: random resized crop, flip and colour jitter; deterministic in the key.

    Args:
      rgb: the image.
      recipe: size, filter and normalisation.
      how: augmentation.
      key: integers from 0 up, such as seed, step and row.
    """
    rng = np.random.default_rng(key)
    box = _random_part(rgb.shape[0], rgb.shape[1], how, rng)
    part = resize_rgb(rgb, recipe.size, recipe.resample, box)
    if how.flip and rng.random() < 0.5:
        part = part[:, ::-1]
    spread = np.array([how.brightness, how.contrast, how.saturation])
    factors = rng.uniform(1 - spread, 1 + spread).astype(np.float32)
    return normalise(_jittered(part, *factors) if spread.any() else part, recipe)


def _random_part(height: int, width: int, how: Augmentation, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Random crop (left, top, right, bottom) as torchvision's RandomResizedCrop; after some tries the centre."""
    log_ratio = np.log(how.ratio)
    for _ in range(CROPS_TRIED):
        area, ratio = height * width * rng.uniform(*how.area), math.exp(rng.uniform(*log_ratio))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(rng.integers(0, width - w + 1)), int(rng.integers(0, height - h + 1))
            return left, top, left + w, top + h
    w = min(width, max(1, round(height * how.ratio[1])))
    h = min(height, max(1, round(width / how.ratio[0])))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def _jittered(
    rgb: UInt8[np.ndarray, "h w 3"], brightness: float, contrast: float, saturation: float
) -> UInt8[np.ndarray, "h w 3"]:
    x = rgb.astype(np.float32) * brightness
    middle = (x @ GREY_OF_RGB).mean()
    x = middle + (x - middle) * contrast
    grey = (x @ GREY_OF_RGB)[:, :, None]
    x = grey + (x - grey) * saturation
    return np.clip(np.rint(x), 0, 255).astype(np.uint8)


# ---- preprocessor_config.json ------------------------------------------------------------------------------------


def _family(config: Mapping[str, Any], name: str) -> str:
    given = str(config.get("image_processor_type") or config.get("feature_extractor_type") or "")
    for ending in FAMILY_ENDINGS:
        if given.removesuffix(ending) in DEFAULTS:
            return given.removesuffix(ending)
    known = ", ".join(f"{family}ImageProcessor" for family in DEFAULTS)
    raise ConfigError(f"{name}: image_processor_type={given or 'absent'} is not supported; use one of {known}")


def _size(config: Mapping[str, Any], key: str, square: bool, name: str) -> int | tuple[int, int]:
    value = config.get(key)
    if value is None:
        raise ConfigError(f"{name}: {key} is missing for a step of the file; add it as height and width")
    if isinstance(value, int):
        return (value, value) if square else value
    if isinstance(value, Sequence) and len(value) == 2:
        return int(value[0]), int(value[1])
    if isinstance(value, Mapping):
        if value.keys() == {"height", "width"}:
            return int(value["height"]), int(value["width"])
        if value.keys() == {"shortest_edge"} and key == "size":
            return int(value["shortest_edge"])
    raise ConfigError(f"{name}: {key}={value} is not supported; use height and width, or (for size) shortest_edge")


def _triple(value: float | Sequence[float]) -> Triple:
    values = value if isinstance(value, Sequence) else [value] * 3
    if len(values) != 3:
        raise ValueError(f"{len(values)} values for red, green and blue")
    return cast(Triple, tuple(float(number) for number in values))

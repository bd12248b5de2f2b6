"""Decoding, encoding and resizing of images as RGB arrays, the only use of Pillow."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from optical_jax.errors import DataError

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""Supported formats. Pillow has more, some unsafe: it executes the code in EPS files, for instance."""
MAX_PIXELS = 64_000_000
"""Largest image, above common cameras, and below what fills the memory. Pillow's own limit is four times that."""

QUALITY = 80
"""Quality of JPEGs written, up to 100."""

Filter = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
FILTERS: dict[str, Image.Resampling] = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "hamming": Image.Resampling.HAMMING,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
"""Resampling filters by name; the values are the numbers in preprocessor_config.json."""


def read_rgb(path: Path) -> UInt8[np.ndarray, "H W 3"]:
    """Read an image file, as `decode_rgb`.

    Raises:
      DataError: the file cannot be read, or is not a complete image.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    return decode_rgb(data, str(path))


def decode_rgb(data: bytes, name: str) -> UInt8[np.ndarray, "H W 3"]:
    """Decode an image: rotated by its EXIF orientation, on white if transparent, the first frame of several.

    Args:
      data: all bytes of a file of one of `FORMATS`.
      name: of the file, and of the member in it, for messages.

    Raises:
      DataError: empty, not an image, corrupt, truncated, of more than `MAX_PIXELS`, or with pixels of unknown scale.
    """
    if not data:
        raise DataError(f"{name}: empty, not an image; create or download the file again")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            width, height = picture.size
            if width * height > MAX_PIXELS:
                raise DataError(f"{name}: {width} x {height} pixels, more than {MAX_PIXELS:,}; make it smaller")
            picture.load()
            return _to_rgb(_upright(picture), name)
    except DataError:
        raise
    except UnidentifiedImageError:
        raise DataError(f"{name}: not an image ({', '.join(FORMATS)}), or truncated in its header") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise DataError(f"{name}: more than {MAX_PIXELS:,} pixels; make it smaller") from None
    except Exception as error:  # Pillow's decoders raise many types on corrupt files
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(f"{name}: corrupt image ({reason}); create or download the file again") from error


def resize_rgb(
    rgb: UInt8[np.ndarray, "H W 3"],
    size: tuple[int, int],
    resample: Filter,
    box: tuple[int, int, int, int] | None = None,
) -> UInt8[np.ndarray, "h w 3"]:
    """Resize an image, or the part of it in `box`.

    Args:
      rgb: the image.
      size: height and width of the result.
      resample: filter.
      box: left, top, right and bottom edge of the part, in pixels.
    """
    height, width = size
    return np.asarray(Image.fromarray(rgb).resize((width, height), FILTERS[resample], box))


def encode_rgb(rgb: UInt8[np.ndarray, "H W 3"], form: Literal["png", "jpeg"]) -> bytes:
    """Encode an image as an optimised PNG, or a JPEG of `QUALITY`."""
    file = io.BytesIO()
    options: dict[str, int] = {"quality": QUALITY} if form == "jpeg" else {}
    Image.fromarray(rgb).save(file, form, optimize=True, **options)
    return file.getvalue()


def _upright(picture: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(picture)
    except Exception:  # corrupt EXIF data of an intact image are ignored
        return picture


def _to_rgb(picture: Image.Image, name: str) -> UInt8[np.ndarray, "H W 3"]:
    if picture.mode.startswith("I"):
        # Pillow's conversion of 16-bit grey clips at 255 in some versions.
        grey = np.asarray(picture).astype(np.int64)
        if grey.min() < 0 or grey.max() > 65535:
            raise DataError(f"{name}: grey of 32 bits, of unknown range; save it with 8 or 16 bits")
        return np.repeat(((grey + 128) // 257).astype(np.uint8)[:, :, None], 3, axis=2)
    if picture.mode == "F":
        raise DataError(f"{name}: grey as floating-point numbers, of unknown range; save it with 8 or 16 bits")
    if "A" in picture.getbands() or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, (255, 255, 255, 255)), picture)
    return np.asarray(picture.convert("RGB"))

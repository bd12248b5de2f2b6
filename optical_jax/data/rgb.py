"""Picture files as RGB pixels and back, and the size of pictures changed: the one door to Pillow."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from optical_jax.errors import DataError

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What is read. Pillow knows more, but of an EPS file, say, it runs what the file says."""
MAX_PIXELS = 64_000_000
"""Of one picture: above what cameras make, and below what fills the memory. Pillow's own limit is four times that."""

QUALITY = 80
"""Of jpegs that are written, to 100."""

Filter = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
FILTERS: dict[str, Image.Resampling] = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "hamming": Image.Resampling.HAMMING,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
"""By name; the values are the numbers under which preprocessor_config.json has them."""


def read_rgb(path: Path) -> UInt8[np.ndarray, "H W 3"]:
    """The picture in a file, as `decode_rgb` gives it.

    Raises:
      DataError: the file cannot be read, or holds no whole picture.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    return decode_rgb(data, str(path))


def decode_rgb(data: bytes, name: str) -> UInt8[np.ndarray, "H W 3"]:
    """The picture in the bytes of a file: upright as EXIF says, on white where it is transparent, of several the first.

    Args:
      data: all bytes of a file of one of `FORMATS`.
      name: of the file, and of the member in it, for messages.

    Raises:
      DataError: empty, no picture, broken, cut off, of more than `MAX_PIXELS`, or with pixels of an unknown scale.
    """
    if not data:
        raise DataError(f"{name}: empty, no picture; make or fetch the file again")
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
        raise DataError(f"{name}: no picture ({', '.join(FORMATS)}), or one cut off at its beginning") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise DataError(f"{name}: more than {MAX_PIXELS:,} pixels; make it smaller") from None
    except Exception as error:  # Pillow's decoders raise a dozen kinds on broken files
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(f"{name}: broken picture ({reason}); make or fetch the file again") from error


def resize_rgb(
    rgb: UInt8[np.ndarray, "H W 3"],
    size: tuple[int, int],
    resample: Filter,
    box: tuple[int, int, int, int] | None = None,
) -> UInt8[np.ndarray, "h w 3"]:
    """The picture, or the part of it in `box`, at another size.

    Args:
      rgb: the picture.
      size: height and width of the result.
      resample: filter.
      box: left, upper, right and lower edge of the part, in pixels.
    """
    height, width = size
    return np.asarray(Image.fromarray(rgb).resize((width, height), FILTERS[resample], box))


def encode_rgb(rgb: UInt8[np.ndarray, "H W 3"], form: Literal["png", "jpeg"]) -> bytes:
    """The bytes of a file with this picture, as small as the form makes it; a jpeg of `QUALITY`."""
    file = io.BytesIO()
    options: dict[str, int] = {"quality": QUALITY} if form == "jpeg" else {}
    Image.fromarray(rgb).save(file, form, optimize=True, **options)
    return file.getvalue()


def _upright(picture: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(picture)
    except Exception:  # broken EXIF data beside a whole picture, read as if they were not there
        return picture


def _to_rgb(picture: Image.Image, name: str) -> UInt8[np.ndarray, "H W 3"]:
    if picture.mode.startswith("I"):
        # Pillow's conversion of 16-bit grey cuts at 255 in some versions.
        grey = np.asarray(picture).astype(np.int64)
        if grey.min() < 0 or grey.max() > 65535:
            raise DataError(f"{name}: grey of 32 bits, whose white is not known; save it with 8 or 16 bits")
        return np.repeat(((grey + 128) // 257).astype(np.uint8)[:, :, None], 3, axis=2)
    if picture.mode == "F":
        raise DataError(f"{name}: grey as floating-point numbers, whose white is not known; save it with 8 or 16 bits")
    if "A" in picture.getbands() or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, (255, 255, 255, 255)), picture)
    return np.asarray(picture.convert("RGB"))

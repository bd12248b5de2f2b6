"""Decoding, encoding and resizing of images as RGB arrays, the only use of Pillow."""

from __future__ import annotations

import functools
import importlib.util
import io
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image, ImageFile, UnidentifiedImageError, features

from optical_jax.data.files.names import shown_name
from optical_jax.data.image_bytes import HEAD_BYTES, image_format, jpeg_scans, without_metadata
from optical_jax.errors import DataError

PILLOW_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""Supported formats, beside HEIC. Pillow has more, some unsafe: it executes the code in EPS files, for instance."""
MAX_PIXELS = 64_000_000
"""Largest image, above common cameras, and below what fills the memory. Pillow's own limit is four times that."""
MAX_EDGE = 1_000_000
"""Longest edge in pixels: to resize one takes memory in proportion to it, whatever the other edge."""
MAX_BYTES = 1 << 30
"""Largest file: twice the bytes of `MAX_PIXELS` pixels of four channels of 16 bits."""
MAX_SCANNED = 2_000_000_000
"""Most pixels of all scans of a progressive JPEG: encoders write about ten scans, and each goes over all pixels."""

MAX_SLOW_PIXELS, MAX_SLOW_BYTES = 500_000, 10_000_000
"""Most pixels of a PPM, and bytes of a BMP, of the kinds that Pillow decodes in Python, in microseconds each."""

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
    return decode_rgb(read_image_bytes(path), shown_name(str(path)))


def read_image_bytes(path: Path) -> bytes:
    """Read an image file without decoding it.

    Raises:
      DataError: the file cannot be read, or has more than `MAX_BYTES`.
    """
    name = shown_name(str(path))
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise DataError(f"{name}: cannot be read: {error.strerror or error}") from error
    if len(data) > MAX_BYTES:
        raise DataError(f"{name}: more than {MAX_BYTES:,} bytes, too large for an image that is read; make it smaller")
    return data


def decode_rgb(data: bytes, name: str) -> UInt8[np.ndarray, "H W 3"]:
    """Decode an image: rotated by its EXIF orientation, on white if transparent, the first frame of several.

    Args:
      data: all bytes of a file of one of `PILLOW_FORMATS` or HEIC. Metadata of PNG and JPEG may be broken.
      name: of the file, and of the member in it, for messages.

    Raises:
      DataError: empty, not an image, corrupt, truncated, of more than `MAX_PIXELS` or beyond another bound, of a
        format whose library is missing, or with pixels of unknown scale.
    """
    if not data:
        raise DataError(f"{name}: empty, not an image; create or download the file again")
    kind = image_format(data[:HEAD_BYTES])
    if remedy := missing_reader(kind):
        raise DataError(f"{name}: {remedy}")
    data = without_metadata(data)
    try:
        with _opened(data, kind) as picture:
            width, height = picture.size
            if width * height > MAX_PIXELS:
                raise DataError(f"{name}: {width} x {height} pixels, more than {MAX_PIXELS:,}; make it smaller")
            if max(width, height) > MAX_EDGE:
                raise DataError(
                    f"{name}: {width} x {height} pixels, an edge of more than {MAX_EDGE:,}; cut it into parts"
                )
            if slow := _slow(picture, len(data)):
                raise DataError(
                    f"{name}: {width} x {height} pixels in a {slow}, which takes long to read; save it as PNG"
                )
            if (scans := jpeg_scans(data)) * width * height > MAX_SCANNED:
                raise DataError(
                    f"{name}: a JPEG of {width} x {height} pixels in {scans:,} scans, too many; save it again"
                )
            # Known only before the pixels are decoded.
            raw = picture.tile[0][3] if kind == "PNG" and picture.tile else None
            picture.load()
            turn = _turn(picture)
            rgb = _to_rgb(picture, data, raw, name)
            return rgb if turn is None else np.asarray(Image.fromarray(rgb).transpose(turn))
    except DataError:
        raise
    except UnidentifiedImageError:
        raise DataError(f"{name}: {_not_an_image(kind)}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise DataError(f"{name}: more than {MAX_PIXELS:,} pixels; make it smaller") from None
    except Exception as error:  # Pillow's decoders raise many types on corrupt files
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(f"{name}: corrupt image ({reason}); create or download the file again") from error


def missing_reader(kind: str) -> str:
    """What to install to read this image format; empty if nothing is missing, and for formats that are not read."""
    if kind == "AVIF" and kind not in read_formats():
        return "AVIF, which this Pillow does not read; pip install 'Pillow>=11.3', or save it as JPEG"
    if kind == "HEIC" and kind not in read_formats():
        return "HEIC, which needs pip install 'optical_jax[heic]'; or save it as JPEG"
    return ""


@functools.cache
def read_formats() -> tuple[str, ...]:
    """Names of the formats that are read here: HEIC needs pillow-heif, AVIF a Pillow that was built with it."""
    has_avif = "avif" in features.modules and features.check("avif")
    formats = tuple(form for form in PILLOW_FORMATS if form != "AVIF" or has_avif)
    return (*formats, "HEIC") if importlib.util.find_spec("pillow_heif") else formats


def resize_rgb(
    rgb: UInt8[np.ndarray, "H W 3"],
    size: tuple[int, int],
    resample: Filter,
    box: tuple[float, float, float, float] | None = None,
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


def _opened(data: bytes, kind: str) -> ImageFile.ImageFile:
    if kind == "HEIC":
        from pillow_heif import HeifImageFile

        return HeifImageFile(io.BytesIO(data))
    return Image.open(io.BytesIO(data), formats=[form for form in read_formats() if form != "HEIC"])


def _slow(picture: ImageFile.ImageFile, size: int) -> str:
    """Kind of a file of this size that Pillow decodes in Python, in more than some seconds; empty for others."""
    width, height = picture.size
    decoders = [tile[0] for tile in picture.tile]
    if width * height > MAX_SLOW_PIXELS and ("ppm" in decoders or "ppm_plain" in decoders):
        return "PPM as text or not of 8 or 16 bits"
    return "compressed BMP" if size > MAX_SLOW_BYTES and "bmp_rle" in decoders else ""


REMEDIES = {
    "Git LFS pointer": "run git lfs pull",
    "HTML": "an error page, perhaps; download the file again",
    "zip": "unpack it",
    "gzip": "unpack it",
}
"""Formats that are not read -> what to do."""


def _not_an_image(kind: str) -> str:
    formats = ", ".join(read_formats())
    if kind and kind not in read_formats():
        return f"not an image ({formats}) but {kind}; {REMEDIES.get(kind, 'save it as PNG or JPEG')}"
    return f"not an image ({formats}), or truncated in its header"


ORIENTATION = 0x0112
"""EXIF and TIFF tag."""
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Orientation -> what makes the image upright."""


def _turn(picture: Image.Image) -> Image.Transpose | None:
    try:
        return TURNS.get(picture.getexif().get(ORIENTATION, 1))
    except Exception:  # corrupt EXIF data of an intact image are ignored; Pillow raises many types on them
        return None


def _to_rgb(picture: Image.Image, data: bytes, raw: Any, name: str) -> UInt8[np.ndarray, "H W 3"]:
    """
    Args:
      raw: of PNG, how Pillow names the pixels in the file.
    """
    key = picture.info.get("transparency")
    if picture.mode.startswith("I"):
        grey, white = np.asarray(picture), _white(picture, name)
        if grey.min() < 0 or grey.max() > white:
            raise DataError(f"{name}: grey of 32 bits, of unknown range; save it with 8 or 16 bits")
        rgb = np.repeat(
            ((np.arange(white + 1) * 255 + white // 2) // white).astype(np.uint8)[grey][:, :, None], 3, axis=2
        )
        if picture.format == "TIFF" and picture.tag_v2.get(PHOTOMETRIC) == WHITE_IS_ZERO:  # pyright: ignore
            rgb = 255 - rgb
        if isinstance(key, int):
            rgb[grey == key] = 255
        return rgb
    if picture.mode == "F":
        raise DataError(f"{name}: grey as floating-point numbers, of unknown range; save it with 8 or 16 bits")
    if raw == "RGB;16B" and isinstance(key, tuple):
        rgb = np.array(picture)
        rgb[_has_colour(rgb, data, key)] = 255
        return rgb
    if raw in SCALES and isinstance(key, int):
        picture.info["transparency"] = key * SCALES[raw]
    if "A" in picture.getbands() or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, (255, 255, 255, 255)), picture)
    return np.asarray(picture.convert("RGB"))


PHOTOMETRIC, WHITE_IS_ZERO = 262, 0
BITS_PER_SAMPLE = 258
SCALES = {"L;2": 255 // 3, "L;4": 255 // 15}
"""Greys of 2 and 4 bits -> factor of their values as decoded; a PNG's transparent one stands in it as it is."""


def _white(picture: Image.Image, name: str) -> int:
    """Value of white in an image of more than 8 bits of grey."""
    if picture.format != "TIFF":
        return 65535
    (bits,) = picture.tag_v2.get(BITS_PER_SAMPLE, (16,))  # pyright: ignore[reportAttributeAccessIssue]
    if bits > 16:
        raise DataError(f"{name}: grey of {bits} bits, of unknown range; save it with 8 or 16 bits")
    return 2**bits - 1


def _has_colour(rgb: UInt8[np.ndarray, "H W 3"], data: bytes, colour: tuple[int, ...]) -> Bool[np.ndarray, "H W"]:
    """Pixels of a PNG of 16 bits a channel that have this colour; Pillow decodes the upper 8 bits, `rgb`."""
    upper = [rgb[:, :, n] == value >> 8 for n, value in enumerate(colour)]
    with Image.open(io.BytesIO(data), formats=("PNG",)) as picture:
        # As if the bytes of a channel were swapped: the lower 8 bits.
        picture.tile = [picture.tile[0]._replace(args="RGB;16L")]
        low = np.asarray(picture)
    lower = [low[:, :, n] == value & 255 for n, value in enumerate(colour)]
    return np.logical_and.reduce([*upper, *lower])

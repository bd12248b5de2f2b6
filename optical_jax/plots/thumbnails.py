"""Thumbnails of images, as data: URLs for HTML pages."""

from __future__ import annotations

import base64

import numpy as np
from jaxtyping import UInt8

from optical_jax.data.rgb import encode_rgb, resize_rgb


def thumbnail(picture: UInt8[np.ndarray, "H W 3"], side: int) -> UInt8[np.ndarray, "h w 3"]:
    """Downscale an image to a longest side of at most `side` pixels, keeping its aspect ratio."""
    height, width, _ = picture.shape
    scale = min(1.0, side / max(height, width))
    size = max(1, round(height * scale)), max(1, round(width * scale))
    return resize_rgb(picture, size, "lanczos") if scale < 1.0 else picture


def data_uri(picture: UInt8[np.ndarray, "H W 3"]) -> str:
    """Encode an image as a data: URL, in JPEG or PNG, whichever is smaller."""
    written = {"png": encode_rgb(picture, "png"), "jpeg": encode_rgb(picture, "jpeg")}
    smallest = min(written, key=lambda form: len(written[form]))
    return f"data:image/{smallest};base64,{base64.b64encode(written[smallest]).decode()}"

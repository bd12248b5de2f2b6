"""Every picture of a set decoded once, so that a broken one is told of before a training and not in the midst of it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from optical_jax.data.images.files import ArrayPicture, PictureSource
from optical_jax.errors import DataError
from optical_jax.progress import ProgressReport

TOLD = 20
"""Broken pictures that a message names."""
AT_A_TIME = 256
"""Pictures handed to the threads together."""


def refuse_broken(sources: Sequence[PictureSource], threads: int = 4) -> None:
    """Decode all, hold none.

    Args:
      sources: pictures; those of npz files are arrays already, and passed over.
      threads: that decode at a time.

    Raises:
      DataError: names all that are broken, empty, too large or no picture, up to `TOLD` of them.
    """
    encoded = [source for source in dict.fromkeys(sources) if not isinstance(source, ArrayPicture)]
    found: list[str] = []
    with ThreadPoolExecutor(threads) as pool, ProgressReport("reading pictures", len(encoded), "pictures") as progress:
        for start in range(0, len(encoded), AT_A_TIME):
            part = encoded[start : start + AT_A_TIME]
            found += filter(None, pool.map(_fault, part))
            progress.advance(len(part))
    if len(found) > 1:
        told = "\n  ".join([*found[:TOLD], *([f"and {len(found) - TOLD:,} more"] if len(found) > TOLD else [])])
        raise DataError(f"{len(found):,} of {len(encoded):,} pictures cannot be read:\n  {told}")
    if found:
        raise DataError(found[0])


def _fault(source: PictureSource) -> str:
    try:
        source.rgb()
    except DataError as error:
        return str(error)
    return ""

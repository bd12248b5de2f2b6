"""Region proposals: bounding boxes from a file, of an object detector for example."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float

from optical_jax.data.files.lines import read_json_lines
from optical_jax.data.files.names import image_id
from optical_jax.errors import DataError

FARTHEST = 1e9
"""Pixels from the corner of an image, beyond all edges."""
FORM = '{"_id": "IMAGE", "boxes": [[left, top, right, bottom], ...]}'


def read_proposals(path: Path) -> dict[str, Float[np.ndarray, "N 4"]]:
    """Read region proposals: image id -> boxes as edges in pixels (a box of one pixel has width 1).

    Args:
      path: JSONL, plain or .gz: ``{"_id": "IMAGE", "boxes": [[left, top, right, bottom], ...]}`` a line.

    Raises:
      DataError: no such file, an empty file, a line in another format, a duplicate image, or a box without size; the
        message names file and line.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; name one with lines {FORM}")
    found: dict[str, np.ndarray] = {}
    for number, record in read_json_lines(path):
        where = f"{path}:{number}"
        boxes = record.get("boxes") if isinstance(record, dict) else None
        if not isinstance(boxes, list) or not isinstance(record.get("_id"), str):
            raise DataError(f"{where}: not the boxes of an image; a line must be {FORM}")
        for n, box in enumerate(boxes):
            if not _is_box(box):
                raise DataError(
                    f"{where}: boxes[{n}] is {box}; it must be [left, top, right, bottom], the lesser first"
                )
        identity = image_id(record["_id"])
        if identity in found:
            raise DataError(f"{where}: image {record['_id']!r} is a duplicate; join its lines")
        found[identity] = np.array(boxes, np.float64).reshape(-1, 4)
    if not found:
        raise DataError(f"{path} is empty; it must hold an image a line: {FORM}")
    return found


def _is_box(box: object) -> bool:
    if not isinstance(box, list) or len(box) != 4:
        return False
    if not all(isinstance(edge, int | float) and not isinstance(edge, bool) and abs(edge) < FARTHEST for edge in box):
        return False
    left, top, right, bottom = box
    return left < right and top < bottom

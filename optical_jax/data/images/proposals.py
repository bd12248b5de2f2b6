"""Boxes in pictures from a file, among which regions are looked for: those of a detector, say."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from jaxtyping import Float

from optical_jax.data.files.records import read_json_lines
from optical_jax.errors import DataError

FORM = '{"_id": "PICTURE", "boxes": [[left, top, right, bottom], ...]}'


def read_proposals(path: Path) -> dict[str, Float[np.ndarray, "N 4"]]:
    """Picture id -> its boxes, as edges in pixels: a box of one pixel is one wide.

    Args:
      path: JSONL, plain or .gz: ``{"_id": "PICTURE", "boxes": [[left, top, right, bottom], ...]}`` a line.

    Raises:
      DataError: no such file, nothing in it, a line of another form, a picture that stands twice, or a box without
        size; file and line are named.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; name one with lines {FORM}")
    found: dict[str, np.ndarray] = {}
    for number, record in read_json_lines(path):
        where = f"{path}:{number}"
        boxes = record.get("boxes") if isinstance(record, dict) else None
        if not isinstance(boxes, list) or not isinstance(record.get("_id"), str):
            raise DataError(f"{where}: not the boxes of a picture; a line must be {FORM}")
        for n, box in enumerate(boxes):
            if not _is_box(box):
                raise DataError(
                    f"{where}: boxes[{n}] is {box}; it must be [left, top, right, bottom], first the lesser"
                )
        if record["_id"] in found:
            raise DataError(f"{where}: picture {record['_id']!r} stands twice; join its lines")
        found[record["_id"]] = np.array(boxes, np.float64).reshape(-1, 4)
    if not found:
        raise DataError(f"{path} is empty; it must hold a picture a line: {FORM}")
    return found


def _is_box(box: object) -> bool:
    if not isinstance(box, list) or len(box) != 4:
        return False
    if not all(isinstance(edge, int | float) and not isinstance(edge, bool) and math.isfinite(edge) for edge in box):
        return False
    left, top, right, bottom = box
    return left < right and top < bottom

"""`python -m optical_jax search --images`: pictures for queries, best first, on a sheet and as lines."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from optical_jax.commands.align import slug
from optical_jax.commands.terminal import make_show
from optical_jax.index.images import find, load_towers

if TYPE_CHECKING:
    from optical_jax.data.images.files import Pictures
    from optical_jax.index.images import PictureHit
    from optical_jax.index.options import SearchCommand

PICTURES_A_ROW = 10
"""Of a sheet."""
SIDE = 320
"""Pixels of a picture's longest side, at most, before it is drawn: twice what a sheet shows."""


def run(command: SearchCommand) -> None:
    """Search, print, draw.

    Raises:
      ConfigError: no such run, checkpoint or pair, or towers that do not agree.
      DataError: no pictures there, or a broken one.
    """
    from optical_jax.data.images.sources import is_image_set, read_pictures

    pictures = read_pictures(command.images, command.split)
    if is_image_set(command.images):
        # What else is there is passed over, and no one should have to guess it from what is not found.
        print(f"pictures: {len(pictures):,} of split {command.split}; --split takes others", file=sys.stderr)
    found = find(command, load_towers(command), pictures)
    path = sheet_path(command)
    if path is not None:
        draw(found, pictures, path)
    if command.json:
        for hits in found:
            for hit in hits:
                print(json.dumps(vars(hit), ensure_ascii=False))
    else:
        print_hits(found)
        print(f"sheet: {path}")


def sheet_path(command: SearchCommand) -> Path | None:
    """Where the sheet goes; None for none."""
    if command.out:
        return Path(command.out)
    return None if command.json else Path(command.run) / "search" / f"{slug(' '.join(command.queries))}.png"


def draw(found: Sequence[Sequence[PictureHit]], pictures: Pictures, path: Path) -> None:
    """The sheet: a row a query, or several."""
    from optical_jax.plots.images import SheetPicture, contact_sheet
    from optical_jax.plots.thumbnails import thumbnail

    rows = []
    for hits in found:
        drawn = [SheetPicture(thumbnail(pictures[hit.picture], SIDE), hit.picture, hit.score, False) for hit in hits]
        for start in range(0, len(drawn), PICTURES_A_ROW):
            rows.append(("" if start else hits[0].query, drawn[start : start + PICTURES_A_ROW]))
    contact_sheet(rows, path)


def print_hits(found: Sequence[Sequence[PictureHit]]) -> None:
    """A table a query, a picture a line."""
    scores = [f"{hit.score:.3f}" for hits in found for hit in hits]
    width = max(map(len, ["score", *scores]))
    head = f"rank {'score':>{width}}  picture"
    show = make_show(len(head))
    for n, hits in enumerate(found):
        if len(found) > 1:
            if n:
                show("", False)
            show(hits[0].query, True)
        show(head, True)
        for hit in hits:
            show(f"{hit.rank:>4} {hit.score:>{width}.3f}  {hit.picture}", False)

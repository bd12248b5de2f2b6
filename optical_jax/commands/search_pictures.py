"""`python -m optical_jax search --images`: pictures for queries, best first, on a sheet and as lines."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from optical_jax.commands.align import slug
from optical_jax.commands.picture_towers import TextAndImage, towers_of_model, towers_of_run
from optical_jax.commands.terminal import make_show
from optical_jax.errors import ConfigError

if TYPE_CHECKING:
    from optical_jax.commands.search import SearchCommand
    from optical_jax.data.images.files import Pictures
    from optical_jax.retrieval.search import Encode

PICTURES_A_ROW = 10
"""Of a sheet."""
SIDE = 320
"""Pixels of a picture's longest side, at most, before it is drawn: twice what a sheet shows."""
FOR_TEXTS = {"documents": "auto", "dictionary": "", "vectors": ""}
"""Flags that say how a text file is searched, and their defaults."""


@dataclass(frozen=True)
class PictureHit:
    query: str
    rank: int
    score: float
    picture: str
    """Its id."""
    file: str
    """And the member in it."""


def check(command: SearchCommand) -> None:
    """Refuse flags that do not go with pictures.

    Raises:
      ConfigError: names the flag, its value and the remedy.
    """
    for name, default in FOR_TEXTS.items():
        if (value := getattr(command, name)) != default:
            raise ConfigError(f"{name}={value} is for --docs, and pictures are searched; leave it out")
    if command.out and (Path(command.out).suffix != ".png" or Path(command.out).is_dir()):
        raise ConfigError(f"out={command.out} is no picture; name a file that ends in .png")
    if command.model and not command.out and not command.json:
        raise ConfigError("out is empty, and a model has no folder for results; name a .png with --out, or give --json")


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


def load_towers(command: SearchCommand) -> TextAndImage:
    from optical_jax.runs.load import is_run

    cache_dir = command.cache_dir or None
    if command.model:
        if is_run(Path(command.model)):
            raise ConfigError(f"model={command.model} is a run; give --run {command.model}")
        return towers_of_model(command.model, command.pictures_by, cache_dir=cache_dir)
    if not is_run(Path(command.run)):
        raise ConfigError(f"run={command.run} is no run folder; name a folder of a training, or give --model")
    return towers_of_run(Path(command.run), command.checkpoint, command.pictures_by, cache_dir)


def find(command: SearchCommand, towers: TextAndImage, pictures: Pictures) -> list[list[PictureHit]]:
    """The best pictures of every query, in the order of the queries. A picture is held no longer than it is scored."""
    from optical_jax.partitioning import over_all_devices
    from optical_jax.progress import ProgressReport
    from optical_jax.retrieval.search import encode_blocks, rank
    from optical_jax.towers.images import encode_picture_blocks

    # Ties go by id, descending: of two equal pictures the one whose name is earlier stands first.
    names = sorted(pictures, reverse=True)
    ids = [f"{n:0{len(str(len(names)))}}" for n in range(len(names))]
    with over_all_devices():
        asked = {"": list(encode_blocks(command.queries, make_encode(command, towers)))}
        with ProgressReport("encoding and ranking pictures", len(names), "pictures") as progress:
            blocks = encode_picture_blocks(
                towers.image,
                pictures,
                names,
                pooled=towers.by_means,
                batch_size=command.batch_size,
                advance=progress.advance,
            )
            ranking = rank(asked, ids, blocks, depth=command.top)[""]
    return [
        [
            PictureHit(query, place, score, names[n], pictures.where(names[n]))
            for place, (n, score) in enumerate(zip(documents, scores, strict=True), start=1)
            if n >= 0
        ]
        for query, documents, scores in zip(
            command.queries, ranking.documents.tolist(), ranking.scores.tolist(), strict=True
        )
    ]


def make_encode(command: SearchCommand, towers: TextAndImage) -> Encode:
    import jax

    from optical_jax.towers.tower import encode, placed
    from optical_jax.types import mean_pool

    there, pool = placed(towers.text), jax.jit(mean_pool)
    if towers.by_means:
        return lambda texts: pool(encode(there, texts, command.batch_size))
    return lambda texts: encode(there, texts, command.batch_size)


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

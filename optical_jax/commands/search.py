"""`python -m optical_jax search`: search lines of a text file, or images, with queries in the student's language."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from optical_jax.commands.entry import as_main, refuse_no_flags
from optical_jax.commands.inputs import check_search
from optical_jax.commands.terminal import make_show, print_json
from optical_jax.files import slug
from optical_jax.index.options import SearchCommand, check
from optical_jax.invocation import program

if TYPE_CHECKING:
    from optical_jax.data.images.files import Images
    from optical_jax.index.images import ImageHit
    from optical_jax.index.texts import Hit


EXAMPLE = 'search --run runs/tiny --docs configs/tiny/documents.txt "Mwalimu ananunua maji"'


def parse(argv: Sequence[str]) -> SearchCommand:
    """Parse the flags; tyro handles --help (exit 0) and unknown flags (exit 2)."""
    refuse_no_flags(argv, "name a run, a text file or images, and a query", EXAMPLE)
    command = tyro.cli(SearchCommand, args=list(argv), prog=program("search"))
    check(command)
    return command


def run_command(argv: Sequence[str]) -> None:
    command = parse(argv)
    check_search(command)
    if command.images:
        search_images(command)
        return
    from optical_jax.index.texts import find, load_towers, read_documents, read_lexicon

    lines = read_documents(Path(command.docs))
    queries, documents = load_towers(command)
    found = find(command, queries, documents, lines, read_lexicon(command))
    if command.json:
        for hit in itertools.chain(*found):
            print_json(vars(hit))
    else:
        print_hits(command.queries, found)
    # A pipe closed by its reader (head) must fail here, where main handles it.
    sys.stdout.flush()


main = as_main(run_command)


def print_hits(queries: Sequence[str], found: Sequence[Sequence[Hit]]) -> None:
    """Print one table per query. Long texts are truncated with an ellipsis on a terminal, and complete elsewhere."""
    every = list(itertools.chain(*found))
    line_width = max([len("line"), *(len(str(hit.line)) for hit in every)])
    score_width = max([len("score"), *(len(f"{hit.score:.3f}") for hit in every)])
    head = f"rank {'score':>{score_width}} {'line':>{line_width}}  text"
    show = make_show(len(head))
    for n, (query, hits) in enumerate(zip(queries, found, strict=True)):
        if len(queries) > 1:
            if n:
                show("", False)
            show(query, True)
        show(head, True)
        for hit in hits:
            show(f"{hit.rank:>4} {hit.score:>{score_width}.3f} {hit.line:>{line_width}}  {hit.text}", False)


IMAGES_A_ROW = 10
"""Images per row of a contact sheet."""
IMAGE_SIDE = 320
"""Longest side in pixels of a thumbnail, twice its size on the sheet."""


def search_images(command: SearchCommand) -> None:
    """Search images, print the results and plot a contact sheet.

    Raises:
      ConfigError: no such run, checkpoint or dual encoder, or towers that do not match.
      DataError: no images there, or a broken file.
    """
    from optical_jax.data.images.sources import is_image_set, read_images
    from optical_jax.index.images import find_images, load_text_and_image

    pictures = read_images(command.images, command.split)
    if is_image_set(command.images):
        # Other splits are not searched, which should not be left to guess from the results.
        print(f"pictures: {len(pictures):,} of split {command.split}; --split takes others", file=sys.stderr)
    found = find_images(command, load_text_and_image(command), pictures)
    path = sheet_path(command)
    if path is not None:
        draw_sheet(found, pictures, path)
    if command.json:
        for hits in found:
            for hit in hits:
                print_json(vars(hit) | {"picture": hit.name})
    else:
        print_image_hits(found)
        print(f"sheet: {path}")


def sheet_path(command: SearchCommand) -> Path | None:
    """Path of the contact sheet; None for no sheet."""
    if command.out:
        return Path(command.out)
    return None if command.json else Path(command.run) / "search" / f"{slug(' '.join(command.queries))}.png"


def draw_sheet(found: Sequence[Sequence[ImageHit]], pictures: Images, path: Path) -> None:
    """Plot the contact sheet, one or more rows per query."""
    from optical_jax.plots.images import SheetImage, contact_sheet
    from optical_jax.plots.thumbnails import thumbnail

    rows = []
    for hits in found:
        drawn = [SheetImage(thumbnail(pictures[hit.picture], IMAGE_SIDE), hit.name, hit.score, False) for hit in hits]
        for start in range(0, len(drawn), IMAGES_A_ROW):
            rows.append(("" if start else hits[0].query, drawn[start : start + IMAGES_A_ROW]))
    contact_sheet(rows, path)


def print_image_hits(found: Sequence[Sequence[ImageHit]]) -> None:
    """Print one table per query, one line per image."""
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
            show(f"{hit.rank:>4} {hit.score:>{width}.3f}  {hit.name}", False)

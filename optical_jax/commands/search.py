"""`python -m optical_jax search`: lines of a text file, or pictures, for queries in the language learned."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from optical_jax.commands import search_pictures
from optical_jax.commands.entry import open_door, refuse_no_flags
from optical_jax.commands.terminal import make_show
from optical_jax.index.options import SearchCommand, check
from optical_jax.index.texts import find, load_towers, read_documents, read_lexicon

if TYPE_CHECKING:
    from optical_jax.index.texts import Hit


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Returns the exit code."""
    return open_door(lambda: run_command(sys.argv[1:] if argv is None else argv))


EXAMPLE = 'python -m optical_jax search --run runs/tiny --docs configs/tiny/documents.txt "Mwalimu ananunua maji"'


def parse(argv: Sequence[str]) -> SearchCommand:
    """Read the flags; tyro itself answers --help (exit 0) and unknown ones (exit 2)."""
    refuse_no_flags(argv, "name a run, a text file or pictures, and a query", EXAMPLE)
    command = tyro.cli(SearchCommand, args=list(argv), prog="python -m optical_jax search")
    check(command)
    return command


def run_command(argv: Sequence[str]) -> None:
    command = parse(argv)
    if command.images:
        search_pictures.run(command)
        return
    lines = read_documents(Path(command.docs))
    queries, documents = load_towers(command)
    found = find(command, queries, documents, lines, read_lexicon(command))
    if command.json:
        for hit in itertools.chain(*found):
            print(json.dumps(vars(hit), ensure_ascii=False))
    else:
        print_hits(command.queries, found)
    # A reader that has had enough (head) is told of here, where main can answer.
    sys.stdout.flush()


def print_hits(queries: Sequence[str], found: Sequence[Sequence[Hit]]) -> None:
    """A table a query. On a terminal a row is a line: long texts end in an ellipsis; elsewhere they are whole."""
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

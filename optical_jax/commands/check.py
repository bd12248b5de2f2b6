"""`python -m optical_jax check`: look at files of sentence pairs before training on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from optical_jax.commands.entry import as_main, refuse_no_flags
from optical_jax.config import DataConfig
from optical_jax.errors import DataError
from optical_jax.invocation import program
from optical_jax.printing import printable

if TYPE_CHECKING:
    from optical_jax.data.text.bitext import Bitext

UNDETERMINED = "und"
"""Of ISO 639, for files whose language is not given."""
EXAMPLE = "check configs/tiny/sw.train.tsv"


@dataclass(frozen=True)
class CheckCommand:
    """Look at files of sentence pairs: the first pairs as read, languages, scripts, lengths, what is left out and why.

    Exit code 3 if training would stop for one of them. Nothing is trained or written.
    """

    files: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[LANG=]FILE")]
    """As data.bitext of train.py: LANG.train.tsv, LANG=FILE, LANG=ENGLISH_FILE,FOREIGN_FILE, ..."""
    data: DataConfig = field(default_factory=DataConfig)
    """Columns, encoding and filters, as for train.py."""


def run_command(argv: Sequence[str]) -> None:
    """Read and check each file, and print what was found.

    Raises:
      DataError: training would stop for a file.
      ConfigError: a flag that is not valid.
    """
    refuse_no_flags(argv, "name files of sentence pairs", EXAMPLE)
    command = tyro.cli(CheckCommand, args=list(argv), prog=program("check"))
    # Here, so that --help does not import numpy.
    from optical_jax.data.text.bitext import load_bitext
    from optical_jax.data.text.entries import parse_entry
    from optical_jax.data.text.report import report_lines

    refusals = []
    for entry in map(with_language, command.files):
        source = parse_entry(entry, "FILE")
        dev = tuple(one for one in command.data.dev if parse_entry(one, "data.dev").language == source.language)
        # What training would hold out itself is left where it is: its lines are the file's.
        given = dev or source.dev_siblings() or command.data.dev_by == "document"
        dev_pairs = command.data.dev_pairs if given else 0
        splits = load_bitext(replace(command.data, bitext=(entry,), dev=dev, dev_pairs=dev_pairs, checks="warn"))
        for name, split in [("train", splits.train), ("dev", splits.dev)]:
            for bitext in split.values():
                print("\n".join(map(printable, report_lines({name: [bitext.report]}))))
                print("\n".join(f"  {printable(line)}" for line in describe(bitext)))
                refusals += bitext.report.refusals
    if refusals and command.data.checks == "stop":
        raise DataError("training would stop for what is marked above, unless data.checks=warn")


def with_language(entry: str) -> str:
    """The entry; with the code of an undetermined language where neither it nor the file's name has one.

    Raises:
      DataError: the file does not exist.
    """
    from optical_jax.data.text.entries import ENTRY, LABELLED
    from optical_jax.data.text.formats import FILE_NAME

    match = ENTRY.fullmatch(entry)
    named = match is None or match["lang"] or FILE_NAME.fullmatch(Path(match["path"]).name)
    if named:
        return entry
    if not Path(entry).exists() and "#" not in entry and "," not in entry:
        if LABELLED.fullmatch(entry):
            # A label that is not a code, which is refused as such.
            return entry
        raise DataError(f"{entry}: no such file; name one that exists")
    return f"{UNDETERMINED}={entry}"


def describe(bitext: Bitext) -> list[str]:
    """Lines on both sides of the pairs as they look, and a text for each reason to leave pairs out."""
    from optical_jax.data.text.checks import SideLook, identify_language, sample

    lines = []
    for name, texts in [("English", bitext.english), (bitext.language, bitext.foreign)]:
        look = SideLook.of(sample(texts))
        fewest, median, most = look.characters
        parts = [f"{look.script} script {look.script_share:.0%}" if look.script else "no letters"]
        if guess := identify_language(texts):
            parts.append(f"{guess.share:.0%} look like {guess.language}")
        parts += [f"{fewest} to {most} characters, median {median}", f"{look.distinct:.0%} of texts differ"]
        lines.append(f"{name} side: {', '.join(parts)}")
    lines += [f"left out as {reason.replace('_', ' ')}: {text}" for reason, text in bitext.report.examples.items()]
    return lines


main = as_main(run_command)

"""`python -m optical_jax names`: free bitext, and a collection to try it on, for any language that CLDR has."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from optical_jax.commands.entry import open_door, refuse_no_flags
from optical_jax.errors import ConfigError

EXAMPLE = "python -m optical_jax names --lang sw --out names"


@dataclass(frozen=True)
class NamesCommand:
    """Write names of languages, places, money and hours as bitext, and phrases held out by combination as a collection.

    They come from Unicode CLDR through Babel (extra `demo`), without a network.
    """

    lang: Annotated[tuple[str, ...], tyro.conf.arg(metavar="LANG [LANG ...]")]
    """Languages, such as sw so tl."""
    out: Annotated[str, tyro.conf.arg(metavar="DIR")]
    """Folder to write; files of an earlier call there are replaced."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Returns the exit code."""
    return open_door(lambda: run_command(sys.argv[1:] if argv is None else argv))


def run_command(argv: Sequence[str]) -> None:
    """Write the files and say what is in them.

    Raises:
      ConfigError: an unknown language, or Babel is missing.
    """
    refuse_no_flags(argv, "name languages and a folder to write", EXAMPLE)
    command = tyro.cli(NamesCommand, args=list(argv), prog="python -m optical_jax names")
    # Here, so that --help answers without importing numpy.
    from optical_jax.data.text.names import split_names, write_names

    out = Path(command.out)
    if out.exists() and not out.is_dir():
        raise ConfigError(f"out={out} is a file; name a folder")
    if repeated := {lang for lang in command.lang if command.lang.count(lang) > 1}:
        raise ConfigError(f"lang={' '.join(command.lang)} names {min(repeated)} twice; name each once")
    splits = split_names(command.lang)
    write_names(out, splits)
    for lang in command.lang:
        left_out = ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in splits.left_out[lang].items())
        print(
            f"{lang}: {len(splits.train[lang])} names to train on, {len(splits.dev[lang])} for dev, "
            f"{len(splits.test[lang])} unseen phrases to test; left out: {left_out or 'none'}"
        )
    print(f"bitext and collection: {out}")

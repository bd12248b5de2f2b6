"""`python -m optical_jax names`: bitext and a test collection of names, for any language in Unicode CLDR."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from optical_jax.commands.entry import as_main, refuse_no_flags
from optical_jax.errors import ConfigError
from optical_jax.invocation import program

EXAMPLE = "names --lang sw --out names"


@dataclass(frozen=True)
class NamesCommand:
    """Write names of languages, places, money and hours as bitext, and phrases held out by combination as a collection.

    They come from Unicode CLDR through Babel (extra `demo`), without a network.
    """

    lang: Annotated[tuple[str, ...], tyro.conf.arg(metavar="LANG [LANG ...]")]
    """Languages, such as sw so tl."""
    out: Annotated[str, tyro.conf.arg(metavar="DIR")]
    """Output folder; its files are overwritten."""


def run_command(argv: Sequence[str]) -> None:
    """Write the files and print a summary.

    Raises:
      ConfigError: an unknown language, or Babel is missing.
    """
    refuse_no_flags(argv, "name languages and a folder to write", EXAMPLE)
    command = tyro.cli(NamesCommand, args=list(argv), prog=program("names"))
    # Here, so that --help does not import numpy.
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


main = as_main(run_command)

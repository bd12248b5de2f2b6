"""Printing of result lines, to a terminal or a pipe."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Callable
from typing import Any

from optical_jax.printing import prints_unicode


def make_show(narrowest: int) -> Callable[[str, bool], None]:
    """Make f(line, bold), which prints a line, on a terminal truncated to its width."""
    if not sys.stdout.isatty():
        return lambda line, bold: print(line)
    from rich.console import Console
    from rich.text import Text

    console = Console()

    def show(line: str, bold: bool) -> None:
        # Control characters are replaced, so that file contents cannot control the terminal.
        text = Text("".join(" " if unicodedata.category(c) == "Cc" else c for c in line), "bold" if bold else "")
        text.truncate(max(console.width, narrowest), overflow="ellipsis")
        console.print(text, soft_wrap=True)

    return show


def print_json(value: Any) -> None:
    """Print a value as one line of JSON, in ASCII where stdout is not UTF-8."""
    print(json.dumps(value, ensure_ascii=not prints_unicode()))

"""Lines of results, as a terminal and as a pipe should have them."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Callable


def make_show(narrowest: int) -> Callable[[str, bool], None]:
    """A function that prints one line, on a terminal cut to its width and, where asked, bold."""
    if not sys.stdout.isatty():
        return lambda line, bold: print(line)
    from rich.console import Console
    from rich.text import Text

    console = Console()

    def show(line: str, bold: bool) -> None:
        # Also keeps what a file holds from steering the terminal.
        text = Text("".join(" " if unicodedata.category(c) == "Cc" else c for c in line), "bold" if bold else "")
        text.truncate(max(console.width, narrowest), overflow="ellipsis")
        console.print(text, soft_wrap=True)

    return show

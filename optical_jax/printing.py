"""Texts of others (file names, lines of files, queries) made safe to print."""

from __future__ import annotations

import io
import sys
import unicodedata


def printable(text: str) -> str:
    r"""A text on one line, with control characters and what is not Unicode text escaped: `\x1b`, `\n`, `\ud800`."""
    return "".join(_escaped(c) if is_control(c) else c for c in text)


def is_control(character: str) -> bool:
    """Control characters, line and paragraph separators, and halves of surrogate pairs (bytes that are not UTF-8)."""
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")


def printable_lines(text: str) -> str:
    """A text whose line ends are meant, each line `printable`."""
    return "\n".join(map(printable, text.split("\n")))


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":
        # A byte of a name or an argument that is not UTF-8, as Python hands it on.
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def escape_unprintable() -> None:
    """Make stdout and stderr escape characters that their encoding lacks, such as é in ASCII, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def prints_unicode() -> bool:
    """Whether stdout takes any text. JSON has its own escapes for one that does not."""
    return (sys.stdout.encoding or "").lower().replace("-", "").replace("_", "") == "utf8"

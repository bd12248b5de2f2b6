"""Names of image files as ids that a TREC run file can hold, and as text that can be printed; both are reversible."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import unquote

from optical_jax.printing import is_control


def image_id(name: str) -> str:
    """Id of an image or caption: its name, with white space percent-encoded as in URLs ("red rose" is "red%20rose").

    So are control characters, and bytes of file names that are not UTF-8; in such a name, and in one that would read as
    encoded already, every % is too (%25). Different names have different ids.
    """
    return _encoded(name, _splits) if _is_encoded(unquote(name, errors="surrogateescape")) else name


def image_name(identity: str) -> str:
    """The name of which `image_id` made this id."""
    name = unquote(identity, errors="surrogateescape")
    return name if _is_encoded(name) else identity


def shown_name(name: str) -> str:
    """A file name as text of one line: control characters, and bytes that are not UTF-8, are percent-encoded."""
    return _encoded(name, is_control) if any(map(is_control, name)) else name


def _is_encoded(name: str) -> bool:
    return any(map(_splits, name)) or unquote(name, errors="surrogateescape") != name


def _splits(char: str) -> bool:
    return char.isspace() or is_control(char)


def _encoded(name: str, is_unsafe: Callable[[str], bool]) -> str:
    return "".join(_percent(char) if char == "%" or is_unsafe(char) else char for char in name)


def _percent(char: str) -> str:
    # Of surrogates only those that stand for a byte are in names of files.
    is_byte = "\udc80" <= char <= "\udcff"
    return "".join(f"%{byte:02X}" for byte in char.encode("utf-8", "surrogateescape" if is_byte else "surrogatepass"))

"""Small files of a run: JSON parsing and atomic JSON writes, file locks, SHA-256 of inputs."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from optical_jax.errors import DataError

OWN_CONFIG = "optical_jax.json"
"""TowerConfig of a folder that `save_tower` wrote."""
REFERENCE = "reference.json"
"""In a run's teacher/: path of a teacher that was not copied."""
PAIR = "pair.json"
"""Metadata of a dual encoder, how its vectors are compared: in its folder, beside text/ and image/, and in the teacher/
of a run whose student was taught by its text tower."""
SEEN_IMAGES = "seen_pictures.json"
"""Digests, in hexadecimal, of the images that an image tower was trained on: beside its pair.json. In a student's run,
of the images that the student was trained on."""
EXPORTED = "exported_files.json"
"""In a folder that `save_tower`, `export_pair` or `save_pair` wrote: each file that it wrote -> sha256."""
TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "sentencepiece.bpe.model",
    "spiece.model",
    "tokenizer.model",
)
"""A folder without any of these has no tokenizer (transformers would make an empty one from config.json)."""


def sha256_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


SURROGATE = re.compile("[\ud800-\udfff]")
"""Half of a surrogate pair: Python strings can hold one, but it is not a character, and UTF-8 cannot encode it."""
_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def text_fault(text: str) -> str:
    """Why a string is not valid text, for an error message; empty if it is."""
    half = SURROGATE.search(text)
    return f"half a surrogate pair (\\u{ord(half[0]):x}); a character was cut in two" if half else ""


def parse_json(text: str) -> Any:
    """Parse JSON that others wrote. All of its strings are valid text.

    Raises:
      ValueError: not JSON, half a surrogate pair in a string, a number of thousands of digits, or nesting of hundreds.
    """
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, " if "\n" in text else ""
        raise ValueError(f"not JSON ({error.msg}, {place}column {error.colno})") from None
    except RecursionError:
        raise ValueError("not JSON that can be read (brackets are nested too deep)") from None
    except ValueError:
        # Python's limit on the digits of an integer, which keeps reading linear in time.
        raise ValueError("not JSON that can be read (a number has too many digits)") from None
    # Only an escape can stand for half a pair, and few texts have one.
    if _ESCAPED_SURROGATE.search(text) and (fault := _fault_within(value)):
        raise ValueError(fault)
    return value


def _fault_within(value: Any) -> str:
    """Fault of the first invalid string in a parsed JSON value, keys too."""
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, str):
            if fault := text_fault(one):
                return fault
        elif isinstance(one, list):
            left += one
        elif isinstance(one, dict):
            left += one.keys()
            left += one.values()
    return ""


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
      DataError: it is not UTF-8 or not JSON, as of `parse_json`.
    """
    try:
        return parse_json(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 (byte {error.start + 1}); make or copy the file again") from None
    except ValueError as error:
        raise DataError(f"{path}: {error}; make or copy the file again") from None


def read_if_present(path: Path) -> Any:
    """Contents of a JSON file; None if it does not exist."""
    return read_json(path) if path.is_file() else None


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically: a kill leaves the old file; of several writers the last one wins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    new.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    new.replace(path)


def lock_file(file: IO[bytes], *, wait: bool = False) -> bool:
    """Lock an open file exclusively; False if another process holds it, unless this is to `wait` for it.

    The operating system frees the lock when the file is closed or its process ends, kill -9 included. Windows refuses
    reads of a locked file's first byte by other handles: lock a file that nobody reads.
    """
    from filelock import lock_descriptor

    return lock_descriptor(file.fileno(), blocking=wait)


@contextlib.contextmanager
def locked(folder: Path, refusal: Exception) -> Iterator[None]:
    """Hold the lock of a folder, its empty file `.lock`, which stays behind.

    Raises:
      Exception: `refusal`, if another process holds it.
    """
    with (folder / ".lock").open("ab") as file:
        if not lock_file(file):
            raise refusal
        yield


def trains_teacher(run: Path) -> bool:
    """True for the run of a teacher: what it trains is in model/, a tower or a dual encoder."""
    return (run / "model").is_dir()


def trains_pair(run: Path) -> bool:
    """True for the run of an image-text teacher, a dual encoder."""
    return (run / "model" / PAIR).is_file()


def own_system(run: Path) -> str:
    """Name of what a run trains in its results: "model" or "student"."""
    return "model" if trains_teacher(run) else "student"


SLUG_BYTES = 80
"""Of each of the two texts; file systems take names of 255."""


def slug(text: str) -> str:
    """A text as part of a file's name: its letters, marks and digits, of any script; a long one's end is a hash."""
    text = unicodedata.normalize("NFC", text)
    words = "".join(c if unicodedata.category(c)[0] in "LMN" else " " for c in text).split()
    name, digest = "-".join(words), hashlib.sha256(text.encode()).hexdigest()[:8]
    if len(name.encode()) <= SLUG_BYTES:
        return name or digest
    head = name.encode()[: SLUG_BYTES - 9].decode(errors="ignore")
    return f"{head}-{digest}"

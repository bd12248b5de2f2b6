"""Lines of text files in any encoding and with any line end, and the values of JSONL files."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from optical_jax.errors import DataError
from optical_jax.files import SURROGATE, parse_json, text_fault

SNIFFED = 1 << 20
"""Bytes at the start of a file that decide its encoding and its line ends."""
LONGEST = 1 << 26
"""Characters of the longest line that is read; a longer one is not a line of text."""
MANY_ZEROS = 0.1
"""Share of zero bytes from which a file is UTF-16 without a byte order mark, or not text at all."""
MARKS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
"""Byte order marks, and the codecs that read and drop them."""
UNPACK = "unpack it and name the file inside"
KINDS = (
    (b"PK\x03\x04", "a zip archive or an Office file (.xlsx, .docx)", "save the text in it as a .txt or .tsv file"),
    (b"%PDF-", "a PDF", "save its text, for example with pdftotext"),
    (b"version https://git-lfs.github.com/spec/", "a pointer of Git LFS, not the file itself", "run git lfs pull"),
    (b"PAR1", "a Parquet file", "convert it to .tsv or .jsonl"),
    (b"ARROW1", "an Arrow file", "convert it to .tsv or .jsonl"),
    (b"\xd0\xcf\x11\xe0", "an old or encrypted Office file (.xls, .doc)", "save it as text (UTF-8)"),
    (b"{\\rtf", "an RTF document", "save it as plain text (UTF-8)"),
    (b"SQLite format 3", "an SQLite database", "export the table as .tsv"),
    (b"BZh", "packed by bzip2", UNPACK),
    (b"\xfd7zXZ\x00", "packed by xz", UNPACK),
    (b"\x28\xb5\x2f\xfd", "packed by zstd", UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", UNPACK),
    (b"Rar!\x1a\x07", "a RAR archive", UNPACK),
    (b"\x89PNG\r\n", "an image (PNG)", "name a text file"),
    (b"\xff\xd8\xff", "an image (JPEG)", "name a text file"),
    (b"GIF8", "an image (GIF)", "name a text file"),
)
"""First bytes of files of other kinds, what they are, and the remedy."""
HTML = (b"<!doctype html", b"<html")


class TextForm(NamedTuple):
    """How a text file is stored."""

    encoding: str
    """A codec of Python."""
    line_end: str
    """LF, which stands for CRLF too, or CR in a file without LF."""


def text_form(path: Path, encoding: str = "") -> TextForm:
    """Find out how a plain or gzip file is stored; arguments and errors as `raw_lines`."""
    with open_bytes(path) as file:
        return _form(path, file.read(SNIFFED), encoding)


def raw_lines(path: Path, encoding: str = "") -> Iterator[tuple[int, str, str]]:
    """Read every line of a plain or gzip text file: number from 1, text without line end, and what is wrong with it.

    A line ends at LF or CRLF. In a file without any LF, as old Macs and some spreadsheets write, it ends at CR.

    Args:
      path: the file.
      encoding: a codec of Python; empty for UTF-8. A byte order mark at the start comes first.

    Raises:
      DataError: the file is empty, is not text but of another kind, cannot be read, or is broken gzip.
    """
    number = 0
    for number, text, fault in _lines(path, encoding):
        yield number, text, fault
    if not number:
        raise DataError(f"{path}: empty file")


def read_lines(path: Path, encoding: str = "") -> Iterator[tuple[int, str]]:
    """Read the lines of a text file that are not blank, with their numbers; arguments as `raw_lines`.

    Raises:
      DataError: as `raw_lines`, but for an empty file; or at the first line with a fault.
    """
    for number, text, fault in _lines(path, encoding):
        if fault:
            raise DataError(f"{path}:{number}: {fault}; mend the line, or save the file as UTF-8")
        if text.strip():
            yield number, text


def read_json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """Read the values of a JSONL file with their line numbers.

    Raises:
      DataError: as `read_lines`, or a line is not JSON with valid text (`parse_json`).
    """
    for number, line in read_lines(path):
        try:
            yield number, parse_json(line)
        except ValueError as error:
            form = "; a line must be one JSON value" if str(error).startswith("not JSON") else ""
            raise DataError(f"{path}:{number}: {error}{form}") from None


def check_kind(path: Path, own: tuple[bytes, ...] = ()) -> None:
    """Refuse a file of a known kind in place of another binary file, or of XML.

    Args:
      path: the file, plain or gzip.
      own: first bytes of the kinds that are meant to be there.

    Raises:
      DataError: the file is of another kind, a web page or a pointer of Git LFS for example; as `open_bytes`.
    """
    try:
        with open_bytes(path) as file:
            head = file.read(512)
    except (EOFError, zlib.error, OSError):
        # Its reader says where it is broken.
        return
    if (other := _other_kind(head)) and not head.startswith(own):
        raise DataError(f"{path}: this is {other[0]}; {other[1]}")


def open_bytes(path: Path) -> gzip.GzipFile | io.BufferedReader:
    """Open a plain or gzip file, whichever its first bytes say.

    Raises:
      DataError: it cannot be opened, or it is named .gz and is not gzip.
    """
    try:
        with path.open("rb") as plain:
            packed = plain.read(2) == b"\x1f\x8b"
        if not packed and path.suffix == ".gz" and path.stat().st_size:
            raise DataError(f"{path}: named .gz but not gzip; rename it or fetch it again")
        return gzip.open(path, "rb") if packed else path.open("rb")
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(f"{path}: cannot be read: {error.strerror or error}")


def _lines(path: Path, encoding: str) -> Iterator[tuple[int, str, str]]:
    number = 0
    try:
        with open_bytes(path) as file:
            form = _form(path, file.read(SNIFFED), encoding)
            file.seek(0)
            # Bytes that are not of the encoding become lone surrogates, so that a line can be named for them.
            errors = "surrogatepass" if form.encoding in ("utf-16", "utf-32") else "surrogateescape"
            other_end = "\n" if form.line_end == "\r" else "\r"
            with io.TextIOWrapper(file, form.encoding, errors, newline=form.line_end) as lines:
                while line := lines.readline(LONGEST):
                    number += 1
                    if len(line) == LONGEST:
                        raise DataError(f"{path}:{number}: a line of more than {LONGEST:,} characters; not a text file")
                    text = line.rstrip("\r\n")
                    if SURROGATE.search(text):
                        yield number, "", _encoding_fault(text, form.encoding)
                    elif other_end in text:
                        name = {"\r": "carriage return (CR)", "\n": "line feed (LF)"}[other_end]
                        yield number, "", f"a {name} within the line; line ends are mixed in this file"
                    else:
                        yield number, text, ""
    except UnicodeError as error:
        raise DataError(f"{path}: not {form.encoding} after line {number} ({error}); convert the file") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: broken gzip after line {number} ({error}); fetch the file again") from error
    except OSError as error:
        raise _unreadable(path, error) from error


def _encoding_fault(text: str, encoding: str) -> str:
    first = SURROGATE.search(text)
    assert first
    if not "\udc80" <= first[0] <= "\udcff" or encoding in ("utf-16", "utf-32"):
        return text_fault(text)
    if not encoding.startswith("utf-8"):
        return f"byte 0x{ord(first[0]) - 0xDC00:02x} is not {encoding}"
    byte = len(text[: first.start()].encode()) + 1
    return f"not UTF-8 (byte {byte} of the line)"


def _other_kind(head: bytes) -> tuple[str, str] | None:
    """What a file is by its first bytes, and the remedy, if it is not text."""
    other = next(((what, remedy) for magic, what, remedy in KINDS if head.startswith(magic)), None)
    if not other and head.lstrip(b"\xef\xbb\xbf\r\n\t ")[:20].lower().startswith(HTML):
        other = "an HTML page, perhaps of an error or a login", "fetch the file again"
    if not other and head[257:262] == b"ustar":
        other = "a tar archive", UNPACK
    return other


def _form(path: Path, head: bytes, named: str) -> TextForm:
    """
    Raises:
      DataError: the file is of another kind.
    """
    if other := _other_kind(head):
        raise DataError(f"{path}: this is {other[0]}, not a text file; {other[1]}")
    encoding = next((codec for mark, codec in MARKS if head.startswith(mark)), named or "utf-8")
    if encoding == "utf-8" and head.count(0) > MANY_ZEROS * len(head):
        raise DataError(
            f"{path}: {head.count(0):,} of its first {len(head):,} bytes are zero: UTF-16 without a byte order mark, "
            "or not text; save it as UTF-8"
        )
    text = head.decode(encoding, "ignore")
    # At the end of what was read, a CR may be half of a CRLF.
    return TextForm(encoding, "\r" if "\r" in text[:-1] and "\n" not in text else "\n")

"""Zip archives of sentence pairs, as OPUS publishes them: the files in one, unpacked within bounds."""

from __future__ import annotations

import contextlib
import re
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path

from optical_jax.data.text.languages import ENGLISH, find_language
from optical_jax.data.text.pairs import PairFile
from optical_jax.errors import ConfigError, DataError

LARGEST = 1 << 34
"""Bytes to which the files of an archive may unpack, together."""
HARMLESS = 1 << 26
"""Bytes to which anything may unpack, however small it is packed."""
DENSEST = 200
"""Times its packed size to which a file may unpack: text is packed to a fifth, repetitive XML to a fiftieth."""
BROKEN = (
    zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError, ValueError, LookupError,
    struct.error,
)  # fmt: skip
"""What zipfile raises on an archive that is damaged, packed by an unsupported method (NotImplementedError) or encrypted
(RuntimeError); each becomes a DataError that names the file."""


def check_sizes(path: Path, name: str) -> list[zipfile.ZipInfo]:
    """The files in a zip archive (an .xlsx is one).

    Raises:
      DataError: it is not a zip archive, or it unpacks to more than a text can be.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
    except BROKEN as error:
        raise DataError(f"{name}: not a zip archive that can be read ({error}); fetch or save it again") from error
    for member in members:
        if member.file_size > max(HARMLESS, DENSEST * member.compress_size):
            raise DataError(
                f"{name}: {member.filename} unpacks from {member.compress_size:,} to {member.file_size:,} bytes, which "
                "no text does; unpack it yourself if you trust it"
            )
    if sum(member.file_size for member in members) > LARGEST:
        raise DataError(f"{name}: unpacks to more than {LARGEST:,} bytes; unpack it and name the files inside")
    return members


@contextlib.contextmanager
def unpacked(file: PairFile, endings: Collection[str]) -> Iterator[list[PairFile]]:
    """The Moses pair (two files) or the one other file of pairs in an archive, unpacked into a temporary folder.

    Args:
      file: the archive; its part names a member, or the beginning of the names of a pair.
      endings: of the files that can be read.

    Raises:
      ConfigError: it has several, and none is named.
      DataError: it has none, or is damaged.
    """
    members = {member.filename: member for member in check_sizes(file.path, file.name)}
    names = [name for name in members if not name.startswith("__MACOSX/")]
    pairs = _moses_pairs(names, file.language)
    single = [name for name in names if PairFile(Path(name), "").ending in endings and not _is_about(name)]
    found = [pair for pair in pairs.values() if file.part in (*pair, _stem(pair[0]))] if file.part else []
    found = found or ([(file.part,)] if file.part in names else [])
    if file.part and not found:
        raise ConfigError(f"{file.name}#{file.part}: no such file in the archive; it has {_listed(names)}")
    found = found or list(pairs.values()) or [(name,) for name in single]
    if not found:
        raise DataError(
            f"{file.name}: no pairs of {ENGLISH} and {file.language} in the archive; it has {_listed(names)}"
        )
    if len(found) > 1:
        ways = [_stem(names[0]) if len(names) > 1 else names[0] for names in found]
        raise ConfigError(
            f"{file.name}: several files of pairs; name one, as in {file.path}#{ways[0]}: {_listed(ways)}"
        )
    with tempfile.TemporaryDirectory(prefix="optical_jax_") as folder:
        try:
            with zipfile.ZipFile(file.path) as archive:
                # By number: a member's name may lead out of the folder.
                paths = []
                for number, name in enumerate(found[0]):
                    path = Path(folder) / f"{number}{''.join(Path(name).suffixes[-2:])}"
                    with archive.open(members[name]) as packed, path.open("wb") as plain:
                        while block := packed.read(1 << 20):
                            plain.write(block)
                    paths.append(path)
        except BROKEN as error:
            raise DataError(f"{file.name}: cannot be unpacked ({error}); fetch it again") from error
        yield [
            PairFile(path, file.language, shown=f"{file.name}#{name}")
            for path, name in zip(paths, found[0], strict=True)
        ]


def _moses_pairs(names: list[str], language: str) -> dict[str, tuple[str, str]]:
    """Stem -> (English file, other file), of files whose names differ only in the language that they end with."""
    by_stem: dict[str, dict[str, str]] = {}
    for name in names:
        stem, _, code = name.removesuffix(".gz").rpartition(".")
        by_stem.setdefault(stem, {})[code] = name
    found = {}
    for stem, by_code in by_stem.items():
        english, foreign = (find_language(code, list(by_code)) for code in (ENGLISH, language))
        if english and foreign and english != foreign:
            found[stem] = by_code[english], by_code[foreign]
    return found


def _stem(name: str) -> str:
    return name.removesuffix(".gz").rpartition(".")[0]


def _is_about(name: str) -> bool:
    """Whether a file in an archive is about the others."""
    return bool(re.match(r"(readme|license|licence|info|citation)", Path(name).name, re.IGNORECASE))


def _listed(names: list[str]) -> str:
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") if names else "nothing"

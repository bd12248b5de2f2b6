"""Bitext file formats (TSV, CSV, JSON, Excel, TMX, XLIFF, PO, Parquet, Moses, zip): files to sentence pairs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from optical_jax.config import DataConfig
from optical_jax.data.files.lines import check_kind, text_form
from optical_jax.data.files.records import LANGUAGE
from optical_jax.data.text.archives import unpacked
from optical_jax.data.text.delimited import read_delimited
from optical_jax.data.text.excel import read_excel
from optical_jax.data.text.json_pairs import read_json
from optical_jax.data.text.pairs import BLANK, Line, PairFile, pair_line
from optical_jax.data.text.parquet import DEV_SPLITS, data_set_splits, read_parquet
from optical_jax.data.text.translation_files import read_po, read_tmx, read_xliff
from optical_jax.errors import ConfigError, DataError
from optical_jax.files import sha256_file

Reader = Callable[[PairFile, DataConfig, list[str]], Iterator[Line]]
READERS: dict[str, Reader] = {
    "tsv": read_delimited,
    "jsonl": read_json,
    "csv": read_delimited,
    "tab": read_delimited,
    "txt": read_delimited,
    "json": read_json,
    "ndjson": read_json,
    "xlsx": read_excel,
    "tmx": read_tmx,
    "xlf": read_xliff,
    "xliff": read_xliff,
    "po": read_po,
    "parquet": read_parquet,
    "arrow": read_parquet,
    "zip": read_delimited,
}
"""Ending of a file's name -> its reader; files with other endings are read as text with tabs. Dev files beside training
files are read in this order. A zip archive has the reader of the file in it."""
AS_TEXT = "save it as .csv or .tsv (UTF-8)"
OTHER_KINDS = {
    **dict.fromkeys(("xls", "xlsb", "ods", "numbers"), ("a spreadsheet that is not .xlsx", "save it as .xlsx or .csv")),
    **dict.fromkeys(("doc", "docx", "odt", "rtf", "pages"), ("a word processor's document", AS_TEXT)),
    "pdf": ("a PDF", "export its text and save the pairs as .tsv"),
    **dict.fromkeys(("tar", "tgz", "7z", "rar"), ("an archive", "unpack it and name the file inside")),
    **dict.fromkeys(("bz2", "xz", "zst", "lz4"), ("a packed file", "unpack it, or pack it by gzip")),
    **dict.fromkeys(("sqlite", "sqlite3", "db", "mdb", "accdb"), ("a database", "export the table as .csv")),
    **dict.fromkeys(("html", "htm", "xml"), ("a page or a tree of XML", "name a TMX file .tmx, an XLIFF file .xliff")),
    **dict.fromkeys(("srt", "vtt", "ass"), ("subtitles in one language", "align them and save the pairs as .tsv")),
    **dict.fromkeys(("yaml", "yml", "toml"), ("a tree of settings", "save the pairs as .jsonl or .tsv")),
    "pot": ("a template of translations, without any", "name the .po file of a language"),
    **dict.fromkeys(("sdlxliff", "mqxliff", "mxliff"), ("an XLIFF file of a translation program", "name it .xliff")),
    "mo": ("a compiled catalogue", "name the .po file that it was made from"),
    **dict.fromkeys(("pkl", "pickle", "npy", "npz"), ("data of a Python program", "save the pairs as .jsonl")),
}
"""Ending of a file that holds no pairs, or none that are read -> its kind and the remedy."""
BINARY = {"xlsx": (b"PK",), "parquet": (b"PAR1",), "arrow": (b"ARROW1",), "zip": (b"PK",)}
"""Forms that are not read through gzip, and their first bytes."""
FILE_NAME = re.compile(rf"(?P<lang>{LANGUAGE})\.(?P<split>[^.]+)\.(?i:(?P<form>{'|'.join(READERS)})(?P<packed>\.gz)?)")
"""<lang>.<split>.tsv[.gz], or another ending of `READERS`."""


@dataclass(frozen=True)
class Source:
    """One entry of data.bitext: a language and its file, or its two files (Moses: English, foreign)."""

    language: str
    paths: tuple[Path, ...]
    part: str = ""
    """Sheet of a workbook, member of an archive, or split of a data set."""

    @property
    def parallel(self) -> bool:
        """Whether the sides are translations of each other, so that their lengths are related."""
        return True

    @property
    def name(self) -> str:
        return ",".join(str(path) for path in self.paths)

    @property
    def files(self) -> tuple[Path, ...]:
        """All files of the source."""
        folder = self.paths[0]
        return tuple(data_set_splits(folder)[self.part]) if folder.is_dir() else self.paths

    @property
    def left_out(self) -> dict[str, int]:
        """Reason -> number of candidates that give no pair and are not counted as lines."""
        return {}

    def lines(self, cfg: DataConfig, notes: list[str] | None = None) -> Iterator[Line]:
        """As `read_lines`."""
        return read_lines(self, cfg, notes)

    def dev_siblings(self) -> list[Source]:
        """Dev sources: <lang>.dev.* beside <lang>.train.*, or the dev split of a data set's train split."""
        path = self.paths[0]
        if path.is_dir():
            splits = data_set_splits(path) if self.part == "train" else {}
            return [Source(self.language, (path,), split) for split in DEV_SPLITS if split in splits][:1]
        match = FILE_NAME.fullmatch(path.name)
        if len(self.paths) > 1 or not match or match["split"] != "train":
            return []
        found = {}
        for sibling in path.parent.iterdir():
            other = FILE_NAME.fullmatch(sibling.name)
            if other and (other["lang"], other["split"]) == (match["lang"], "dev") and sibling.is_file():
                order = list(READERS).index(other["form"].lower()), bool(other["packed"])
                found[order, sibling.name] = Source(self.language, (sibling,))
        return [found[order] for order in sorted(found)]


@dataclass(frozen=True)
class InputFile:
    path: str
    sha256: str


def fingerprint(path: Path) -> InputFile:
    return InputFile(str(path), sha256_file(path))


def read_lines(source: Source, cfg: DataConfig, notes: list[str] | None = None) -> Iterator[Line]:
    """Every line of a source, in order; the format is recognised by the file name.

    Args:
      source: the file or files.
      cfg: columns, delimiter and encoding.
      notes: what was recognised is added to it: encoding, delimiter, header, columns.

    Raises:
      ConfigError: a column is asked for that is not there, or a setting does not apply.
      DataError: a file is empty, of another kind or broken; the files of a Moses pair differ in length.
    """
    return _read(
        [PairFile(path, source.language, source.part) for path in source.paths], cfg, [] if notes is None else notes
    )


def _read(files: Sequence[PairFile], cfg: DataConfig, notes: list[str]) -> Iterator[Line]:
    if len(files) == 2:
        return _read_moses(files[0], files[1], cfg, notes)
    file = files[0]
    if file.path.is_dir():
        return read_parquet(file, cfg, notes)
    if other := OTHER_KINDS.get(file.ending):
        raise DataError(f"{file.name}: this is {other[0]} (.{file.ending}); {other[1]}")
    if file.ending in BINARY and file.name.lower().endswith(".gz"):
        raise DataError(f"{file.name}: a .{file.ending} file packed again by gzip; unpack it")
    if file.ending in BINARY or READERS.get(file.ending) in (read_tmx, read_xliff):
        _check_kind(file)
    if file.ending == "zip":
        return _read_archive(file, cfg, notes)
    reader = READERS.get(file.ending, read_delimited)
    if file.part and reader is not read_excel:
        raise ConfigError(f"{file.name}#{file.part}: a .{file.ending} file has no parts; leave #{file.part} out")
    if reader in (read_delimited, read_json):
        note_encoding(file, cfg, notes)
    return reader(file, cfg, notes)


def _check_kind(file: PairFile) -> None:
    """
    Raises:
      DataError: the file is of another kind than its name says.
    """
    try:
        check_kind(file.path, BINARY.get(file.ending, ()))
    except DataError as error:
        raise DataError(str(error).replace(str(file.path), file.name)) from error


def _read_archive(file: PairFile, cfg: DataConfig, notes: list[str]) -> Iterator[Line]:
    with unpacked(file, set(READERS) - {"zip"}) as files:
        notes.append(f"{file.name}: read {' and '.join(one.name.rpartition('#')[2] for one in files)} in it")
        yield from _read(files, cfg, notes)


def note_encoding(file: PairFile, cfg: DataConfig, notes: list[str]) -> None:
    """Add a text file's encoding to the notes, if it is not UTF-8."""
    # Its first line raises what is wrong with the file.
    next(file.lines(cfg.encoding))
    encoding = text_form(file.path, cfg.encoding).encoding
    if not encoding.startswith("utf-8"):
        notes.append(f"{file.name}: read as {encoding}")


def _read_moses(english: PairFile, foreign: PairFile, cfg: DataConfig, notes: list[str]) -> Iterator[Line]:
    for field in ("score", "document"):
        if value := getattr(cfg, f"{field}_column"):
            raise ConfigError(
                f"data.{field}_column={value}: a Moses pair ({english.name},{foreign.name}) has no {field}s; "
                "leave it empty"
            )
    for file in (english, foreign):
        note_encoding(file, cfg, notes)
    counts = [0, 0]
    for a, b in zip_longest(english.lines(cfg.encoding), foreign.lines(cfg.encoding)):
        counts = [counts[0] + (a is not None), counts[1] + (b is not None)]
        if not a or not b:
            continue
        fault_file = english if a[2] or not a[1].strip() else foreign
        where = f"{fault_file.name}:{a[0]}"
        if a[2] or b[2]:
            yield Line(where, fault=a[2] or b[2])
        elif not a[1].strip() and not b[1].strip():
            yield Line(where, left_out=BLANK)
        else:
            yield pair_line(where, {"english": a[1], "foreign": b[1]})
    if counts[0] != counts[1]:
        raise DataError(
            f"{english.name} has {counts[0]} lines and {foreign.name} has {counts[1]}; a Moses pair needs equal counts"
        )

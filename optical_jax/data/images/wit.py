"""WIT (Wikipedia image-text): captions in a hundred languages with image URLs; the images are not included.

    wit_v1.SPLIT.all-*.tsv[.gz]   17 columns under a header: language, image_url, caption_reference_description, ...
    pictures.tsv                  image_url<TAB>path, from this file's folder; or instead of it
    images/HASH.jpg               HASH: sha256, sha1 or md5 of image_url, in hexadecimal

The columns as DATA.md of github.com/google-research-datasets/wit lists them; header and quoting as TensorFlow Datasets
reads the files. The images are not published under names of their own; both ways to name them are this project's.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import sys
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from optical_jax.data.characters import is_blank
from optical_jax.data.files.lines import read_lines
from optical_jax.data.files.requests import MissingPartError, SourceRequest
from optical_jax.data.images.captions import CaptionLine, ImageTextSet, gather_request, our_code
from optical_jax.data.images.files import FileImage, ImageSource
from optical_jax.data.images.finding import index_images, is_file, spellings
from optical_jax.errors import DataError

COLUMNS = ("language", "image_url", "caption_reference_description")
HASHES = ("sha256", "sha1", "md5")
NO_CAPTION, NO_IMAGE = "no reference caption", "no local picture"


class UrlImages:
    """Local image files by URL."""

    def __init__(self, by_url: dict[str, Path], by_hash: dict[str, Path], where: str) -> None:
        self.by_url, self.by_hash, self.where = by_url, by_hash, where

    def find(self, identity: str) -> str | None:
        if identity in self.by_url:
            return str(self.by_url[identity])
        if self.by_hash:
            for name in HASHES:
                path = self.by_hash.get(hashlib.new(name, identity.encode(), usedforsecurity=False).hexdigest())
                if path:
                    return str(path)
        return None

    def near(self, identity: str) -> str:
        return ""

    def source(self, name: str) -> ImageSource:
        return FileImage(Path(name))


def wit(ask: SourceRequest) -> ImageTextSet:
    """WIT's reference captions by image URL; rows without caption or local image are counted and left out."""
    split = ask.split_of(["train", "val", "test"])
    shards = ask.of_split("rows", f"wit_v1.{split}.*.tsv")
    pictures = None if ask.text_only else _local_images(ask)
    wanted = set(ask.languages)
    lines: dict[str, list[CaptionLine]] = {}
    left_out: Counter[str] = Counter()
    for shard in shards:
        for where, (code, url, text) in _rows(shard):
            language = our_code(code)
            if wanted and language not in wanted:
                continue
            if is_blank(text):
                left_out[NO_CAPTION] += 1
            elif pictures is not None and pictures.find(url) is None:
                left_out[NO_IMAGE] += 1
            else:
                lines.setdefault(language, []).append(CaptionLine(where, url, text))
    empty = sorted(wanted - lines.keys())
    if empty or not lines:
        why = ", ".join(f"{reason} {count}" for reason, count in sorted(left_out.items())) or "no row at all"
        what = f"no row in {empty[0]}" if empty else "no row"
        raise MissingPartError(f"{ask.spec}: {what} has a caption and a local image (left out: {why})")
    return gather_request(ask, split, lines, pictures, shards, left_out=left_out)


def _local_images(ask: SourceRequest) -> UrlImages:
    lists = [path for path in ask.files.near("pictures.tsv") if path.is_file()]
    if lists:
        return UrlImages(_listed(lists[0]), {}, str(lists[0]))
    folder = ask.files.subfolders("local images (a list of them pictures.tsv, or)", "images")[0]
    hashed = {PurePosixPath(name).stem.lower(): folder / name for name in index_images(folder).sources}
    return UrlImages({}, hashed, str(folder))


def _listed(path: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for number, line in read_lines(path):
        cells = line.split("\t")
        if len(cells) != 2:
            raise DataError(f"{path}:{number}: {len(cells)} columns; a line must be image_url<TAB>path")
        pictures = [path.parent / name for name in spellings(cells[1])]
        picture = next(filter(is_file, pictures), None)
        if picture is None:
            raise DataError(f"{path}:{number}: there is no {pictures[0]}")
        if cells[0] in found:
            raise DataError(f"{path}:{number}: {cells[0]} is already in an earlier line")
        found[cells[0]] = picture
    return found


def _rows(path: Path) -> Iterator[tuple[str, list[str]]]:
    """The line where each row ends, and its cells in the order of `COLUMNS`."""
    try:
        unpack = gzip.open if path.suffix == ".gz" else open
        with _long_cells(), unpack(path, "rt", encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter="\t")
            header = next(reader, [])
            if missing := [name for name in COLUMNS if name not in header]:
                raise DataError(f"{path}:1: no column {missing[0]}; the first line must name the columns")
            places = [header.index(name) for name in COLUMNS]
            for cells in reader:
                where = f"{path}:{reader.line_num}"
                if len(cells) != len(header):
                    raise DataError(f"{where}: {len(cells)} columns, the first line has {len(header)}")
                yield where, [cells[place] for place in places]
    except (EOFError, gzip.BadGzipFile, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: broken ({error}); fetch it again") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None


@contextmanager
def _long_cells() -> Iterator[None]:
    """Raise the csv module's limit: a row holds the text of a page."""
    before = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(before)

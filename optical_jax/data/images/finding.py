"""Find image files in folders, tar archives and npz files, and name those that are not read."""

from __future__ import annotations

import functools
import logging
import os
import tarfile
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol

from optical_jax.data.files.names import shown_name
from optical_jax.data.image_bytes import HEAD_BYTES, image_format, is_cut_off
from optical_jax.data.images.files import ArrayFile, ArrayImage, FileImage, ImageSource, TarImage
from optical_jax.data.rgb import missing_reader, read_formats
from optical_jax.errors import DataError

log = logging.getLogger(__name__)

ENDINGS = (
    ".apng", ".bmp", ".dib", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".mpo", ".pbm", ".pgm", ".pjp", ".pjpeg",
    ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp",
)  # fmt: skip
"""Suffixes of image files, which are read whatever format they are in."""
HEIF_ENDINGS = (".avif", ".avifs", ".heic", ".heics", ".heif", ".heifs", ".hif")
"""Suffixes of image files that are read if a library for their format is installed."""
UNREAD_ENDINGS = {
    ".ai": "Illustrator", ".arw": "raw", ".cr2": "raw", ".cr3": "raw", ".dng": "raw", ".eps": "PostScript",
    ".ico": "ICO", ".jp2": "JPEG 2000", ".jxl": "JPEG XL", ".nef": "raw", ".orf": "raw", ".psd": "Photoshop",
    ".raf": "raw", ".rw2": "raw", ".svg": "SVG", ".svgz": "SVG", ".tga": "TGA", ".xcf": "GIMP",
}  # fmt: skip
"""Suffix -> format of image files that are not read."""
TEXT_ENDINGS = (".csv", ".gz", ".html", ".json", ".jsonl", ".md", ".py", ".tsv", ".txt", ".xml", ".yaml", ".yml")
"""Suffixes of files that often stand beside images, and are ignored unopened."""


class ImageFinder(Protocol):
    """Finds the image files that captions name."""

    where: str
    """All folders or archives that are searched, for messages."""

    def find(self, identity: str) -> str | None:
        """The name of the image's file; None if there is none."""
        ...

    def near(self, identity: str) -> str:
        """What to do about an image that is not there, by a file of a similar name; empty if there is none."""
        ...

    def source(self, name: str) -> ImageSource: ...


class ImageFolders:
    """Find images by file name in several folders, without listing them. Accents may be composed or not."""

    def __init__(self, folders: Sequence[Path], ending: str = "") -> None:
        """
        Args:
          folders: searched in this order.
          ending: suffix of the files that ids lack.
        """
        self.folders, self.ending = folders, ending
        self.where = ", ".join(map(str, folders))

    def find(self, identity: str) -> str | None:
        paths = (folder / f"{name}{self.ending}" for folder in self.folders for name in spellings(identity))
        return next((str(path) for path in paths if is_file(path)), None)

    def near(self, identity: str) -> str:
        wanted = PurePosixPath(identity)
        for folder in self.folders:
            try:
                names = sorted(os.listdir((folder / wanted).parent))
            except (OSError, ValueError):
                continue
            found = similar(wanted.name, filter(_ends_as_image, names))
            path = folder / wanted.parent / found
            if found:
                reason = unread(path.suffix, head_of(path))
                return there_but_unread(found, reason) if reason else meant(found)
        return ""

    def source(self, name: str) -> ImageSource:
        return FileImage(Path(name))


class ImageIndex:
    """Find images of one folder or archive by file name, with or without its suffix.

    Names are compared in Unicode form NFC: macOS decomposes accents in file names, editors do not. Those that are not
    UTF-8 are found as they are printed.
    """

    def __init__(
        self, sources: Mapping[str, ImageSource], where: str, left_out: Mapping[str, str] | None = None
    ) -> None:
        """
        Args:
          sources: image files by name.
          where: the folder or archive.
          left_out: names of further image files, which are not read -> why.
        """
        self.sources, self.where, self.left_out = sources, where, left_out or {}
        self._named: dict[str, list[str]] = {}
        for name in sources:
            spelt = (composed(one) for one in (name, shown_name(name)))
            for known in dict.fromkeys(form for one in spelt for form in (one, without_ending(one))):
                self._named.setdefault(known, []).append(name)

    def find(self, identity: str) -> str | None:
        """The name of the file; None if there is none.

        Raises:
          DataError: several files have this name but for suffix or Unicode form.
        """
        if identity in self.sources:
            return identity
        found = self._named.get(composed(identity), [])
        if len(found) > 1:
            both = " and ".join(map(shown_name, found))
            raise DataError(f"{self.where}: {both} are both {identity!r}; rename or remove one")
        return found[0] if found else None

    def near(self, identity: str) -> str:
        wanted = PurePosixPath(identity).name
        if found := similar(wanted, self.sources):
            return meant(found)
        found = similar(wanted, self.left_out)
        return there_but_unread(found, self.left_out[found]) if found else ""

    def source(self, name: str) -> ImageSource:
        return self.sources[name]


def similar(wanted: str, names: Iterable[str]) -> str:
    """A file of that name but for suffix, case or folder; names that differ by a digit are of other images."""
    stem = composed(without_ending(wanted)).casefold()
    for name in names:
        last = PurePosixPath(name)
        if stem in (composed(last.name).casefold(), composed(last.stem).casefold()):
            return name
    return ""


def _ends_as_image(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in (*ENDINGS, *HEIF_ENDINGS, *UNREAD_ENDINGS)


def meant(name: str) -> str:
    return f"did you mean {shown_name(name)!r}?"


def there_but_unread(name: str, reason: str) -> str:
    return f"{shown_name(name)} is there, and is not read ({reason})"


def spellings(name: str) -> list[str]:
    """The name as it is, and with its accents composed and decomposed."""
    return list(dict.fromkeys((name, composed(name), unicodedata.normalize("NFD", name))))


def composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def is_file(path: Path) -> bool:
    """Whether this is a file; False for a name that no file can have."""
    try:
        return path.is_file()
    except OSError:  # too long, for one
        return False


def without_ending(name: str) -> str:
    """The name without the suffix of an image file, if it has one."""
    path = PurePosixPath(name)
    return str(path.with_suffix("")) if path.suffix.lower() in (*ENDINGS, *HEIF_ENDINGS) else name


def index_images(path: Path) -> ImageIndex:
    """Index the images in a folder (its subfolders, and folders that are linked to), a tar archive or an npz file.

    Image files that are not read, because of their format or a broken link, are named in a warning.

    Raises:
      DataError: no images, a duplicate name, or a broken archive.
    """
    left_out: dict[str, str] = {}
    if path.is_dir():
        sources = _in_folder(path, left_out)
    elif path.suffix == ".npz":
        file = ArrayFile(path)
        sources = {identity: ArrayImage(file, row) for row, identity in enumerate(file.ids)}
        if len(sources) < len(file.ids):
            twice = next(identity for row, identity in enumerate(file.ids) if identity in file.ids[:row])
            raise DataError(f"{path}: id {twice!r} is a duplicate; give each image its own")
    else:
        sources = _in_tar(path, left_out)
    left_out = dict(sorted(left_out.items()))
    message = _left_out(left_out)
    if not sources:
        raise DataError(f"{path}: no image in it ({', '.join(read_formats())})" + (f"; {message}" if message else ""))
    if message:
        _warn_once(f"{path}: {message}")
    return ImageIndex(sources, str(path), left_out)


NAMED = 3
"""Image files left out that a message names."""


def _left_out(left_out: Mapping[str, str]) -> str:
    if not left_out:
        return ""
    named = [f"{shown_name(name)} ({reason})" for name, reason in list(left_out.items())[:NAMED]]
    if len(left_out) > NAMED:
        named.append(f"and {len(left_out) - NAMED:,} more")
    return f"{len(left_out):,} image file{'s' * (len(left_out) > 1)} left out: {', '.join(named)}"


@functools.cache
def _warn_once(message: str) -> None:
    # Several splits may be read from one folder.
    log.warning("%s", message)


def _in_folder(folder: Path, left_out: dict[str, str]) -> dict[str, ImageSource]:
    found: dict[str, ImageSource] = {}
    for name in sorted(walk(folder, left_out)):
        path = folder / name
        suffix = path.suffix.lower()
        if suffix in TEXT_ENDINGS:
            continue
        if suffix in ENDINGS:
            found[name] = FileImage(path)
        elif suffix in UNREAD_ENDINGS or suffix in HEIF_ENDINGS or is_file(path):
            _sort(name, suffix, head_of(path), FileImage(path), found, left_out)
    return found


def _sort(
    name: str,
    suffix: str,
    head: bytes,
    source: ImageSource,
    found: dict[str, ImageSource],
    left_out: dict[str, str],
) -> None:
    """Add a file whose suffix does not decide to what is found, or to what is left out if it is an image at all."""
    if reason := unread(suffix, head):
        left_out[name] = reason
    elif suffix in HEIF_ENDINGS:
        found[name] = source


def unread(suffix: str, head: bytes) -> str:
    """Why a file with this suffix and these first bytes is not read; empty if it is, or is not an image."""
    kind, suffix = image_format(head), suffix.lower()
    if suffix in ENDINGS:
        return ""
    if suffix in HEIF_ENDINGS:
        if remedy := missing_reader(kind):
            return remedy
        return f"{kind}, cut off behind its signature" if kind in ("AVIF", "HEIC") and is_cut_off(head) else ""
    if suffix in UNREAD_ENDINGS:
        return f"{UNREAD_ENDINGS[suffix]}; save it as PNG or JPEG"
    if kind in ("AVIF", "GIF", "HEIC", "JPEG", "PNG", "TIFF", "WEBP"):
        return f"{kind} by another ending; end its name in .{kind.lower()}"
    return ""


def head_of(path: Path) -> bytes:
    """The first bytes of a file; none if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(HEAD_BYTES)
    except (OSError, ValueError):
        return b""


MAX_LINKS = 1000
"""Links to folders that are followed below one folder, which may lead to each other."""


def walk(folder: Path, left_out: dict[str, str]) -> Iterator[str]:
    """Names of the files in a folder, from there, but for hidden ones; links to folders are followed.

    A link to a folder that it lies in is not. What cannot be read is added to `left_out`, with the reason.

    Raises:
      DataError: more than `MAX_LINKS` links.
    """
    links = 0
    waiting = [("", frozenset((_identity(folder),)))]
    while waiting:
        inside, above = waiting.pop()
        try:
            entries = list(os.scandir(folder / inside))
        except OSError as error:
            left_out[inside or "."] = f"cannot be read: {error.strerror or error}"
            continue
        for entry in entries:
            name = f"{inside}/{entry.name}" if inside else entry.name
            if entry.name.startswith("."):
                continue
            if entry.is_symlink() and not os.path.exists(entry.path):
                if Path(name).suffix.lower() in (*ENDINGS, *HEIF_ENDINGS, ""):
                    left_out[name] = f"broken link to {shown_name(os.readlink(entry.path))}"
            elif entry.is_dir():
                own = _identity(Path(entry.path))
                links += entry.is_symlink()
                if links > MAX_LINKS:
                    raise DataError(f"{folder}: more than {MAX_LINKS:,} links to folders in it; remove some")
                if own not in above:
                    waiting.append((name, above | {own}))
            elif entry.is_file():
                yield name


def _identity(folder: Path) -> tuple[int, int]:
    found = folder.stat()
    return found.st_dev, found.st_ino


def _in_tar(path: Path, left_out: dict[str, str]) -> dict[str, ImageSource]:
    sources: dict[str, ImageSource] = {}
    kind = image_format(head_of(path))
    if kind and kind != "gzip":
        remedy = "unpack it and name the folder" if kind == "zip" else "name the folder that it lies in"
        raise DataError(f"{path}: {kind}, not a folder, a tar archive or an npz file of images; {remedy}")
    try:
        with tarfile.open(path, "r:") as archive, path.open("rb") as file:
            for member in archive:
                name = PurePosixPath(member.name)
                suffix, name = name.suffix.lower(), str(name)
                is_known = suffix in (*ENDINGS, *HEIF_ENDINGS)
                if member.isdir() or suffix in TEXT_ENDINGS or _is_hidden(name):
                    continue
                if not member.isreg() or member.issparse():
                    if is_known:
                        raise DataError(f"{path}: {name} is a link or not a plain file; pack the files themselves")
                    continue
                if is_known and name in sources:
                    raise DataError(f"{path}: {name} is a duplicate; give each image its own name")
                source = TarImage(path, name, member.offset_data, member.size)
                if suffix in ENDINGS:
                    sources[name] = source
                else:
                    file.seek(member.offset_data)
                    _sort(name, suffix, file.read(min(HEAD_BYTES, member.size)), source, sources, left_out)
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise DataError(
            f"{path}: broken, compressed or not a tar archive ({error}); pack it again without gzip"
        ) from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    return sources


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in PurePosixPath(name).parts)

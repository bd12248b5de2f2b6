"""Images in a folder, a tar archive or an npz file, decoded on access."""

from __future__ import annotations

import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b, sha256
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import numpy as np
from jaxtyping import UInt8

from optical_jax.data.rgb import decode_rgb, read_rgb
from optical_jax.errors import DataError
from optical_jax.progress import ProgressReport

Rgb = UInt8[np.ndarray, "H W 3"]

ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""Suffixes of image files; other files, and hidden ones, are ignored."""


class ImageSource(Protocol):
    """One image in its file."""

    @property
    def where(self) -> str:
        """Its file, and the member in it, for messages."""
        ...

    def rgb(self) -> Rgb:
        """
        Raises:
          DataError: it cannot be read or decoded.
        """
        ...

    def digest(self) -> bytes:
        """Hash of the encoded bytes, 16 bytes; nothing is decoded.

        Raises:
          DataError: it cannot be read.
        """
        ...


@dataclass(frozen=True)
class FileImage:
    path: Path

    @property
    def where(self) -> str:
        return str(self.path)

    def rgb(self) -> Rgb:
        return read_rgb(self.path)

    def digest(self) -> bytes:
        try:
            return digest_of(self.path.read_bytes())
        except OSError as error:
            raise DataError(f"{self.where}: cannot be read: {error.strerror or error}") from error


@dataclass(frozen=True)
class TarImage:
    """An image in a tar archive, read by offset, so that threads and processes need not share one open file."""

    path: Path
    member: str
    offset: int
    size: int

    @property
    def where(self) -> str:
        return f"{self.path}: {self.member}"

    def rgb(self) -> Rgb:
        return decode_rgb(self._data(), self.where)

    def digest(self) -> bytes:
        return digest_of(self._data())

    def _data(self) -> bytes:
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                return file.read(self.size)
        except OSError as error:
            raise DataError(f"{self.where}: cannot be read: {error.strerror or error}") from error


class ArrayFile:
    """An npz file with `ids` [N] and `images` [N, H, W, 3] uint8; the first access unpacks all of it."""

    def __init__(self, path: Path) -> None:
        """
        Raises:
          DataError: it is not such a file.
        """
        self.path = path
        self.ids = [str(identity) for identity in self._array("ids").reshape(-1)]
        shape, dtype = self._header("images")
        if dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or shape[0] != len(self.ids):
            raise DataError(
                f"{path}: images is {dtype} of shape {shape} for {len(self.ids)} ids; it must be uint8 [ids, H, W, 3]"
            )

    @cached_property
    def images(self) -> UInt8[np.ndarray, "N H W 3"]:
        return self._array("images")

    def _array(self, key: str) -> Any:
        return self._read(key, lambda file: np.lib.format.read_array(file, allow_pickle=False))

    def _header(self, key: str) -> tuple[tuple[int, ...], np.dtype]:
        """Shape and dtype of an array, without unpacking it."""
        formats = np.lib.format

        def read(file: Any) -> tuple[tuple[int, ...], np.dtype]:
            old = formats.read_magic(file) == (1, 0)
            shape, _, dtype = (formats.read_array_header_1_0 if old else formats.read_array_header_2_0)(file)
            return shape, dtype

        return self._read(key, read)

    def _read(self, key: str, read: Callable[[Any], Any]) -> Any:
        # np.load leaves a file open that is not an archive.
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(f"{key}.npy") as file:
                return read(file)
        except KeyError:
            raise DataError(f"{self.path}: no array {key!r}; an npz file of images has ids and images") from None
        except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            raise DataError(f"{self.path}: {key} cannot be read ({error}); make the file again") from error


@dataclass(frozen=True)
class ArrayImage:
    file: ArrayFile
    row: int

    @property
    def where(self) -> str:
        return f"{self.file.path}: {self.file.ids[self.row]}"

    def rgb(self) -> Rgb:
        return self.file.images[self.row]

    def digest(self) -> bytes:
        shape = "x".join(map(str, self.rgb().shape))
        return digest_of(shape.encode() + self.rgb().tobytes())


def digest_of(data: bytes) -> bytes:
    return blake2b(data, digest_size=16).digest()


class Images(Mapping[str, Rgb]):
    """Images by id, decoded on every access; none is cached."""

    def __init__(self, sources: Mapping[str, ImageSource]) -> None:
        self._sources = dict(sources)

    @property
    def sources(self) -> Mapping[str, ImageSource]:
        """Image id -> its file."""
        return self._sources

    def some(self, ids: Collection[str]) -> Images:
        """The images with these ids, in the order they have here."""
        return Images({identity: source for identity, source in self._sources.items() if identity in ids})

    def __getitem__(self, identity: str) -> Rgb:
        """
        Raises:
          KeyError: no such image.
          DataError: it is empty, broken, too large or not an image; the message names its file.
        """
        return self._sources[identity].rgb()

    def __iter__(self) -> Iterator[str]:
        return iter(self._sources)

    def __len__(self) -> int:
        return len(self._sources)

    def __contains__(self, identity: object) -> bool:
        return identity in self._sources

    def where(self, identity: str) -> str:
        """The file of an image, and the member in it."""
        return self._sources[identity].where

    def digest(self, identity: str) -> bytes:
        """Hash of the encoded image, 16 bytes: equal for equal files."""
        return self._sources[identity].digest()

    @cached_property
    def digests(self) -> dict[str, bytes]:
        """The digest of every image, by id; reads all files, once."""
        return {identity: source.digest() for identity, source in self._sources.items()}

    @property
    def sha256(self) -> str:
        """Hash of the ids in their order and of the encoded images."""
        named = (f"{identity}\n".encode() + digest for identity, digest in self.digests.items())
        return sha256(b"".join(named)).hexdigest()


class ImageFinder(Protocol):
    """Finds the image files that captions name."""

    where: str
    """All folders or archives that are searched, for messages."""

    def find(self, identity: str) -> str | None:
        """The name of the image's file; None if there is none."""
        ...

    def near(self, identity: str) -> str:
        """A similar name to suggest for an unknown one; empty if there is none."""
        ...

    def source(self, name: str) -> ImageSource: ...


class ImageFolders:
    """Find images by exact file name in several folders, without listing them."""

    def __init__(self, folders: Sequence[Path], ending: str = "") -> None:
        """
        Args:
          folders: searched in this order.
          ending: suffix of the files that ids lack.
        """
        self.folders, self.ending = folders, ending
        self.where = ", ".join(map(str, folders))

    def find(self, identity: str) -> str | None:
        paths = (folder / f"{identity}{self.ending}" for folder in self.folders)
        return next((str(path) for path in paths if path.is_file()), None)

    def near(self, identity: str) -> str:
        return ""

    def source(self, name: str) -> ImageSource:
        return FileImage(Path(name))


class ImageIndex:
    """Find images of one folder or archive by file name, with or without its suffix.

    Names are compared in Unicode form NFC: macOS decomposes accents in file names, editors do not.
    """

    def __init__(self, sources: Mapping[str, ImageSource], where: str) -> None:
        self.sources, self.where = sources, where
        self._named: dict[str, list[str]] = {}
        for name in sources:
            for known in dict.fromkeys((composed(name), composed(without_ending(name)))):
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
            raise DataError(f"{self.where}: {' and '.join(found)} are both {identity!r}; rename or remove one")
        return found[0] if found else None

    def near(self, identity: str) -> str:
        # Another suffix or folder; names that differ otherwise, by a digit mostly, are other images.
        wanted = PurePosixPath(without_ending(identity)).name
        return next((name for name in self.sources if PurePosixPath(without_ending(name)).name == wanted), "")

    def source(self, name: str) -> ImageSource:
        return self.sources[name]


def composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def without_ending(name: str) -> str:
    """The name without the suffix of an image file, if it has one."""
    path = PurePosixPath(name)
    return str(path.with_suffix("")) if path.suffix.lower() in ENDINGS else name


def index_images(path: Path) -> ImageIndex:
    """Index the images in a folder (and its subfolders), a tar archive or an npz file.

    Raises:
      DataError: no images, a duplicate name, or a broken archive.
    """
    if path.is_dir():
        sources = _in_folder(path)
    elif path.suffix == ".npz":
        file = ArrayFile(path)
        sources = {identity: ArrayImage(file, row) for row, identity in enumerate(file.ids)}
        if len(sources) < len(file.ids):
            twice = next(identity for row, identity in enumerate(file.ids) if identity in file.ids[:row])
            raise DataError(f"{path}: id {twice!r} is a duplicate; give each image its own")
    else:
        sources = _in_tar(path)
    if not sources:
        raise DataError(f"{path}: no image in it ({', '.join(ENDINGS)})")
    return ImageIndex(sources, str(path))


def _in_folder(folder: Path) -> dict[str, ImageSource]:
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {name: FileImage(folder / name) for name in sorted(filter(_is_image, names))}


def _in_tar(path: Path) -> dict[str, ImageSource]:
    sources: dict[str, ImageSource] = {}
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                name = str(PurePosixPath(member.name))
                if member.isdir() or not _is_image(name):
                    continue
                if not member.isreg() or member.issparse():
                    raise DataError(f"{path}: {name} is a link or not a plain file; pack the files themselves")
                if name in sources:
                    raise DataError(f"{path}: {name} is a duplicate; give each image its own name")
                sources[name] = TarImage(path, name, member.offset_data, member.size)
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise DataError(
            f"{path}: broken, compressed or not a tar archive ({error}); pack it again without gzip"
        ) from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    return sources


def _is_image(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in ENDINGS and not any(part.startswith(".") for part in path.parts)


SHOWN = 20
"""Broken images that a message names."""
AT_A_TIME = 256
"""Images decoded per progress update."""


def refuse_broken(sources: Sequence[ImageSource], threads: int = 4) -> None:
    """Check that all images can be decoded.

    Args:
      sources: images; those of npz files are arrays already, and skipped.
      threads: number of decoding threads.

    Raises:
      DataError: some are broken, empty, too large or not images; the message names up to `SHOWN`.
    """
    encoded = [source for source in dict.fromkeys(sources) if not isinstance(source, ArrayImage)]
    found: list[str] = []
    with ThreadPoolExecutor(threads) as pool, ProgressReport("reading images", len(encoded), "images") as progress:
        for start in range(0, len(encoded), AT_A_TIME):
            part = encoded[start : start + AT_A_TIME]
            found += filter(None, pool.map(_fault, part))
            progress.advance(len(part))
    if len(found) > 1:
        told = "\n  ".join([*found[:SHOWN], *([f"and {len(found) - SHOWN:,} more"] if len(found) > SHOWN else [])])
        raise DataError(f"{len(found):,} of {len(encoded):,} images cannot be read:\n  {told}")
    if found:
        raise DataError(found[0])


def _fault(source: ImageSource) -> str:
    try:
        source.rgb()
    except DataError as error:
        return str(error)
    return ""

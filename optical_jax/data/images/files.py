"""Images by id, each in a file, a tar archive or an npz file, decoded on access."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jaxtyping import UInt8

from optical_jax.data.files.names import shown_name
from optical_jax.data.rgb import MAX_BYTES, decode_rgb, read_image_bytes, read_rgb
from optical_jax.errors import DataError
from optical_jax.progress import ProgressReport

Rgb = UInt8[np.ndarray, "H W 3"]


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
        return shown_name(str(self.path))

    def rgb(self) -> Rgb:
        return read_rgb(self.path)

    def digest(self) -> bytes:
        return digest_of(read_image_bytes(self.path))


@dataclass(frozen=True)
class TarImage:
    """An image in a tar archive, read by offset, so that threads and processes need not share one open file."""

    path: Path
    member: str
    offset: int
    size: int

    @property
    def where(self) -> str:
        return shown_name(f"{self.path}: {self.member}")

    def rgb(self) -> Rgb:
        return decode_rgb(self._data(), self.where)

    def digest(self) -> bytes:
        return digest_of(self._data())

    def _data(self) -> bytes:
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                return file.read(min(self.size, MAX_BYTES))
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
        self.ids = [_text(identity, path) for identity in self._array("ids").reshape(-1)]
        shape, dtype = self._header("images")
        if dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or shape[0] != len(self.ids) or 0 in shape[1:]:
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
        except (OSError, ValueError, EOFError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
            raise DataError(f"{self.path}: {key} cannot be read ({error}); make the file again") from error


def _text(identity: Any, path: Path) -> str:
    """
    Raises:
      DataError: bytes that are not UTF-8.
    """
    if not isinstance(identity, bytes):
        return str(identity)
    try:
        return identity.decode("utf-8")
    except UnicodeDecodeError:
        raise DataError(f"{path}: id {bytes(identity)!r} is not UTF-8; save the ids as texts") from None


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

"""On-disk cache of token vectors: float16, memory-mapped, keyed by a hash of the encoder's inputs.

A folder holds pairs of files. `N.vectors` is the vectors, end to end; `N.index` a record a text: its key, where its
vectors begin, how many there are, and their checksum. Vectors are written before their record, and a record that is
torn, or whose vectors are not those it names, counts for nothing: a kill at any moment costs the last texts alone.
A writer appends to a pair of files of its own, for which it holds the empty `N.lock`, so that several runs may share a
folder.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import IO

import numpy as np
from jaxtyping import Float, Float16, Int

from optical_jax.data.batches.tokens import FlatTokens
from optical_jax.errors import MachineError
from optical_jax.files import lock_file
from optical_jax.types import TokenVectors

RECORD = np.dtype([("key", "S16"), ("start", "<u8"), ("count", "<u4"), ("checksum", "<u4")])


def text_keys(tokens: FlatTokens) -> list[bytes]:
    """Cache keys, 16 bytes per text: a hash of ids and masks, the complete input of an encoder."""
    keys = []
    for a, b in zip(tokens.offsets[:-1].tolist(), tokens.offsets[1:].tolist(), strict=True):
        digest = blake2b(tokens.ids[a:b].tobytes(), digest_size=16)
        for name, mask in ((b"a", tokens.attend), (b"k", tokens.keep)):
            digest.update(name if mask is None or mask[a:b].all() else name + mask[a:b].tobytes())
        keys.append(digest.digest())
    return keys


class VectorCache:
    """Cache folder of vectors of one width. Open it once per process; `close` releases its files to other writers."""

    def __init__(self, folder: Path, width: int):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.width = folder, width
        self._found: dict[bytes, tuple[int, int, int, int]] = {}
        """Key -> part, start, count, checksum."""
        self._parts: list[np.ndarray] = []
        self._writer: tuple[IO[bytes], IO[bytes], IO[bytes]] | None = None
        self._written = 0
        self.reload()

    def __len__(self) -> int:
        return len(self._found)

    def __contains__(self, key: bytes) -> bool:
        return key in self._found

    @property
    def bytes(self) -> int:
        """Size of all cached vectors, in bytes."""
        return sum(count for _, _, count, _ in self._found.values()) * self.width * 2

    def reload(self) -> None:
        """Read the index of all files in the folder again."""
        self._found, self._parts = {}, []
        for index in sorted(self.folder.glob("*.index")):
            vectors = index.with_suffix(".vectors")
            size = vectors.stat().st_size // (2 * self.width) if vectors.is_file() else 0
            part = np.memmap(vectors, np.float16, "r", shape=(size, self.width)) if size else np.zeros((0, self.width))
            self._parts.append(part)
            records = np.frombuffer(_whole_records(index), RECORD)
            ends = records["start"] + records["count"]
            for key, start, count, checksum in records[ends <= size].tolist():
                key = key.ljust(16, b"\0")  # NumPy cuts trailing zero bytes off a string
                # A key occurs twice only if one entry was corrupt.
                if key not in self._found or self.get(key) is None:
                    self._found[key] = (len(self._parts) - 1, start, count, checksum)

    def get(self, key: bytes) -> Float16[np.ndarray, "n E"] | None:
        """Vectors of a text; None if missing or corrupt."""
        if key not in self._found:
            return None
        part, start, count, checksum = self._found[key]
        vectors = self._parts[part][start : start + count]
        if zlib.crc32(vectors.tobytes()) != checksum:
            del self._found[key]
            return None
        return vectors

    def append(self, keys: Sequence[bytes], vectors: Sequence[Float16[np.ndarray, "n E"]]) -> None:
        """Write vectors of texts, readable after `reload`."""
        if self._writer is None:
            self._writer = self._open_writer()
        vector_file, index_file, _ = self._writer
        records = np.zeros(len(keys), RECORD)
        for i, (key, one) in enumerate(zip(keys, vectors, strict=True)):
            data = np.ascontiguousarray(one, np.float16).tobytes()
            records[i] = (key, self._written, len(one), zlib.crc32(data))
            vector_file.write(data)
            self._written += len(one)
        vector_file.flush()
        index_file.write(records.tobytes())
        index_file.flush()

    def close(self) -> None:
        """Close the files being written."""
        for file in self._writer or ():
            file.close()
        self._writer = None

    def _open_writer(self) -> tuple[IO[bytes], IO[bytes], IO[bytes]]:
        """The first pair of files that no other process holds, cut to what is whole; and their lock."""
        for number in itertools.count():
            path = self.folder / f"{number:03d}.index"
            lock = path.with_suffix(".lock").open("ab")
            if lock_file(lock):
                break
            lock.close()
        index_file, vector_file = path.open("ab"), path.with_suffix(".vectors").open("ab")
        records = np.frombuffer(_whole_records(path), RECORD)
        index_file.truncate(records.nbytes)
        # Vectors without a record were written in vain. Where a record is without its vectors the file grows: new
        # ones must not be taken for them.
        self._written = int((records["start"] + records["count"]).max(initial=0))
        vector_file.truncate(self._written * 2 * self.width)
        return vector_file, index_file, lock


def _whole_records(index: Path) -> bytes:
    data = index.read_bytes()
    return data[: len(data) // RECORD.itemsize * RECORD.itemsize]


class CachedImages:
    """Patch vectors of a run's images, read from the cache, of equal number per image."""

    def __init__(self, cache: VectorCache, keys: Sequence[bytes], length: int):
        """
        Args:
          keys: of the images, in order.
          length: vectors per image.
        """
        self.cache, self.keys, self.length = cache, keys, length

    def rows(self, pictures: Int[np.ndarray, "B"]) -> TokenVectors:
        """Vectors of the given images.

        Raises:
          MachineError: they are missing, or were corrupted since the run started.
        """
        found = [self.cache.get(self.keys[n]) for n in pictures.tolist()]
        if any(one is None or len(one) != self.length for one in found):
            raise MachineError(
                f"{self.cache.folder}: image vectors are corrupt; run the same command again to recompute them"
            )
        return TokenVectors(np.stack(found), np.ones((len(found), self.length), bool))  # pyright: ignore


class CachedTexts:
    """Teacher vectors of a run's texts, read from the cache."""

    def __init__(self, cache: VectorCache, tokens: FlatTokens, keys: Sequence[bytes], *, pooled: bool):
        self.cache, self.tokens, self.keys, self.pooled = cache, tokens, keys, pooled
        self.longest = int(tokens.lengths.max())

    def rows(self, texts: Int[np.ndarray, "B"], weights: Float[np.ndarray, "V"] | None) -> TokenVectors | None:
        """Vectors of the given texts, padded; None if one of them is not in the cache."""
        found = [self.cache.get(self.keys[n]) for n in texts.tolist()]
        length = 1 if self.pooled else self.longest
        vectors = np.zeros((len(texts), length, self.cache.width), np.float16)
        for row, text, one in zip(vectors, texts.tolist(), found, strict=True):
            count = 1 if self.pooled else self.tokens.offsets[text + 1] - self.tokens.offsets[text]
            if one is None or len(one) != count:
                return None
            row[:count] = one
        if self.pooled:
            return TokenVectors(vectors, np.ones((len(texts), 1), bool))  # pyright: ignore[reportArgumentType]
        inputs = self.tokens.rows(texts, length, weights)
        return TokenVectors(vectors, inputs.keep, inputs.weight)  # pyright: ignore[reportArgumentType]

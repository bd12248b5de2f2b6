"""Encoded documents on disk: bfloat16 vectors end to end, read in blocks, so that a collection need not fit in memory.

A folder holds `vectors.bf16` (all vectors, mapped, never read whole), `offsets.npy` (where each document begins),
`ids.txt` (a line a document) and, written last, `documents.json` (width, count, and what the vectors are of).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import ml_dtypes
import numpy as np
from jaxtyping import Int

from optical_jax.errors import ConfigError, DataError
from optical_jax.files import lock_file, read_json, write_json
from optical_jax.retrieval.blocks import Block, cut_into_blocks, pad_block

ABOUT = "documents.json"
FILES = {ABOUT, "vectors.bf16", "offsets.npy", "ids.txt"}


class DocumentVectors:
    """A folder that `write_document_vectors` wrote.

    Raises:
      ConfigError: the folder holds none, or not all.
    """

    def __init__(self, folder: Path):
        if not (folder / ABOUT).is_file():
            raise ConfigError(f"{folder} holds no whole document vectors (no documents.json); write them anew")
        self.about: dict[str, Any] = read_json(folder / ABOUT)
        self.width: int = self.about["width"]
        self.ids = (folder / "ids.txt").read_text(encoding="utf-8").split("\n")[:-1]
        self.offsets: Int[np.ndarray, "N+1"] = np.load(folder / "offsets.npy")
        self._path = folder / "vectors.bf16"
        size = self._path.stat().st_size
        if size != int(self.offsets[-1]) * self.width * 2 or len(self.ids) != len(self.offsets) - 1:
            raise DataError(f"{self._path}: {size} bytes do not belong to {len(self.ids)} documents; write them anew")

    def blocks(self) -> Iterator[Block]:
        """All documents in their order. A block's pages can be dropped when the next is asked for."""
        lengths = np.diff(self.offsets)
        for rows in cut_into_blocks(lengths):
            first, last = int(self.offsets[rows.start]), int(self.offsets[rows.stop])
            # Mapped anew for each block: pages of a mapping that is gone do not count as this process's.
            flat = np.memmap(self._path, ml_dtypes.bfloat16, "r", 2 * first * self.width, (last - first, self.width))
            yield Block(np.arange(rows.start, rows.stop), pad_block(flat, lengths[rows]))


def write_document_vectors(
    folder: Path,
    ids: Sequence[str],
    blocks: Iterator[Block],
    width: int,
    about: dict[str, Any],
    advance: Callable[[int], None] = lambda count: None,
) -> DocumentVectors:
    """Encoded blocks, whatever their order, as a folder; what was there is written over.

    Each process writes files of its own and renames them when they are whole: of several that write the same the last
    stays, and who reads the old files goes on reading them.

    Args:
      ids: of the documents that the blocks' positions count; without line breaks.
      about: what the vectors are of, kept in documents.json.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drop_leftovers(folder)
    order: list[np.ndarray] = []
    lengths: list[np.ndarray] = []
    with open_new(folder / "vectors.bf16") as file:
        for block in blocks:
            mask = np.asarray(block.vectors.mask)
            file.write(np.asarray(block.vectors.vectors)[mask].astype(ml_dtypes.bfloat16).tobytes())
            order.append(block.positions)
            lengths.append(mask.sum(axis=1))
            advance(len(block.positions))
        with open_new(folder / "ids.txt") as names, open_new(folder / "offsets.npy") as offsets:
            names.write("".join(f"{ids[n]}\n" for n in np.concatenate(order)).encode())
            np.save(offsets, np.concatenate([[0], np.cumsum(np.concatenate(lengths), dtype=np.int64)]))
            for written in (file, names, offsets):
                written.flush()
            # Without it the folder is not whole, as long as its files belong to two writers.
            (folder / ABOUT).unlink(missing_ok=True)
            for written in (file, names, offsets):
                new = Path(written.name)
                new.replace(new.with_name(new.name.removesuffix(own_ending())))
    write_json(folder / ABOUT, {"width": width, "documents": len(ids), **about})
    return DocumentVectors(folder)


def is_file_of_ours(path: Path) -> bool:
    """True for a file of such a folder, and for one that a writer is at, or left when it was killed."""
    return re.sub(r"(\.\d+)?\.new$", "", path.name) in FILES


def own_ending() -> str:
    return f".{os.getpid()}.new"


def open_new(path: Path) -> IO[bytes]:
    """A file of this process's own beside the one it will replace, locked for as long as it is open."""
    while True:
        file = path.with_name(path.name + own_ending()).open("wb")
        # Another process may take it for a leftover before it is locked.
        if lock_file(file, wait=True) and os.fstat(file.fileno()).st_nlink:
            return file
        file.close()


def drop_leftovers(folder: Path) -> None:
    """Delete what killed writers left, which may be as large as the collection: files that no process holds locked."""
    for name in FILES - {ABOUT}:
        for path in folder.glob(f"{name}*.new"):
            try:
                with path.open("rb+") as file:
                    if lock_file(file):
                        path.unlink()
            except (FileNotFoundError, PermissionError):
                pass  # another writer has just renamed it, or it is another user's

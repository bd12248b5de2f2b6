"""Document vectors on disk in bfloat16, memory-mapped and read in blocks: a collection need not fit in memory.

A folder holds `vectors.bf16` (all vectors, concatenated), `offsets.npy` (first vector of each document), `ids.txt`
(one line per document) and, written last, `documents.json` (width, count and metadata).
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
    """Document vectors in a folder that `write_document_vectors` wrote.

    Raises:
      ConfigError: the folder has no vectors, or an incomplete set.
    """

    def __init__(self, folder: Path):
        if not (folder / ABOUT).is_file():
            raise ConfigError(f"{folder} is not a complete folder of document vectors (no documents.json); rewrite it")
        self.about: dict[str, Any] = read_json(folder / ABOUT)
        self.width: int = self.about["width"]
        self.ids = (folder / "ids.txt").read_text(encoding="utf-8").split("\n")[:-1]
        self.offsets: Int[np.ndarray, "N+1"] = np.load(folder / "offsets.npy")
        self._path = folder / "vectors.bf16"
        size = self._path.stat().st_size
        if size != int(self.offsets[-1]) * self.width * 2 or len(self.ids) != len(self.offsets) - 1:
            raise DataError(f"{self._path}: {size} bytes do not match {len(self.ids)} documents; rewrite the folder")

    def blocks(self) -> Iterator[Block]:
        """All documents in order, as blocks; the memory of a block can be freed once the next is requested."""
        lengths = np.diff(self.offsets)
        for rows in cut_into_blocks(lengths):
            first, last = int(self.offsets[rows.start]), int(self.offsets[rows.stop])
            # A new mapping per block: pages of a closed mapping do not count as this process's memory.
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
    """Write encoded blocks, in any order, to a folder of document vectors, overwriting what is there.

    Atomic: each process writes temporary files and renames them when complete. Of several writers the last one wins,
    and readers of the old files are not affected.

    Args:
      ids: document ids by position, without line breaks.
      about: metadata for documents.json.
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
            # Without documents.json the folder counts as incomplete while files of two writers may be mixed.
            (folder / ABOUT).unlink(missing_ok=True)
            for written in (file, names, offsets):
                new = Path(written.name)
                new.replace(new.with_name(new.name.removesuffix(own_ending())))
    write_json(folder / ABOUT, {"width": width, "documents": len(ids), **about})
    return DocumentVectors(folder)


def is_file_of_ours(path: Path) -> bool:
    """True for a file of such a folder, and for a temporary file of a running or killed writer."""
    return re.sub(r"(\.\d+)?\.new$", "", path.name) in FILES


def own_ending() -> str:
    return f".{os.getpid()}.new"


def open_new(path: Path) -> IO[bytes]:
    """Open a temporary file beside the one it will replace, locked while open."""
    while True:
        file = path.with_name(path.name + own_ending()).open("wb")
        # Another process may take it for a leftover before it is locked.
        if lock_file(file, wait=True) and os.fstat(file.fileno()).st_nlink:
            return file
        file.close()


def drop_leftovers(folder: Path) -> None:
    """Delete temporary files of killed writers (those not locked), which may be as large as the collection."""
    for name in FILES - {ABOUT}:
        for path in folder.glob(f"{name}*.new"):
            try:
                with path.open("rb+") as file:
                    if lock_file(file):
                        path.unlink()
            except (FileNotFoundError, PermissionError):
                pass  # another writer has just renamed it, or it is another user's

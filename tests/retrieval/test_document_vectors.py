"""Documents on disk rank as documents in memory do."""

import os

import ml_dtypes
import numpy as np
import pytest

from optical_jax.errors import ConfigError, DataError
from optical_jax.retrieval import blocks
from optical_jax.retrieval.blocks import Block
from optical_jax.retrieval.document_vectors import (
    DocumentVectors,
    drop_leftovers,
    is_file_of_ours,
    open_new,
    write_document_vectors,
)
from optical_jax.retrieval.search import rank
from optical_jax.types import TokenVectors

WIDTH = 8


def tokens(count, longest, seed):
    """Coordinates in eighths: bfloat16 and float32 hold them exactly."""
    rng = np.random.default_rng(seed)
    mask = np.arange(longest) < rng.integers(1, longest + 1, (count, 1))
    vectors = np.where(mask[:, :, None], rng.integers(-8, 9, (count, longest, WIDTH)) / 8, 0).astype(np.float32)
    return TokenVectors(vectors=vectors, mask=mask)


def written(folder, documents, ids):
    order = np.array_split(np.random.default_rng(1).permutation(len(ids)), 3)
    blocks = (Block(n, TokenVectors(documents.vectors[n], documents.mask[n])) for n in order)
    return write_document_vectors(folder, ids, blocks, WIDTH, {"of": "a test"})


def test_ranks_as_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_TOKENS", {"cpu": 60, "other": 60})
    documents, ids = tokens(43, 11, seed=0), [f"d{n}" for n in range(43)]
    queries = {0: [Block(np.arange(6), tokens(6, 7, seed=2))]}
    stored = written(tmp_path, documents, ids)
    sizes = [block.vectors.mask.shape for block in stored.blocks()]
    assert max(rows * length for rows, length in sizes) <= 60
    assert sum(rows for rows, _ in sizes) == 43
    found = rank(queries, stored.ids, stored.blocks(), depth=10)[0]
    want = rank(queries, ids, [Block(np.arange(43), documents)], depth=10)[0]
    np.testing.assert_array_equal(found.scores, want.scores)
    names = [[stored.ids[n] for n in row] for row in found.documents]
    assert names == [[ids[n] for n in row] for row in want.documents]
    assert stored.about["of"] == "a test"


def test_what_is_not_whole_is_refused(tmp_path):
    written(tmp_path, tokens(9, 5, seed=0), [f"d{n}" for n in range(9)])
    file = tmp_path / "vectors.bf16"
    file.write_bytes(file.read_bytes()[:-2])
    with pytest.raises(DataError, match=r"vectors\.bf16: \d+ bytes do not match 9 documents"):
        DocumentVectors(tmp_path)
    (tmp_path / "documents.json").unlink()
    with pytest.raises(ConfigError, match="not a complete folder of document vectors"):
        DocumentVectors(tmp_path)


def test_two_processes_write_one_folder(tmp_path):
    """Both find it empty; the other, known by its number, begins and ends while this one is at its second block."""
    documents, ids = tokens(9, 5, seed=0), [f"d{n}" for n in range(9)]

    def blocks():
        yield Block(np.arange(4), TokenVectors(documents.vectors[:4], documents.mask[:4]))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "getpid", lambda: 1)
            other = write_document_vectors(
                tmp_path, ids, iter([Block(np.arange(9), documents)]), WIDTH, {"by": "other"}
            )
        assert other.about["by"] == "other"
        yield Block(np.arange(4, 9), TokenVectors(documents.vectors[4:], documents.mask[4:]))

    stored = write_document_vectors(tmp_path, ids, blocks(), WIDTH, {"by": "this"})
    assert stored.about["by"] == "this"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "documents.json",
        "ids.txt",
        "offsets.npy",
        "vectors.bf16",
    ]
    flat = np.fromfile(tmp_path / "vectors.bf16", ml_dtypes.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(flat.reshape(-1, WIDTH), documents.vectors[documents.mask])


def test_what_a_killed_writer_left_is_deleted(tmp_path):
    """And what one writes now is not."""
    for name in ("vectors.bf16.1.new", "vectors.bf16.new", "offsets.npy.1.new"):
        (tmp_path / name).write_bytes(b"half")
    with open_new(tmp_path / "ids.txt") as held:
        assert all(map(is_file_of_ours, tmp_path.iterdir()))
        drop_leftovers(tmp_path)
        assert [str(path) for path in tmp_path.iterdir()] == [held.name]
    assert not is_file_of_ours(tmp_path / "cat.png.new")

"""Batch texts for encoding in few shapes: padded batches of similar lengths, or packed rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Int

from optical_jax.config import EncoderConfig, TowerConfig
from optical_jax.models.encoders import packs
from optical_jax.partitioning import shards_in_context
from optical_jax.retrieval.blocks import FEW_LENGTHS, MANY_LENGTHS, padded_length

if TYPE_CHECKING:
    from optical_jax.data.tokenization import Tokens

ROW_LENGTH = 128
"""Texts up to this length are packed into rows of so many tokens; longer ones have rows of their padded length.
Sentences leave a fifth of rows of 64 empty, and a fortieth of rows of 128."""
TEXT_TOKENS = {"cpu": 32, "other": 512}
"""A batch has as many tokens as `batch_size` texts of this length, whatever the length of its rows."""


@struct.dataclass
class PackedRows:
    """Packed texts, NumPy or JAX arrays."""

    ids: Int[Array, "R L"]
    attend: Bool[Array, "R L"]
    text: Int[Array, "R L"]
    """Segment id, different for every text; -1 is padding."""
    position: Int[Array, "R L"]


Placed = tuple[np.ndarray, np.ndarray, np.ndarray, Any]
"""For every vector its text, its position in it and its index among the batch's vectors; and the batch's input."""


def batches_of(tokens: Sequence[Tokens], batch_size: int, cfg: TowerConfig) -> Iterator[Placed]:
    """Batches of texts for `encode_batch`, padded or packed as suits the device."""
    alone = cfg.head.pooling != "none" or on_one_cpu() or not packs(cfg.encoder)
    return (padded_batches if alone else packed_batches)(tokens, batch_size, cfg)


def packed_batches(tokens: Sequence[Tokens], batch_size: int, cfg: TowerConfig) -> Iterator[Placed]:
    """Batches of packed rows, longest texts first, so that a lack of memory shows at once."""
    from optical_jax.data.batches.packing import fit

    lengths = np.array([len(text.ids) for text in tokens])
    # A few short texts do not fill a row.
    shared = min(ROW_LENGTH, cfg.encoder.max_length, int(lengths.sum()))
    row_lengths = np.array([cut_length(max(int(n), shared), cfg.encoder, FEW_LENGTHS) for n in lengths])
    for L in np.unique(row_lengths)[::-1].tolist():
        texts = np.flatnonzero(row_lengths == L)
        row, start, rows = fit(lengths[texts], L)
        most = rows_of_batch(batch_size, L)
        for first in range(0, rows, most):
            here = (row >= first) & (row < first + most)
            chosen, counts = texts[here], lengths[texts[here]]
            R = padded_rows(min(most, rows - first), most)
            places = np.concatenate([np.arange(n) for n in counts])
            at = np.repeat((row[here] - first) * L + start[here], counts) + places
            owners = np.repeat(chosen, counts)
            arrays: dict[str, np.ndarray] = {}
            for name, padding in (("ids", cfg.encoder.pad_id), ("attend", False), ("text", -1), ("position", 0)):
                arrays[name] = np.full(R * L, padding, bool if name == "attend" else np.int32)
            arrays["ids"][at] = np.concatenate([tokens[n].ids for n in chosen])
            arrays["attend"][at] = np.concatenate([tokens[n].attend for n in chosen])
            arrays["text"][at], arrays["position"][at] = owners, places
            inputs: Any = PackedRows(**{name: x.reshape(R, L) for name, x in arrays.items()})  # pyright: ignore
            yield owners, places, at, inputs


def padded_batches(tokens: Sequence[Tokens], batch_size: int, cfg: TowerConfig) -> Iterator[Placed]:
    """Batches with one text per row, longest first; rows beyond the last text are masked."""
    from optical_jax.data.tokenization import pad_tokens

    lengths = np.array([len(text.ids) for text in tokens])
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        L = cut_length(int(lengths[order[start]]), cfg.encoder, MANY_LENGTHS if on_one_cpu() else FEW_LENGTHS)
        most = rows_of_batch(batch_size, L)
        texts = order[start : start + most]
        R = padded_rows(len(texts), most)
        inputs = pad_tokens([tokens[n] for n in texts], L, cfg.encoder.pad_id)
        inputs = jax.tree.map(lambda x, R=R: np.pad(x, ((0, R - len(x)), (0, 0))), inputs)
        if cfg.head.pooling != "none":
            yield texts, np.zeros_like(texts), np.arange(len(texts)), inputs
        else:
            counts = lengths[texts]
            places = np.concatenate([np.arange(n) for n in counts])
            yield np.repeat(texts, counts), places, np.repeat(np.arange(len(texts)) * L, counts) + places, inputs
        start += len(texts)


def rows_of_batch(batch_size: int, length: int) -> int:
    on_cpu = jax.default_backend() == "cpu"
    tokens = TEXT_TOKENS["cpu"] if on_cpu else TEXT_TOKENS["other"] * shards_in_context()
    return max(1, batch_size * tokens // length)


def cut_length(length: int, cfg: EncoderConfig, few: tuple[int, int]) -> int:
    if not packs(cfg):  # it pads every text to the maximum anyway
        return cfg.max_length
    return max(length, min(padded_length(length, *few), cfg.max_length))


def padded_rows(rows: int, batch_size: int) -> int:
    """Rows of a batch: full, or for fewer texts the next power of two."""
    return min(batch_size, 1 << (rows - 1).bit_length())


def on_one_cpu() -> bool:
    """True on a CPU without a mesh, as in retrieval, where compiling a shape (half a second) pays off.

    Training has a mesh, and encodes its few dev pairs in as few shapes as on an accelerator.
    """
    return jax.default_backend() == "cpu" and jax.sharding.get_mesh().empty

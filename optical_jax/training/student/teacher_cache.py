"""Cache of the teacher's text vectors: each English text is encoded once, then read from disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import jax
import numpy as np

from optical_jax.config import TeacherConfig, TowerConfig, expand_path, identity
from optical_jax.data.batches.bitext import Loader
from optical_jax.data.batches.packing import Packing
from optical_jax.data.batches.tokens import FlatTokens, TokenizedPairs, take_texts
from optical_jax.data.batches.vector_cache import RECORD, CachedTexts, VectorCache, text_keys
from optical_jax.errors import ConfigError
from optical_jax.files import write_json
from optical_jax.models.late_interaction import encode_tokens
from optical_jax.params import fingerprint
from optical_jax.partitioning import batch_shards, named_sharding
from optical_jax.progress import ProgressReport
from optical_jax.types import Batch, Params, TokenVectors

GIB = 2**30
ROW_LENGTH = 64


def use_teacher_cache(
    cfg: TeacherConfig,
    params: Params,
    tower: TowerConfig,
    loader: Loader,
    steps: tuple[int, int],
    batch: int,
    mesh: jax.sharding.Mesh,
    say: Callable[[str], None],
) -> None:
    """Encode the texts of batches [start, stop) that the cache lacks, and let the loader read the cache.

    Does nothing if `cfg.cache` is empty, or if the cache would exceed `cfg.cache_gib`.
    """
    if not cfg.cache or steps[0] >= steps[1]:
        return
    if jax.process_count() > 1:
        raise ConfigError(
            f"teacher.cache={cfg.cache} is for one process, and there are {jax.process_count()}; leave it out"
        )
    root = Path(expand_path(cfg.cache, "teacher.cache"))
    cache = open_cache(root, params, tower)
    tokens, pooled = loader.teacher_texts, tower.head.pooling != "none"
    keys = text_keys(tokens)
    # `get`, not `in`: damaged vectors are encoded again.
    missing = [n for n in distinct_texts(keys, loader.pairs_of(*steps)) if cache.get(keys[n]) is None]
    needed = bytes_under(root) + bytes_of(tokens, missing, tower)
    if missing and needed > cfg.cache_gib * GIB:
        say(
            f"teacher cache: {needed / GIB:.1f} GiB would be needed, and teacher.cache_gib={cfg.cache_gib:g}; "
            "the teacher runs in every step"
        )
        return
    if missing:
        # Rows here are short, and of lengths that kernels do not take.
        tower = replace(tower, encoder=replace(tower.encoder, attention="xla"))
        fill(cache, params, tower, tokens, keys, np.array(missing), batch, mesh)
        cache.close()
        cache.reload()
    held = f"{len(cache):,} in {cache.folder} ({cache.bytes / GIB:.2f} GiB)"
    say(f"teacher cache: {len(missing):,} texts encoded, {held}")
    loader.read_teacher_from(CachedTexts(cache, tokens, keys, pooled=pooled))


def bytes_under(root: Path) -> int:
    """Bytes of all vectors and index files under the cache folder, of every teacher."""
    return sum(path.stat().st_size for ending in ("vectors", "index") for path in root.rglob(f"*.{ending}"))


def distinct_texts(keys: list[bytes], wanted: np.ndarray) -> list[int]:
    """The first text of each key, in order."""
    return list({keys[n]: n for n in wanted[::-1].tolist()}.values())[::-1]


def bytes_of(tokens: FlatTokens, texts: list[int], tower: TowerConfig) -> int:
    """Bytes that these texts need in the cache."""
    vectors = len(texts) if tower.head.pooling != "none" else int(tokens.lengths[texts].sum())
    return vectors * 2 * tower.vector_width + len(texts) * RECORD.itemsize


def texts_to_fill(cfg: TeacherConfig, tower: TowerConfig, loader: Loader, steps: int) -> int:
    """Texts a run encodes before its first step with an empty cache; 0 if it runs without one."""
    if not cfg.cache:
        return 0
    tokens = loader.teacher_texts
    texts = distinct_texts(text_keys(tokens), loader.pairs_of(0, steps))
    return len(texts) if bytes_of(tokens, texts, tower) <= cfg.cache_gib * GIB else 0


def as_if_cached(batch: Batch, tower: TowerConfig, longest: int) -> Batch:
    """A batch with placeholder teacher vectors of the shapes that the cache gives, for a dry run.

    Args:
      batch: with token ids on the teacher's side.
      tower: the teacher.
      longest: tokens of the longest of all teacher texts, to which the cache pads.
    """
    side, pooled = batch.teacher, tower.head.pooling != "none"
    assert not isinstance(side, TokenVectors), "its vectors are there already"
    B, T = side.keep.shape
    E, wider = tower.vector_width, ((0, 0), (0, longest - T))
    mask = np.ones((B, 1), bool) if pooled else np.pad(side.keep, wider)
    weight = None if pooled or side.weight is None else np.pad(side.weight, wider)
    vectors = np.where(mask[:, :, None], np.full(E, E**-0.5, np.float16), np.float16(0))
    return replace(batch, teacher=TokenVectors(vectors, mask, weight))  # pyright: ignore[reportArgumentType]


def open_cache(root: Path, params: Params, tower: TowerConfig) -> VectorCache:
    """Open the cache of one teacher, keyed by its weights, shape and head."""
    about = {"params_sha256": fingerprint(params), "tower": identity(tower)}
    cache = VectorCache(root / blake2b(json.dumps(about).encode(), digest_size=8).hexdigest(), tower.vector_width)
    if not (cache.folder / "teacher.json").is_file():
        write_json(cache.folder / "teacher.json", about)
    return cache


def fill(
    cache: VectorCache,
    params: Params,
    tower: TowerConfig,
    tokens: Any,
    keys: list[bytes],
    texts: np.ndarray,
    batch: int,
    mesh: jax.sharding.Mesh,
) -> None:
    """Encode texts, packed, and write their vectors batch by batch, so that a kill costs one batch."""
    full = np.resize(texts, -(-len(texts) // batch) * batch)
    side = take_texts(tokens, full)
    layout = Packing(TokenizedPairs(side, side), ROW_LENGTH, batch, batch_shards(mesh))
    batches = layout.arrange(np.arange(len(full)), np.random.default_rng(0))
    layout.learn_rows(batches)
    encode = jax.jit(lambda params, inputs: encode_tokens(params, inputs, tower).vectors.astype("float16"))
    sharding, written = named_sharding(mesh, ("batch",)), set[bytes]()
    counts = np.ones(len(full), np.int64) if tower.head.pooling != "none" else side.lengths
    with jax.set_mesh(mesh), ProgressReport("teacher vectors", len(texts), "texts") as progress:
        for rows in batches:
            inputs = layout.side("teacher", rows, slice(0, batch), None)
            vectors = np.asarray(encode(params, jax.tree.map(lambda x: jax.device_put(x, sharding), inputs)))
            new = [i for i, n in enumerate(rows.tolist()) if keys[full[n]] not in written]
            cache.append([keys[full[rows[i]]] for i in new], [vectors[i, : counts[rows[i]]] for i in new])
            written.update(keys[full[rows[i]]] for i in new)
            progress.advance(len(new))

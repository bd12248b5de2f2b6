"""The teacher's vectors of a run's English texts: each text encoded once, then read from disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from optical_jax.checkpoint import fingerprint
from optical_jax.config import TeacherConfig, TowerConfig, to_json
from optical_jax.data.loader import Loader
from optical_jax.data.packing import Packing
from optical_jax.data.pairs import TokenizedPairs, take_texts
from optical_jax.data.vector_cache import CachedTexts, VectorCache, text_keys
from optical_jax.files import write_json
from optical_jax.models.late_interaction import encode_tokens
from optical_jax.partitioning import batch_shards, named_sharding
from optical_jax.progress import ProgressReport
from optical_jax.types import Params

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
    """Encode what batches [start, stop) of the loader need and the cache lacks, and let the loader read it there.

    Nothing happens where `cfg.cache` names no folder, or where the vectors would take more than `cfg.cache_gib`.
    """
    if not cfg.cache:
        return
    cache = open_cache(Path(cfg.cache), params, tower)
    tokens = loader.teacher_texts
    keys, wanted = text_keys(tokens), loader.pairs_of(*steps)
    missing = list({keys[n]: n for n in reversed(wanted.tolist()) if keys[n] not in cache}.values())[::-1]
    per_text = np.ones(len(tokens), np.int64) if tower.head.pooling != "none" else tokens.lengths
    needed = cache.bytes + int(per_text[missing].sum()) * 2 * tower.vector_width
    if needed > cfg.cache_gib * GIB:
        say(
            f"teacher cache: {needed / GIB:.1f} GiB would be needed, and teacher.cache_gib={cfg.cache_gib:g}; "
            "the teacher runs in every step"
        )
        return
    if missing:
        fill(cache, params, tower, tokens, keys, np.array(missing), batch, mesh)
        cache.close()
        cache.reload()
    say(
        f"teacher cache: {len(missing):,} texts encoded, {len(cache):,} in {cache.folder} ({cache.bytes / GIB:.2f} GiB)"
    )
    loader.read_teacher_from(CachedTexts(cache, tokens, keys, pooled=tower.head.pooling != "none"))


def open_cache(root: Path, params: Params, tower: TowerConfig) -> VectorCache:
    """The folder of one teacher: its weights and its shape say which."""
    folder = root / f"{fingerprint(params)[:16]}-{tower.encoder.dtype}-{tower.vector_width}"
    about = {"tower": to_json(tower), "params_sha256": fingerprint(params)}
    cache = VectorCache(folder, tower.vector_width)
    if not (folder / "teacher.json").is_file():
        write_json(folder / "teacher.json", about)
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
    """Encode texts, packed, and write their vectors batch by batch: a kill costs the last."""
    full = np.resize(texts, -(-len(texts) // batch) * batch)
    side = take_texts(tokens, full)
    layout = Packing(TokenizedPairs(side, side), ROW_LENGTH, batch, batch_shards(mesh))
    batches = layout.arrange(np.arange(len(full)), np.random.default_rng(0))
    layout.learn_rows([batches])
    encode = jax.jit(lambda params, inputs: encode_tokens(params, inputs, tower).vectors.astype("float16"))
    sharding, lengths = named_sharding(mesh, ("batch",)), side.lengths
    written: set[bytes] = set()
    with ProgressReport("teacher vectors", len(texts), "texts") as progress:
        for rows in batches:
            inputs = layout.side("teacher", rows, slice(0, batch), None)
            vectors = np.asarray(encode(params, jax.tree.map(lambda x: jax.device_put(x, sharding), inputs)))
            new = [i for i, n in enumerate(rows.tolist()) if keys[full[n]] not in written]
            cache.append([keys[full[rows[i]]] for i in new], [vectors[i, : lengths[rows[i]]] for i in new])
            written.update(keys[full[rows[i]]] for i in new)
            progress.advance(len(new))

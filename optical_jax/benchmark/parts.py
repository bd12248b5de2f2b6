"""Benchmarks of the input pipeline, encoding, search and start-up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np

from optical_jax.benchmark.presets import VECTOR_WIDTH, Work
from optical_jax.benchmark.step import Runner, bitext_loader
from optical_jax.benchmark.timing import in_turns
from optical_jax.config import Config
from optical_jax.data.tokenization import Tokens
from optical_jax.errors import ConfigError, DataError, MachineError
from optical_jax.partitioning import batch_shards, over_all_devices
from optical_jax.retrieval.blocks import Block, cut_into_blocks
from optical_jax.retrieval.document_vectors import write_document_vectors
from optical_jax.retrieval.search import rank
from optical_jax.towers.text_batches import batches_of
from optical_jax.towers.tower import encode_batch, on_device
from optical_jax.types import TokenVectors

REPEATS = 5
QUERY_LENGTH = 32
DOCUMENT_LENGTH = 64


def measure_input(work: Work, cfg: Config, step_seconds: float | None) -> dict[str, Any]:
    """Throughput of the input pipeline alone, and its time as a share of a step (None if unknown).

    Both sides of batches are tokens; for a step that reads cached teacher vectors the share is unknown.
    """
    loader = bitext_loader(cfg, work, shards=1)
    next(loader)
    count = 4 * loader.epoch_size
    began = time.perf_counter()
    for _ in range(count):
        next(loader)
    seconds = (time.perf_counter() - began) / count
    return {
        "seconds": seconds,
        "pairs_per_second": cfg.data.global_batch / seconds,
        "share_of_step": None if step_seconds is None else seconds / step_seconds,
    }


def measure_encode(work: Work, batch: int) -> dict[str, Any]:
    """Encoding throughput on the teacher's side of the pairs, in the batches of `encode`, without tokenisation."""
    side = work.pairs.teacher
    texts = [
        Tokens(ids, np.ones(len(ids), bool), np.ones(len(ids), bool)) for ids in np.split(side.ids, side.offsets[1:-1])
    ]
    with over_all_devices():
        inputs = [rows for _, _, _, rows in batches_of(texts, batch, work.tower)]
        # From the host, as `load` returns them; random parameters are on a device in the sharding of training.
        params = on_device(jax.tree.map(np.asarray, work.teacher), work.tower)

        def whole() -> list[Any]:
            return [encode_batch(params, each, work.tower) for each in inputs]

        seconds = in_turns({"encode": whole}, REPEATS)["encode"]
    real = int(side.lengths.sum())
    return {
        **seconds.as_json(),
        "tokens_per_second": real / seconds.median,
        "texts_per_second": len(texts) / seconds.median,
        "padding_waste": 1.0 - real / sum(each.ids.size for each in inputs),
    }


def measure_search(documents: int, queries: int = 64) -> dict[str, Any]:
    """Exact MaxSim search, top 1,000: queries of 32 tokens, documents of 64 in memory in bfloat16."""
    blocks = list(drawn_documents(documents))
    names = [f"d{n}" for n in range(documents)]
    asked = {0: [drawn_queries(queries)]}
    with over_all_devices():
        times = in_turns({"search": lambda: rank(asked, names, blocks)}, REPEATS)["search"]
    flops = 2.0 * queries * documents * QUERY_LENGTH * DOCUMENT_LENGTH * VECTOR_WIDTH
    return {
        **times.as_json(),
        "documents": documents,
        "queries_per_second": queries / times.median,
        "flops_per_second": flops / times.median,
    }


def measure_search_on_disk(documents: int, queries: int = 64) -> dict[str, Any]:
    """As `measure_search` with the documents memory-mapped from disk, and the memory that it uses."""
    names = [f"d{n}" for n in range(documents)]
    with tempfile.TemporaryDirectory() as folder:
        blocks = drawn_documents(documents)
        written = write_document_vectors(Path(folder), names, blocks, VECTOR_WIDTH, {"of": "random numbers"})
        with over_all_devices(), AnonymousMemory() as memory:
            began = time.perf_counter()
            rank({0: [drawn_queries(queries)]}, written.ids, written.blocks())
            seconds = time.perf_counter() - began
    return {
        "documents": documents,
        "gigabytes": documents * DOCUMENT_LENGTH * VECTOR_WIDTH * 2 / 1e9,
        "seconds": seconds,
        "queries_per_second": queries / seconds,
        "anonymous_bytes": memory.most,
    }


def drawn_queries(count: int) -> Block:
    vectors = np.random.default_rng(1).standard_normal((count, QUERY_LENGTH, VECTOR_WIDTH)).astype(np.float32)
    tokens: Any = TokenVectors(vectors, np.ones(vectors.shape[:2], bool))  # pyright: ignore[reportArgumentType]
    return Block(np.arange(count), tokens)


def drawn_documents(documents: int) -> Iterator[Block]:
    rng = np.random.default_rng(0)
    for rows in cut_into_blocks(np.full(documents, DOCUMENT_LENGTH)):
        positions = np.arange(rows.start, rows.stop)
        # Random mantissa and sign, with exponents for magnitudes between 1/16 and 1/4.
        bits = rng.integers(0, 2**16, (len(positions), DOCUMENT_LENGTH, VECTOR_WIDTH), np.uint16)
        vectors = ((bits & 0x80FF) | 0x3D80).view(ml_dtypes.bfloat16)
        tokens: Any = TokenVectors(vectors, np.ones(vectors.shape[:2], bool))  # pyright: ignore[reportArgumentType]
        yield Block(positions, tokens)


class AnonymousMemory:
    """Context that records this process's peak anonymous memory (heap, not mapped files), sampled 10 times a second."""

    def __init__(self) -> None:
        self.most = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> AnonymousMemory:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            lines = Path("/proc/self/status").read_text().splitlines()
            held = next((int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)
            self.most = max(self.most, held * 1024)
            if self._stop.wait(0.1):
                return


# ---- start-up --------------------------------------------------------------------------------------------------


def measure_startup(argv: list[str]) -> dict[str, Any]:
    """Seconds from process start to the end of the first step, with an empty and with a filled compilation cache.

    Raises:
      SystemExit: a user error, reported by the process, with its exit code.
      ConfigError: the process failed otherwise.
    """
    with tempfile.TemporaryDirectory() as cache:
        # As trainings, which keep a compilation cache in the run folder.
        environ = os.environ | {"JAX_COMPILATION_CACHE_DIR": cache, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
        found = []
        for _ in range(2):
            began = time.time()
            done = subprocess.run(
                [sys.executable, "-m", "optical_jax", "bench", *argv, "--only-first-step"],
                env=environ,
                stdout=subprocess.PIPE,
                text=True,
                check=False,
            )
            if done.returncode in {kind.exit_code for kind in (ConfigError, DataError, MachineError)}:
                raise SystemExit(done.returncode)
            if done.returncode:
                raise ConfigError("the process that does one step failed (see above); leave out the part startup")
            found.append(json.loads(done.stdout.splitlines()[-1])["at"] - began)
    return {"first_step_seconds": found[1], "first_step_seconds_uncached": found[0]}


def first_step(make: Callable[[], Work], cfg: Config) -> None:
    """Load, compile and run one step, and print the time at its end."""
    work = make()
    runner = Runner(cfg, work)
    runner.run(next(bitext_loader(cfg, work, batch_shards(runner.mesh))))
    print(json.dumps({"at": time.time()}), flush=True)

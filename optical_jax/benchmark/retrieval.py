"""Benchmark of encoding and searching a collection, ours and Sentence Transformers', interleaved, with one model."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import Any

import numpy as np

from optical_jax.benchmark.peer import PeerProcess
from optical_jax.benchmark.timing import Times, paired_ratio

TURNS = 3
BATCH = 32
"""Batch size of Sentence Transformers, its default."""


def measure_retrieval(collection: str, language: str, model: str, *, peer: bool) -> dict[str, Any]:
    """Benchmark encoding, with tokenisation, and exact search of a collection.

    `same_first` is the share of queries for which both implementations rank the same document first.

    Args:
      collection: a BEIR folder.
      language: of its queries.
      model: a folder that `load` and Sentence Transformers' MultiVectorEncoder both read, such as an export.
      peer: run Sentence Transformers too.
    """
    from optical_jax.data.collections.collection import read_collection
    from optical_jax.partitioning import over_all_devices
    from optical_jax.retrieval.blocks import Block
    from optical_jax.retrieval.search import encode_blocks, rank
    from optical_jax.runs.load import load
    from optical_jax.towers.tower import encode, to_device

    found = read_collection(collection, languages=[language])
    documents, queries = found.documents, list(found.queries[language].values())
    with over_all_devices(), ExitStack() as stack:
        asking, holding = to_device(load(model)), to_device(load(model, side="document"))

        def encode_documents() -> list[Block]:
            return list(encode_blocks(list(documents.values()), lambda texts: encode(holding, texts)))

        asked = list(encode_blocks(queries, lambda texts: encode(asking, texts)))
        held = encode_documents()
        ours = rank({0: asked}, list(documents), held)[0]
        works: dict[str, Callable[[], Any]] = {
            "encode": encode_documents,
            "search": lambda: rank({0: asked}, list(documents), held),
        }
        result: dict[str, Any] = {"documents": len(documents), "queries": len(queries)}
        other = None
        if peer:
            other = stack.enter_context(closing(PeerProcess("optical_jax.benchmark.retrieval")))
            theirs = other.ask({"model": model, "documents": list(documents.values()), "queries": queries})["documents"]
            result["same_first"] = float((np.array(theirs) == ours.documents[:, 0]).mean())
        seconds: dict[str, list[float]] = {}
        for _ in range(TURNS):
            for name, work in works.items():
                began = time.perf_counter()
                work()
                seconds.setdefault(name, []).append(time.perf_counter() - began)
                if other is not None:
                    seconds.setdefault(f"peer {name}", []).append(other.ask(name)["seconds"])
    counts = {"encode": len(documents), "search": len(queries)}
    for name in works:
        result[name] = Times(tuple(seconds[name])).as_json()
        result[name]["texts_per_second" if name == "encode" else "queries_per_second"] = (
            counts[name] / (result[name]["seconds"])
        )
        if other is not None:
            result[name]["peer_seconds"] = Times(tuple(seconds[f"peer {name}"])).median
            result[name]["ratio"] = paired_ratio(seconds[f"peer {name}"], seconds[name])
    return result


def serve() -> None:
    """The Sentence Transformers process: reads a JSON line with model and texts, answers with the first document of
    every query, then reads lines "encode" or "search"."""
    import torch  # pyright: ignore[reportMissingImports]  # the parity extra
    from sentence_transformers import MultiVectorEncoder  # pyright: ignore[reportMissingImports]

    from optical_jax.retrieval.search import DEPTH

    task = json.loads(sys.stdin.readline())
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = MultiVectorEncoder(task["model"], device=device)

    def encode() -> Any:
        return model.encode_document(task["documents"], batch_size=BATCH, show_progress_bar=False)

    queries, documents = model.encode_query(task["queries"], show_progress_bar=False), encode()

    def search() -> Any:
        scores = model.similarity(queries, documents)
        return torch.topk(scores, min(DEPTH, scores.shape[1]), dim=1)

    # Warm-up of both.
    print(json.dumps({"documents": search().indices[:, 0].tolist()}), flush=True)

    works = {"encode": encode, "search": search}
    for line in sys.stdin:
        began = time.perf_counter()
        works[json.loads(line)]()
        if device == "cuda":
            torch.cuda.synchronize()
        print(json.dumps({"seconds": time.perf_counter() - began}), flush=True)


if __name__ == "__main__":
    serve()

"""Encoding and searching a collection of texts, ours and Sentence Transformers', in turns with the same model."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from typing import Any

import numpy as np

from optical_jax.benchmark.timing import Times, paired_ratio
from optical_jax.errors import ConfigError

TURNS = 3
BATCH = 32
"""Texts a batch on the other side: its default."""


def measure_retrieval(collection: str, language: str, model: str, *, peer: bool) -> dict[str, Any]:
    """Texts to vectors, tokenising included, and every query against every document.

    `same_first` is the share of queries for which both sides find the same document first.

    Args:
      collection: a BEIR folder.
      language: of its queries.
      model: a folder that `load` and Sentence Transformers' MultiVectorEncoder read alike, such as an export.
      peer: run the other side too.
    """
    from optical_jax.data.collection import read_collection
    from optical_jax.evaluation.blocks import Block
    from optical_jax.evaluation.search import encode_blocks, rank
    from optical_jax.partitioning import over_all_devices
    from optical_jax.towers import encode, load, placed

    found = read_collection(collection, languages=[language])
    documents, queries = found.documents, list(found.queries[language].values())
    with over_all_devices(), ExitStack() as stack:
        asking, holding = placed(load(model)), placed(load(model, side="document"))

        def encode_documents() -> list[Block]:
            return list(encode_blocks(list(documents.values()), lambda texts: encode(holding, texts)))

        asked = list(encode_blocks(queries, lambda texts: encode(asking, texts)))
        held = encode_documents()
        ours = rank({0: asked}, list(documents), held)[0]
        works: dict[str, Callable[[], Any]] = {
            "encode": encode_documents,
            "search": lambda: rank({0: asked}, list(documents), held),
        }
        other = stack.enter_context(closing(_Other(model, list(documents.values()), queries))) if peer else None
        seconds: dict[str, list[float]] = {}
        for _ in range(TURNS):
            for name, work in works.items():
                began = time.perf_counter()
                work()
                seconds.setdefault(name, []).append(time.perf_counter() - began)
                if other is not None:
                    seconds.setdefault(f"peer {name}", []).append(other.ask(name)["seconds"])
        theirs = None if other is None else np.array(other.ask("best")["documents"])
    counts = {"encode": len(documents), "search": len(queries)}
    result: dict[str, Any] = {"documents": len(documents), "queries": len(queries)}
    if theirs is not None:
        result["same_first"] = float((theirs == ours.documents[:, 0]).mean())
    for name in works:
        result[name] = Times(tuple(seconds[name])).as_json()
        result[name]["texts_per_second" if name == "encode" else "queries_per_second"] = (
            counts[name] / (result[name]["seconds"])
        )
        if theirs is not None:
            result[name]["peer_seconds"] = Times(tuple(seconds[f"peer {name}"])).median
            result[name]["ratio"] = paired_ratio(seconds[f"peer {name}"], seconds[name])
    return result


class _Other:
    """Sentence Transformers in a process of its own."""

    def __init__(self, model: str, documents: list[str], queries: list[str]):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "optical_jax.benchmark.retrieval"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._send({"model": model, "documents": documents, "queries": queries})
        for name in ("encode", "search"):
            self.ask(name)

    def ask(self, what: str) -> dict[str, Any]:
        self._send(what)
        assert self.process.stdout is not None
        answer = self.process.stdout.readline()
        if not answer:
            raise ConfigError("the PyTorch side ended (see above); peer=torch needs the extra: pip install '.[parity]'")
        return json.loads(answer)

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(timeout=60)
        self.process.stdout.close()

    def _send(self, value: Any) -> None:
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # `ask` tells that it ended
            self.process.stdin.write(json.dumps(value) + "\n")
            self.process.stdin.flush()


def serve() -> None:
    """The other process: a line of JSON with model and texts, then "encode" or "search" a line."""
    import torch  # pyright: ignore[reportMissingImports]  # the parity extra
    from sentence_transformers import MultiVectorEncoder  # pyright: ignore[reportMissingImports]

    task = json.loads(sys.stdin.readline())
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = MultiVectorEncoder(task["model"], device=device)

    def encode() -> Any:
        return model.encode_document(task["documents"], batch_size=BATCH, show_progress_bar=False)

    queries, documents = model.encode_query(task["queries"], show_progress_bar=False), encode()

    def search() -> Any:
        scores = model.similarity(queries, documents)
        return torch.topk(scores, min(1000, scores.shape[1]), dim=1)

    works = {"encode": encode, "search": search}
    for line in sys.stdin:
        what = json.loads(line)
        if what == "best":
            print(json.dumps({"documents": search().indices[:, 0].tolist()}), flush=True)
            continue
        began = time.perf_counter()
        works[what]()
        if device == "cuda":
            torch.cuda.synchronize()
        print(json.dumps({"seconds": time.perf_counter() - began}), flush=True)


if __name__ == "__main__":
    serve()

"""Endless, resumable batch iterator with prefetching (Grain)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import grain

from optical_jax.errors import ConfigError

ENDLESS = 2**40
"""Length of sources, practically infinite."""
PREFETCHED_BATCHES = 2
CACHED_EPOCHS = 2


class Batches:
    """Endless iterator over a source's batches, prefetched in threads."""

    def __init__(self, source: Any, fingerprint: str, threads: int = 1):
        """
        Args:
          source: random-access source; `source[i]` is batch i, a pure function of i.
          fingerprint: hash of everything that determines the batches.
          threads: number of batches prepared in parallel.
        """
        self._fingerprint = fingerprint
        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(PREFETCHED_BATCHES, threads))
        self._batches = iter(grain.MapDataset.source(source).to_iter_dataset(options))

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return next(self._batches)

    def state(self) -> dict[str, Any]:
        """Position for `restore`, as plain numbers and strings, the same in every process."""
        return {"next_batch": int(self._batches.get_state()["next_index"]), "fingerprint": self._fingerprint}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Resume at a saved position.

        Raises:
          ConfigError: the position is of other data, another seed or batch size.
        """
        if state["fingerprint"] != self._fingerprint:
            raise ConfigError(
                f"the saved data position ({state['fingerprint']}) is of other pairs, seed or buckets than these "
                f"({self._fingerprint}); use the same data and settings, or a new run folder"
            )
        self._batches.set_state({"next_index": int(state["next_batch"])})

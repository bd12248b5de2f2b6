"""An endless, resumable iterator over batches (Grain)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import grain

from optical_jax.errors import ConfigError

ENDLESS = 2**40
"""Batches of the source: as good as without end."""
PREFETCHED_BATCHES = 2
CACHED_EPOCHS = 2


class Batches:
    """An endless iterator over a source's batches; the next ones are made in threads meanwhile."""

    def __init__(self, source: Any, fingerprint: str, threads: int = 1):
        """
        Args:
          source: `source[i]` is batch i for every i below `len(source)`, and nothing else decides it.
          fingerprint: of all that decides what batch i holds.
          threads: batches that are made at a time.
        """
        self._fingerprint = fingerprint
        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(PREFETCHED_BATCHES, threads))
        self._batches = iter(grain.MapDataset.source(source).to_iter_dataset(options))

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return next(self._batches)

    def state(self) -> dict[str, Any]:
        """The position, for `restore`: plain numbers and strings, the same in every process."""
        return {"next_batch": int(self._batches.get_state()["next_index"]), "fingerprint": self._fingerprint}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on as if the batches before that position had been taken.

        Raises:
          ConfigError: the position belongs to other data, another seed or batch size.
        """
        if state["fingerprint"] != self._fingerprint:
            raise ConfigError(
                f"the saved data position ({state['fingerprint']}) is of other pairs, seed or buckets than these "
                f"({self._fingerprint}); use the same data and settings, or a new run folder"
            )
        self._batches.set_state({"next_index": int(state["next_batch"])})

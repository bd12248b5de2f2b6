"""Epochs and language sampling: which pairs an epoch holds, and the share of every language.

Each language has an endless stream of its pairs: one random permutation after another, by the seed. An epoch is
ceil(pairs / global_batch) batches with a fixed number of pairs from every stream (its share, by temperature or
weights). At temperature 1 that is every pair once, and the last batch is filled from the next permutation: nothing is
dropped, and the counts of two pairs of a language never differ by more than one.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from optical_jax.config import DataConfig
from optical_jax.errors import ConfigError


@dataclass(frozen=True)
class Streams:
    """Streams of pairs by language; any epoch is computed in O(pairs)."""

    sizes: Mapping[str, int]
    """Pairs of each language, in the order of the joined pairs."""
    quotas: Mapping[str, int]
    """Number of pairs of each language in an epoch."""
    seed: int
    versions: int = 1
    """Versions of every pair; version v of pair n of the joined pairs is row v * pairs + n. Pass k over a language
    takes version (n + k) % versions, so that versions are balanced over passes and within each pass."""

    def epoch(self, number: int) -> Int[np.ndarray, "places"]:
        """Pairs of an epoch, as rows of the joined pairs, by language, each in its stream's order."""
        first, parts = 0, []
        for language, size in self.sizes.items():
            start = number * self.quotas[language]
            pairs, passes = self._stream(language, size, start, start + self.quotas[language])
            version = (pairs + passes) % self.versions
            parts.append(first + pairs + version * sum(self.sizes.values()))
            first += size
        return np.concatenate(parts)

    def rng(self, purpose: str, *numbers: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, zlib.crc32(purpose.encode()), *numbers])

    def _stream(
        self, language: str, size: int, start: int, stop: int
    ) -> tuple[Int[np.ndarray, "n"], Int[np.ndarray, "n"]]:
        """Entries [start, stop) of the language's concatenated permutations, and the permutation each is from."""
        if stop == start:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        first, last = start // size, (stop - 1) // size
        own = zlib.crc32(language.encode())
        whole = [self.rng("language", own, k).permutation(size) for k in range(first, last + 1)]
        return np.concatenate(whole)[start - first * size : stop - first * size], np.arange(start, stop) // size


def language_quotas(sizes: Mapping[str, int], cfg: DataConfig, places: int) -> dict[str, int]:
    """Number of pairs per language in an epoch, by data.weights or pairs ** (1 / temperature).

    Rounded by largest remainder; a language with a weight above 0 gets at least one.
    """
    if cfg.weights:
        weights = _parse_weights(cfg.weights, sizes)
    elif cfg.temperature > 0:
        largest = max(sizes.values())
        weights = {language: (size / largest) ** (1 / cfg.temperature) for language, size in sizes.items()}
    else:
        raise ConfigError(f"data.temperature={cfg.temperature} must be above 0 (1 samples in proportion to size)")
    total = sum(weights.values())
    exact = {language: places * weight / total for language, weight in weights.items()}
    quotas = {language: max(math.floor(share), int(share > 0)) for language, share in exact.items()}
    by_remainder = sorted(exact, key=lambda language: quotas[language] - exact[language])
    for language in by_remainder[: max(0, places - sum(quotas.values()))]:
        quotas[language] += 1
    while sum(quotas.values()) > places:  # small shares were rounded up to one
        quotas[max(quotas, key=lambda language: quotas[language])] -= 1
    return quotas


def _parse_weights(entries: tuple[str, ...], sizes: Mapping[str, int]) -> dict[str, float]:
    weights = {}
    for entry in entries:
        language, _, value = entry.partition("=")
        try:
            weights[language] = float(value)
        except ValueError:
            raise ConfigError(f"data.weights={entry} is not LANG=NUMBER; write sw=2") from None
        if not 0 <= weights[language] < math.inf:
            raise ConfigError(f"data.weights={entry} is not a valid weight; use a number from 0 up")
    if unknown := sorted(weights.keys() - sizes.keys()):
        raise ConfigError(f"data.weights={unknown[0]}=...: no bitext of this language; available: {', '.join(sizes)}")
    if missing := sorted(sizes.keys() - weights.keys()):
        raise ConfigError(f"data.weights: none for {missing[0]}; add one for every language (0 leaves it out)")
    if not any(weights.values()):
        raise ConfigError("data.weights are all 0; set one above 0")
    return {language: weights[language] for language in sizes}

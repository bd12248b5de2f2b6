"""Sequence packing: the texts of each side end to end in rows, with batches of one shape and any mix of lengths.

To keep one shape, an epoch's pairs are sorted by the length of the student's side and cut into as many strata as a
batch has pairs; each batch gets one pair of every stratum, so that the student tokens of two batches differ by less
than the longest text. Within a stratum pairs are assigned so that teacher tokens balance too: the longest to the batch
with the fewest.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from optical_jax.data.batches.tokens import FlatTokens, TokenizedPairs
from optical_jax.types import PackedInputs

PACKED_AHEAD = 50_000
"""Pairs that are packed before the first step to determine the rows per batch; epochs are statistically alike."""


def deal(
    pairs: Int[np.ndarray, "places"],
    by: Int[np.ndarray, "places"],
    evened: Int[np.ndarray, "places"],
    batch: int,
    rng: np.random.Generator,
) -> Int[np.ndarray, "batches B"]:
    """Stratified batches of pairs with balanced sums of `by` and of `evened`; column k of a batch is of stratum k."""
    mixed = rng.permutation(len(pairs))
    strata = mixed[np.argsort(by[mixed], kind="stable")].reshape(batch, -1)
    batches = strata.shape[1]
    total, dealt = np.zeros(batches), np.empty((batches, batch), np.int64)
    for k in rng.permutation(batch):
        longest_first = strata[k][np.argsort(-evened[strata[k]], kind="stable")]
        # Random noise below one token breaks ties between batches.
        emptiest_first = np.argsort(total + rng.random(batches))
        dealt[emptiest_first, k] = longest_first
        total[emptiest_first] += evened[longest_first]
    return pairs[rng.permutation(dealt)]


def fit(lengths: Int[np.ndarray, "n"], row_length: int) -> tuple[Int[np.ndarray, "n"], Int[np.ndarray, "n"], int]:
    """Best-fit-decreasing bin packing: row and start of every text, and the number of rows."""
    row, start = np.empty(len(lengths), np.int64), np.empty(len(lengths), np.int64)
    with_room: list[list[int]] = [[] for _ in range(row_length + 1)]
    some, rows = 0, 0  # bit r of `some`: a row has room for r tokens
    for n in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[n])
        fitting = some >> length
        if fitting:
            room = length + (fitting & -fitting).bit_length() - 1
            at = with_room[room].pop()
            if not with_room[room]:
                some ^= 1 << room
        else:
            room, at, rows = row_length, rows, rows + 1
        row[n], start[n] = at, row_length - room
        with_room[room - length].append(at)
        some |= 1 << (room - length)
    return row, start, rows


class Packing:
    """Batch layout of `data.batching=packed`: rows of `row_length` tokens, their number fixed per side.

    A batch is divided into `groups` that are packed separately, one per shard and part of gradient accumulation, so
    that no text spans two.
    """

    def __init__(self, pairs: TokenizedPairs, row_length: int, batch: int, shards: int = 1, parts: int = 1):
        self.pairs, self.batch, self.parts, self.groups = pairs, batch, parts, shards * parts
        self.longest = {"student": int(pairs.student.lengths.max()), "teacher": int(pairs.teacher.lengths.max())}
        self.row_length = max(row_length, *self.longest.values())
        self.rows = {"student": 0, "teacher": 0}
        """Rows per group, in every batch for which they suffice."""

    @property
    def row_lengths(self) -> tuple[int, ...]:
        """Row lengths in tokens that occur in batches."""
        return (self.row_length,)

    def arrange(self, pairs: Int[np.ndarray, "places"], rng: np.random.Generator) -> Int[np.ndarray, "batches B"]:
        batches = self._deal(pairs, self.batch, rng)
        if self.groups == 1:
            return batches
        groups = np.stack([self._deal(pairs, self.batch // self.groups, rng) for pairs in batches])
        # Pair i goes to part i % parts of its shard, as `mean_over_parts` cuts a batch.
        by_shard = groups.reshape(len(groups), -1, self.parts, groups.shape[-1]).swapaxes(2, 3)
        return by_shard.reshape(batches.shape)

    def _deal(self, pairs: Int[np.ndarray, "places"], size: int, rng: np.random.Generator) -> Int[np.ndarray, "N n"]:
        return deal(pairs, self.pairs.student.lengths[pairs], self.pairs.teacher.lengths[pairs], size, rng)

    def learn_rows(self, batches: Iterable[Int[np.ndarray, "B"]]) -> None:
        """Set rows per group to the most that these batches need; later ones that need more get their own shape."""
        for pairs in batches:
            for name in self.rows:
                self.rows[name] = max(self.rows[name], self._fit_groups(name, pairs)[1])

    def _groups(self, pairs: Int[np.ndarray, "B"]) -> Int[np.ndarray, "G b"]:
        """Indices into the batch of every group's pairs."""
        shards = self.groups // self.parts
        places = np.arange(len(pairs)).reshape(shards, -1, self.parts)
        return places.transpose(0, 2, 1).reshape(self.groups, -1)

    def _fit_groups(self, name: str, pairs: Int[np.ndarray, "B"]) -> tuple[list[tuple[np.ndarray, np.ndarray]], int]:
        """Row and start of every pair's text in its group, and the rows of the largest group.

        Computed for all groups, so that every process gets the same.
        """
        lengths: np.ndarray = getattr(self.pairs, name).lengths
        found = [fit(lengths[pairs[group]], self.row_length) for group in self._groups(pairs)]
        return [(row, start) for row, start, _ in found], max(needed for _, _, needed in found)

    def side(
        self, name: str, pairs: Int[np.ndarray, "B"], rows: slice, weights: Float[np.ndarray, "V"] | None
    ) -> PackedInputs:
        """One side of a batch, "student" or "teacher": the groups of the given rows."""
        tokens: FlatTokens = getattr(self.pairs, name)
        L, S = self.row_length, self.longest[name]
        fitted, needed = self._fit_groups(name, pairs)
        # Of this batch alone: batches must not depend on earlier ones.
        R, G = max(self.rows[name], needed), self.groups
        padded = tokens.rows(pairs, S, weights)
        real = np.arange(S) < tokens.lengths[pairs][:, None]  # [B, S]
        b = len(pairs) // G
        ids, attend = np.full((G, R * L), tokens.pad_id, np.int32), np.zeros((G, R * L), bool)
        home, place = np.full((G, R * L), -1, np.int32), np.full((G, b, S), -1, np.int32)
        for g, (group, (row, start)) in enumerate(zip(self._groups(pairs), fitted, strict=True)):
            at = (row * L + start)[:, None] + np.arange(S)  # [b, S]
            there = real[group]
            place[g][there] = at[there]
            ids[g, at[there]] = np.asarray(padded.ids)[group][there]
            attend[g, at[there]] = np.asarray(padded.attend)[group][there]
            home[g, at[there]] = np.arange(b * S).reshape(b, S)[there]

        def by_part(x: np.ndarray) -> np.ndarray:
            """Reshape [G, n, ...] to [shards * n * parts, ...], with parts interleaved within a shard."""
            shards = G // self.parts
            cut = x.reshape(shards, self.parts, *x.shape[1:]).swapaxes(1, 2)
            return cut.reshape(shards * x.shape[1] * self.parts, *x.shape[2:])

        # This process's part of the batch is contiguous in shards, so it is the same part of the rows.
        share = slice(rows.start * G * R // len(pairs), rows.stop * G * R // len(pairs))
        arrays: dict[str, Any] = {
            "ids": by_part(ids.reshape(G, R, L))[share],
            "attend": by_part(attend.reshape(G, R, L))[share],
            "home": by_part(home.reshape(G, R, L))[share],
            "place": by_part(place)[rows],
            "keep": np.asarray(padded.keep)[rows],
            "weight": None if padded.weight is None else np.asarray(padded.weight)[rows],
        }
        return PackedInputs(**arrays)

"""Batches without padding: the texts of each side laid end to end in rows, any mix of lengths in every batch.

All batches of a run are to have one shape, whatever texts they hold. So an epoch's pairs are sorted by the length of
the student's side and cut into as many strata as a batch has pairs; each batch gets one pair of every stratum. The
student's tokens of two batches then differ by less than the longest text. Within a stratum the pairs are dealt so that
the teacher's tokens even out too: the longest to the batch that has fewest.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from optical_jax.data.batches.tokens import FlatTokens, TokenizedPairs
from optical_jax.types import PackedInputs

PACKED_AHEAD = 50_000
"""Pairs that are packed before the first step, to learn how many rows a batch takes: all epochs are alike."""


def deal(
    pairs: Int[np.ndarray, "places"],
    by: Int[np.ndarray, "places"],
    evened: Int[np.ndarray, "places"],
    batch: int,
    rng: np.random.Generator,
) -> Int[np.ndarray, "batches B"]:
    """Pairs in batches of about the same sum of `by`, and of `evened`; column k of a batch is from stratum k."""
    mixed = rng.permutation(len(pairs))
    strata = mixed[np.argsort(by[mixed], kind="stable")].reshape(batch, -1)
    batches = strata.shape[1]
    total, dealt = np.zeros(batches), np.empty((batches, batch), np.int64)
    for k in rng.permutation(batch):
        longest_first = strata[k][np.argsort(-evened[strata[k]], kind="stable")]
        # A share of one token, drawn: batches with equal sums take turns at random.
        emptiest_first = np.argsort(total + rng.random(batches))
        dealt[emptiest_first, k] = longest_first
        total[emptiest_first] += evened[longest_first]
    return pairs[rng.permutation(dealt)]


def fit(lengths: Int[np.ndarray, "n"], row_length: int) -> tuple[Int[np.ndarray, "n"], Int[np.ndarray, "n"], int]:
    """Row and start of every text, and the rows needed: longest first, each into the fullest row with room for it."""
    row, start = np.empty(len(lengths), np.int64), np.empty(len(lengths), np.int64)
    with_room: list[list[int]] = [[] for _ in range(row_length + 1)]
    some, rows = 0, 0  # bit r of `some`: there are rows with room for r tokens
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
    """The layout of `data.batching=packed`: rows of `row_length` tokens, as many on each side as the run needs.

    A batch falls into `groups` that are packed apart: one a shard of the batch and part of gradient accumulation, so
    that no text lies across two.
    """

    def __init__(self, pairs: TokenizedPairs, row_length: int, batch: int, shards: int = 1, parts: int = 1):
        self.pairs, self.batch, self.parts, self.groups = pairs, batch, parts, shards * parts
        self.longest = {"student": int(pairs.student.lengths.max()), "teacher": int(pairs.teacher.lengths.max())}
        self.row_length = max(row_length, *self.longest.values())
        self.rows = {"student": 0, "teacher": 0}
        """Rows of a group, in every batch that does with them."""

    @property
    def row_lengths(self) -> tuple[int, ...]:
        """Tokens of a row, over all batches."""
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
        """Make room for every one of these batches. One that needs more later on has a shape of its own."""
        for pairs in batches:
            for name in self.rows:
                self.rows[name] = max(self.rows[name], self._fit_groups(name, pairs)[1])

    def _groups(self, pairs: Int[np.ndarray, "B"]) -> Int[np.ndarray, "G b"]:
        """Places in the batch of every group's pairs."""
        shards = self.groups // self.parts
        places = np.arange(len(pairs)).reshape(shards, -1, self.parts)
        return places.transpose(0, 2, 1).reshape(self.groups, -1)

    def _fit_groups(self, name: str, pairs: Int[np.ndarray, "B"]) -> tuple[list[tuple[np.ndarray, np.ndarray]], int]:
        """Row and start of every pair's text in its group, and the rows that the largest group needs.

        All groups, so that every process finds the same.
        """
        lengths: np.ndarray = getattr(self.pairs, name).lengths
        found = [fit(lengths[pairs[group]], self.row_length) for group in self._groups(pairs)]
        return [(row, start) for row, start, _ in found], max(needed for _, _, needed in found)

    def side(
        self, name: str, pairs: Int[np.ndarray, "B"], rows: slice, weights: Float[np.ndarray, "V"] | None
    ) -> PackedInputs:
        """One side of a batch, "student" or "teacher": the groups that hold those rows of it."""
        tokens: FlatTokens = getattr(self.pairs, name)
        L, S = self.row_length, self.longest[name]
        fitted, needed = self._fit_groups(name, pairs)
        # Of this batch alone: what other batches needed must not change how this one is computed.
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
            """[G, n, ...] as [shards * n * parts, ...], part by part in turn within a shard."""
            shards = G // self.parts
            cut = x.reshape(shards, self.parts, *x.shape[1:]).swapaxes(1, 2)
            return cut.reshape(shards * x.shape[1] * self.parts, *x.shape[2:])

        # This process's share of the batch is a run of shards, so the same share of the rows.
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

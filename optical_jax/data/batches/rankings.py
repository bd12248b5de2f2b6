"""Batches of queries with relevant passages and sampled negatives, a pure function of the data, the seed and i."""

from __future__ import annotations

import math
import threading
from hashlib import blake2b
from typing import Any

import numpy as np
from jaxtyping import Int

from optical_jax.config import HeadConfig, RankingDataConfig
from optical_jax.data.batches.epochs import Streams
from optical_jax.data.batches.iterator import CACHED_EPOCHS, ENDLESS, Batches
from optical_jax.data.batches.packing import Packing
from optical_jax.data.batches.tokens import FlatTokens, TokenizedPairs, TokenSide, tokenize_texts
from optical_jax.data.collections.rankings import Rankings
from optical_jax.errors import ConfigError
from optical_jax.types import RankingBatch, RankingMarks

QUERY_ROW = 64
"""Tokens per row of packed queries, if none is longer."""
LOOKED_AT = 200
"""Batches that are packed before the first step to determine the rows per batch."""


class RankingSource:
    """Random-access source of ranking batches; one process's rows of batch i.

    An epoch has every pair of a query and a relevant passage once, reshuffled, and fills its last batch from the next
    epoch. Negatives are sampled from the query's own, without replacement; if there are too few, the relevant passage
    is repeated and ignored.
    """

    def __init__(
        self,
        rankings: Rankings,
        queries: FlatTokens,
        passages: FlatTokens,
        cfg: RankingDataConfig,
        seed: int,
        *,
        rows: slice,
        shards: int,
        parts: int,
    ) -> None:
        self.rankings, self.batch, self.n, self.rows = rankings, cfg.global_batch, cfg.passages, rows
        self.pairs = rankings.pairs()
        self.batches = math.ceil(len(self.pairs) / self.batch)
        self.streams = Streams({"pairs": len(self.pairs)}, {"pairs": self.batches * self.batch}, seed)
        self.width = int(rankings.relevant.max())
        self.queries = Packing(TokenizedPairs(queries, queries), QUERY_ROW, self.batch, shards, parts)
        self.passages = Packing(TokenizedPairs(passages, passages), cfg.row_length, self.batch * self.n, shards, parts)
        self._epochs: dict[int, Int[np.ndarray, "places"]] = {}
        self._lock = threading.Lock()
        looked_at = [self.texts_of(i) for i in range(min(LOOKED_AT, 2 * self.batches))]
        self.queries.learn_rows(queries for queries, _ in looked_at)
        self.passages.learn_rows(passages.ravel() for _, passages in looked_at)

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, index: int) -> RankingBatch:
        queries, passages = self.texts_of(int(index))
        of_passages = slice(self.rows.start * self.n, self.rows.stop * self.n)
        return RankingBatch(
            queries=self.queries.side("student", queries, self.rows, None),
            passages=self.passages.side("student", passages.ravel(), of_passages, None),
            marks=self.marks(queries, passages),
        )

    def texts_of(self, index: int) -> tuple[Int[np.ndarray, "B"], Int[np.ndarray, "B n"]]:
        """Queries of a global batch, and the passages of each, the relevant one first."""
        number, step = divmod(index, self.batches)
        queries, relevant = self.pairs[self._epoch(number)[step * self.batch : (step + 1) * self.batch]].T
        rng = self.streams.rng("passages", index)
        passages = np.repeat(relevant[:, None], self.n, axis=1).astype(np.int32)
        for row, q in enumerate(queries.tolist()):
            others = self.rankings.candidates[q][self.rankings.relevant[q] :]
            drawn = rng.permutation(others)[: self.n - 1]
            passages[row, 1 : 1 + len(drawn)] = drawn
        return queries, passages

    def marks(self, queries: Int[np.ndarray, "B"], passages: Int[np.ndarray, "B n"]) -> RankingMarks:
        """Relevance and scores of this process's rows of a batch."""
        first = np.zeros(passages.size, bool)
        first[np.unique(passages, return_index=True)[1]] = True
        mine = range(*self.rows.indices(len(queries)))
        relevant = np.full((len(mine), self.width), -1, np.int32)
        scores = np.full((len(mine), self.n), np.nan, np.float32)
        for row, b in enumerate(mine):
            q = int(queries[b])
            candidates, count = self.rankings.candidates[q], int(self.rankings.relevant[q])
            relevant[row, :count] = candidates[:count]
            place = {passage: n for n, passage in enumerate(candidates.tolist())}
            scores[row] = self.rankings.scores[q][[place[passage] for passage in passages[b].tolist()]]
        arrays: dict[str, Any] = {
            "passage_ids": passages[self.rows],
            "first": first.reshape(passages.shape)[self.rows],
            "relevant": relevant,
            "scores": scores,
        }
        return RankingMarks(**arrays)

    def _epoch(self, number: int) -> Int[np.ndarray, "places"]:
        with self._lock:
            if number not in self._epochs:
                while len(self._epochs) >= CACHED_EPOCHS:
                    del self._epochs[min(self._epochs)]
                self._epochs[number] = self.streams.epoch(number)
            return self._epochs[number]


def passage_length(cfg: RankingDataConfig, head: HeadConfig) -> int:
    """Length in tokens to which passages are truncated in training."""
    return min(cfg.passage_length or head.document_length, head.document_length)


def make_ranking_batches(
    rankings: Rankings,
    tokenizer: Any,
    head: HeadConfig,
    cfg: RankingDataConfig,
    seed: int,
    *,
    process_index: int = 0,
    process_count: int = 1,
    shards: int = 1,
    parts: int = 1,
) -> tuple[Batches, RankingSource]:
    """Data loader of a teacher's training: batches from the first on, and their source.

    Args:
      rankings: relevance judgements.
      tokenizer: a fast tokenizer of transformers.
      head: markers and lengths of the texts.
      cfg: batch size, passages per query, rows.
      seed: of the order and of the sampled negatives.
      process_index, process_count: each process gets an equal part of every batch's rows.
      shards: number of shards of the batch over the devices.
      parts: number of parts in which a batch is encoded.

    Raises:
      ConfigError: the batch does not divide over the processes.
    """
    if cfg.global_batch % process_count or shards % process_count:
        raise ConfigError(
            f"data.global_batch={cfg.global_batch} in {shards} shards does not divide over {process_count} processes; "
            "use a multiple of it, and mesh.data x mesh.fsdp likewise"
        )
    queries = tokenize_texts(rankings.queries, TokenSide(tokenizer, head, None, "query"))
    passages = tokenize_texts(rankings.passages, TokenSide(tokenizer, head, passage_length(cfg, head), "document"))
    part = cfg.global_batch // process_count
    rows = slice(process_index * part, (process_index + 1) * part)
    source = RankingSource(rankings, queries, passages, cfg, seed, rows=rows, shards=shards, parts=parts)
    digest = blake2b(repr((cfg.global_batch, cfg.passages, seed)).encode(), digest_size=8)
    for array in (
        queries.ids,
        queries.offsets,
        passages.ids,
        passages.offsets,
        rankings.relevant,
        *rankings.candidates,
    ):
        digest.update(np.ascontiguousarray(array).data)
    return Batches(source, digest.hexdigest()), source

"""Flags of `mine`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from optical_jax.config.vocabulary import MAX_UNKNOWN, MaxUnknown


@dataclass(frozen=True)
class MineCommand:
    """Mine hard negatives: rank passages for the training queries, write those ranked high and not judged relevant.

    A .tsv gets triples (query, relevant, negative); a .jsonl the scores of each query's passages.
    Both name them by id where --train does.
    """

    out: Annotated[str, tyro.conf.arg(metavar="FILE")]
    """File to write, .tsv or .jsonl; an older one is replaced."""
    train: Annotated[tuple[str, ...], tyro.conf.arg(metavar="FILE [FILE ...]")]
    """Judgements, triples or lists, as data.train."""
    collection: Annotated[str, tyro.conf.arg(metavar="PATH")] = ""
    """As data.collection."""
    queries: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """As data.queries."""
    language: str = "en"
    by: Annotated[str, tyro.conf.arg(metavar="bm25|MODEL")] = "bm25"
    """Who ranks: bm25, or a run, folder or hub name of a model."""
    checkpoint: Annotated[str, tyro.conf.arg(metavar="last|best|STEP")] = "last"
    """Which checkpoint, of a run."""
    pooling: Literal["none", "auto", "mean", "cls"] = "none"
    """Of a folder or hub name: none takes a vector a token, auto does as the model's files say."""
    pool: Literal["auto", "collection", "files"] = "auto"
    """Rank the whole collection, or only the passages that the files of --train name; auto: the collection, if one is
    given."""
    depth: Annotated[tuple[int, int], tyro.conf.arg(metavar="FIRST LAST")] = (1, 50)
    """Ranks that negatives come from."""
    negatives: int = 8
    """Negatives a query at most, drawn from those ranks."""
    seed: int = 0
    batch_size: int = 64
    """Texts of 32 tokens that a model encodes at a time."""
    max_bad_lines: int = 0
    """As data.max_bad_lines of a training."""
    max_unknown: MaxUnknown = MAX_UNKNOWN
    cache_dir: Annotated[str, tyro.conf.arg(metavar="DIR")] = ""
    """Folder for downloads from the hub; empty leaves it to HF_HOME."""

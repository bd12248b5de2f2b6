"""`python -m optical_jax mine`: hard negatives by BM25 or by a model, into a file that a teacher's training reads."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from optical_jax.commands.entry import open_door, refuse_no_flags
from optical_jax.config import RankingDataConfig
from optical_jax.errors import ConfigError

if TYPE_CHECKING:
    from optical_jax.data.collections.rankings import Rankings
    from optical_jax.retrieval.search import Ranking

MOST_SCORES = 10**9
"""Of queries times passages that are held for a .jsonl, 8 bytes each."""


@dataclass(frozen=True)
class MineCommand:
    """Rank passages for the training queries, and write those that stand high and are not judged relevant.

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
    cache_dir: Annotated[str, tyro.conf.arg(metavar="DIR")] = ""
    """Folder for downloads from the hub; empty leaves it to HF_HOME."""


EXAMPLE = "python -m optical_jax mine --train triples.tsv --out negatives.tsv"


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Returns the exit code."""
    return open_door(lambda: run_command(sys.argv[1:] if argv is None else argv))


def run_command(argv: Sequence[str]) -> None:
    refuse_no_flags(argv, "name judgements, and a file to write", EXAMPLE)
    command = tyro.cli(MineCommand, args=list(argv), prog="python -m optical_jax mine")
    check(command)
    mine(command)


def check(command: MineCommand) -> None:
    """Refuse impossible flags before anything is read.

    Raises:
      ConfigError: names the flag, its value and the remedy.
    """
    if Path(command.out).suffix not in (".tsv", ".jsonl"):
        raise ConfigError(f"out={command.out} tells no form; call it .tsv (triples) or .jsonl (texts and scores)")
    if Path(command.out).is_dir():
        raise ConfigError(f"out={command.out} is a folder; name a file")
    if not command.train:
        raise ConfigError("train is empty; name judgements: --train FILE")
    first, last = command.depth
    if not 1 <= first <= last:
        raise ConfigError(f"depth={first} {last} is impossible; give the first and the last rank, such as 1 50")
    for name in ("negatives", "batch_size"):
        if getattr(command, name) < 1:
            raise ConfigError(f"{name}={getattr(command, name)} is impossible; give at least 1")
    if not re.fullmatch(r"last|best|[0-9]+", command.checkpoint):
        raise ConfigError(f"checkpoint={command.checkpoint} is none; give last, best or a step")
    if command.by == "bm25":
        for name in ("checkpoint", "pooling"):
            if getattr(command, name) != getattr(MineCommand, name):
                raise ConfigError(f"{name}={getattr(command, name)} is for a model, and by=bm25 has none; leave it out")
    if command.pool == "collection" and not command.collection:
        raise ConfigError("pool=collection and there is none; name it with --collection, or take --pool files")
    if command.seed < 0:
        raise ConfigError(f"seed={command.seed} is impossible; give 0 or more")


def mine(command: MineCommand) -> None:
    from optical_jax.data.collections.rankings import load_rankings, with_collection
    from optical_jax.training.teacher.mining import choose_negatives, scores_by_query, write_scored, write_triples

    data = RankingDataConfig(
        train=command.train, collection=command.collection, queries=command.queries, language=command.language
    )
    rankings = load_rankings(data)
    if command.pool != "files" and command.collection:
        rankings = with_collection(rankings, data)
    scored = Path(command.out).suffix == ".jsonl"
    cells = len(rankings.queries) * len(rankings.passages)
    if scored and cells > MOST_SCORES:
        raise ConfigError(
            f"out={command.out}: {len(rankings.queries):,} queries times {len(rankings.passages):,} passages are more "
            "scores than memory should hold; write a .tsv, or take fewer with --pool files"
        )
    ranking = rank(command, rankings, len(rankings.passages) if scored else command.depth[1])
    mined = list(choose_negatives(rankings, ranking, depth=command.depth, count=command.negatives, seed=command.seed))
    out = Path(command.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    if scored:
        lines = write_scored(out, rankings, mined, scores_by_query(ranking))
    else:
        lines = write_triples(out, rankings, mined)
    none = sum(not one.negatives for one in mined)
    found = sum(len(one.negatives) for one in mined)
    print(f"{command.out}: {lines:,} lines, {found:,} negatives for {len(mined) - none:,} queries, none for {none:,}")


def rank(command: MineCommand, rankings: Rankings, depth: int) -> Ranking:
    """The passages of every training query, best first."""
    documents = {str(n): text for n, text in enumerate(rankings.passages)}
    if command.by == "bm25":
        from optical_jax.retrieval.bm25 import make_bm25

        return make_bm25(documents, depth)(rankings.queries)
    from optical_jax.partitioning import over_all_devices
    from optical_jax.progress import ProgressReport
    from optical_jax.retrieval.search import encode_blocks, search
    from optical_jax.runs.load import is_run, load
    from optical_jax.towers.tower import encode, placed

    run = Path(command.by)
    if is_run(run):
        if command.pooling != "none":
            raise ConfigError(f"pooling={command.pooling} is for a folder or hub name; a run has its own; leave it out")
        towers = {side: load(run, side=side, checkpoint=command.checkpoint) for side in ("query", "document")}
    else:
        if command.checkpoint != "last":
            raise ConfigError(f"checkpoint={command.checkpoint} is of a run, and by={run} is none; leave it out")
        tower = load(command.by, pooling=command.pooling, cache_dir=command.cache_dir or None)
        towers = {"query": tower, "document": replace(tower, side="document")}
    with over_all_devices(), ProgressReport("ranking passages", len(documents), "passages") as progress:
        asks, answers = placed(towers["query"]), placed(towers["document"])
        size = command.batch_size
        blocks = list(encode_blocks(rankings.queries, lambda texts: encode(asks, texts, size)))
        return search(
            {"train": blocks},
            documents,
            lambda texts: encode(answers, texts, size),
            depth=depth,
            advance=progress.advance,
        )["train"]

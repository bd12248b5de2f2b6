"""Hard-negative mining: passages ranked high for a query and not judged relevant to it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from optical_jax.config import RankingDataConfig
from optical_jax.data.collections.rankings import Rankings, text_number
from optical_jax.data.files.records import in_words
from optical_jax.errors import ConfigError
from optical_jax.retrieval.search import Ranking

if TYPE_CHECKING:
    from optical_jax.training.teacher.options import MineCommand


@dataclass(frozen=True)
class Mined:
    """Mined passages of one query, by index."""

    query: int
    relevant: list[int]
    negatives: list[int]


def choose_negatives(
    rankings: Rankings, ranking: Ranking, *, depth: tuple[int, int], count: int, seed: int
) -> Iterator[Mined]:
    """Sample up to `count` negatives per query from ranks `depth[0]` to `depth[1]`.

    Judged passages keep their rank and are skipped, so a depth means the same whatever was judged. Those that a file
    calls not relevant are known negatives already, and are skipped too.

    Args:
      rankings: queries, passages and judgements; what may be found are its passages.
      ranking: the passages of each query, best first; rows in the order of the queries.
      depth: first and last rank, from 1.
      count: negatives a query at most.
      seed: of the draw; a query's draw depends on its text and the seed alone.
    """
    first, last = depth
    for q, found in enumerate(ranking.documents[:, first - 1 : last].tolist()):
        candidates = rankings.candidates[q].tolist()
        judged, relevant = set(candidates), candidates[: int(rankings.relevant[q])]
        pool = [passage for passage in found if passage >= 0 and passage not in judged]
        rng = np.random.default_rng([seed, text_number(rankings.queries[q])])
        drawn = sorted(rng.permutation(len(pool))[:count].tolist())
        yield Mined(q, relevant, [pool[n] for n in drawn])


def write_triples(path: Path, rankings: Rankings, mined: Sequence[Mined]) -> int:
    """query<TAB>relevant<TAB>negative, a line each, ids where all have one; MS MARCO's form. Returns the lines."""
    by_id = has_ids(rankings)
    queries, passages = (rankings.query_ids, rankings.passage_ids) if by_id else (rankings.queries, rankings.passages)
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for one in mined:
            for n, negative in enumerate(one.negatives):
                # Each negative once: with every relevant passage in turn it says nothing more.
                relevant = one.relevant[n % len(one.relevant)]
                columns = (queries[one.query], passages[relevant], passages[negative])
                file.write("\t".join(" ".join(column.split()) for column in columns) + "\n")
                count += 1
    return count


def has_ids(rankings: Rankings) -> bool:
    return all(rankings.query_ids) and all(rankings.passage_ids)


def write_scored(
    path: Path, rankings: Rankings, mined: Sequence[Mined], scores: Mapping[int, Mapping[int, float]]
) -> int:
    """A query a line with its passages and their scores. Returns the lines.

    Where all have ids: query_id, document_ids, scores (PyLate's form; whatever language has queries of these ids). Else
    texts: query, pos, neg, pos_scores, neg_scores (FlagEmbedding's). A passage that the ranking did not find has the
    lowest score that it gave the query.
    """
    by_id = has_ids(rankings)
    with path.open("w", encoding="utf-8") as file:
        for one in mined:
            of_query = scores[one.query]
            least = min(of_query.values(), default=0.0)
            record: dict[str, object] = {}
            if by_id:
                passages = [*one.relevant, *one.negatives]
                record["query_id"] = rankings.query_ids[one.query]
                record["document_ids"] = [rankings.passage_ids[n] for n in passages]
                record["scores"] = [round(of_query.get(n, least), 6) for n in passages]
            else:
                record["query"] = rankings.queries[one.query]
                for name, numbers in (("pos", one.relevant), ("neg", one.negatives)):
                    record[name] = [rankings.passages[n] for n in numbers]
                    record[f"{name}_scores"] = [round(of_query.get(n, least), 6) for n in numbers]
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
    return len(mined)


def scores_by_query(ranking: Ranking) -> dict[int, dict[int, float]]:
    """Query -> passage -> score of all mined passages."""
    return {
        q: {n: score for n, score in zip(found, scores, strict=True) if n >= 0 and math.isfinite(score)}
        for q, (found, scores) in enumerate(zip(ranking.documents.tolist(), ranking.scores.tolist(), strict=True))
    }


MOST_SCORES = 10**9
"""Of queries times passages that are held for a .jsonl, 8 bytes each."""


def mine(command: MineCommand) -> None:
    from optical_jax.data.collections.rankings import load_rankings, with_collection
    from optical_jax.training.teacher.mining import choose_negatives, scores_by_query, write_scored, write_triples

    data = RankingDataConfig(
        train=command.train,
        collection=command.collection,
        queries=command.queries,
        language=command.language,
        max_bad_lines=command.max_bad_lines,
    )
    rankings = load_rankings(data, "--max-bad-lines")
    if command.pool != "files" and command.collection:
        rankings = with_collection(rankings, data, "--max-bad-lines")
    if rankings.left_out:
        print(f"left out: {in_words(rankings.left_out)}")
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
    """Rank the passages for every training query."""
    documents = {str(n): text for n, text in enumerate(rankings.passages)}
    if command.by == "bm25":
        from optical_jax.retrieval.bm25 import make_bm25

        return make_bm25(documents, depth)(rankings.queries)
    from optical_jax.partitioning import over_all_devices
    from optical_jax.progress import ProgressReport
    from optical_jax.retrieval.search import rank as rank_vectors
    from optical_jax.runs.load import is_run, load
    from optical_jax.towers.texts import Counter, check_texts, encode_texts, max_tokens, say

    run = Path(command.by)
    if is_run(run):
        if command.pooling != "none":
            raise ConfigError(f"pooling={command.pooling} is for a folder or hub name; a run has its own; leave it out")
        towers = {side: load(run, side=side, checkpoint=command.checkpoint) for side in ("query", "document")}
    else:
        if command.checkpoint != "last":
            raise ConfigError(f"checkpoint={command.checkpoint} is for a run, and by={run} is not one; leave it out")
        tower = load(command.by, pooling=command.pooling, cache_dir=command.cache_dir or None)
        towers = {"query": tower, "document": replace(tower, side="document")}
    sides = {"query": ("queries", rankings.queries), "document": ("passages", rankings.passages)}
    for side, (what, texts) in sides.items():
        remedy = "use a model that reads them: --by"
        check_texts(towers[side], texts, what, at_most=command.max_unknown, remedy=remedy)
    cut = {side: Counter() for side in sides}
    with over_all_devices(), ProgressReport("ranking passages", len(documents), "passages") as progress:
        size = command.batch_size
        queries = list(encode_texts(towers["query"], rankings.queries, batch_size=size, look=cut["query"]))
        blocks = encode_texts(towers["document"], rankings.passages, batch_size=size, look=cut["document"])
        ids = list(documents)
        found = rank_vectors({"train": queries}, ids, blocks, depth=depth, advance=progress.advance)["train"]
    for side, (what, _) in sides.items():
        for line in cut[side].counts.truncation(what, max_tokens(towers[side])):
            say(line)
    return found

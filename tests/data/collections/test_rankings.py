"""What a teacher learns from: every form of file, what is joined, held out, drawn for a batch, and mined."""

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optical_jax.config import HeadConfig, RankingDataConfig
from optical_jax.data.batches.rankings import make_ranking_batches
from optical_jax.data.collections.ranking_formats import read_rankings
from optical_jax.data.collections.rankings import hold_out, load_dev, load_rankings, with_collection
from optical_jax.data.tokenization import train_vocabulary
from optical_jax.errors import ConfigError, DataError
from optical_jax.retrieval.search import Ranking
from optical_jax.training.teacher.mining import choose_negatives, scores_by_query, write_scored, write_triples

NAN = float("nan")


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def lines(*records: Any) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def said(path: Path, *, by_id: bool = False) -> list[Any]:
    """(query, [(passage, relevant, score)]) of every line; a score that is none as None."""
    return [
        (
            listed.query.id or listed.query.text,
            [
                (p.named.id or p.named.text, p.relevant, None if p.score != p.score else p.score)
                for p in listed.passages
            ],
        )
        for listed in read_rankings(path, by_id=by_id)
    ]


@pytest.mark.parametrize(
    ("name", "text", "want"),
    [
        ("beir.tsv", "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\n",
         [("q1", [("d1", True, None)]), ("q1", [("d2", False, None)])]),
        ("trec.tsv", "q1\t0\td1\t1\n", [("q1", [("d1", True, None)])]),
        ("triples.tsv", "what purrs\ta cat\ta dog\n",
         [("what purrs", [("a cat", True, None), ("a dog", False, None)])]),
        ("headed.tsv", "Query\tpositive\tnegative\nwhat purrs\ta cat\ta dog\n",
         [("what purrs", [("a cat", True, None), ("a dog", False, None)])]),
        ("capitals.tsv", "Query-ID\tCorpus-ID\tScore\nq1\td1\t2\n", [("q1", [("d1", True, None)])]),
        ("colbert.jsonl", "[7, 1, 2, 3]\n", [("7", [("1", True, None), ("2", False, None), ("3", False, None)])]),
        ("nway.jsonl", "[7, [1, 2.5], [2, -1]]\n", [("7", [("1", None, 2.5), ("2", None, -1.0)])]),
        ("pylate.jsonl", lines({"query_id": "7", "document_ids": ["1", "2"], "scores": [0.5, 1]}),
         [("7", [("1", None, 0.5), ("2", None, 1.0)])]),
        ("tevatron.jsonl", lines({"query_id": "7", "query": "what purrs",
                                  "positive_passages": [{"docid": "1", "title": "Cats", "text": "purr"}],
                                  "negative_passages": [{"docid": "2", "title": "", "text": "a dog"}]}),
         [("what purrs", [("Cats purr", True, None), ("a dog", False, None)])]),
        ("flag.jsonl", lines({"query": "what purrs", "pos": ["a cat"], "neg": ["a dog", "a cow"],
                              "pos_scores": [3], "neg_scores": [1, 0]}),
         [("what purrs", [("a cat", True, 3.0), ("a dog", False, 1.0), ("a cow", False, 0.0)])]),
        ("st.jsonl", lines({"anchor": "what purrs", "positive": "a cat", "negative_1": "a dog", "negative_2": "a cow"}),
         [("what purrs", [("a cat", True, None), ("a dog", False, None), ("a cow", False, None)])]),
        ("scored.jsonl", lines({"query": "what purrs", "passages": ["a dog", "a cat"], "scores": [-1, 4]}),
         [("what purrs", [("a dog", None, -1.0), ("a cat", None, 4.0)])]),
    ],
)  # fmt: skip
def test_forms(tmp_path, name, text, want):
    assert said(write(tmp_path / name, text)) == want


def test_triples_of_ids_and_gzip(tmp_path):
    path = tmp_path / "triples.tsv.gz"
    path.write_bytes(gzip.compress(b"q1\td1\td2\n"))
    (listed,) = read_rankings(path, by_id=True)
    assert (listed.query.id, listed.passages[1].named.id, listed.where) == ("q1", "d2", f"{path}:1")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.tsv", "", "empty file"),
        ("x.tsv", "a\tb\n", ":1: 2 columns; a line has three"),
        ("x.tsv", "a\tb\tc\na\tb\n", ":2: 2 columns, but 3 before"),
        ("x.tsv", "a\tb\t\n", ":1: column 3 is empty"),
        ("x.tsv", "q\t0\td\tyes\n", ":1: grade 'yes' is not an integer"),
        ("x.csv", "a,b,c\n", "the format is read from the name"),
        ("x.jsonl", "[1, 2]\n{\n", ":2: not JSON"),
        ("x.jsonl", "[1]\n", ":1: a list of 1"),
        ("x.jsonl", "[1, [2, 0.5], 3]\n", ":1: entry 3 is 3"),
        ("x.jsonl", "[1, [2, null]]\n", ":1: score None is not a number"),
        ("x.jsonl", lines({"pos": ["a"]}), ":1: no query"),
        ("x.jsonl", lines({"query": "a"}), ":1: no passages; the object has query"),
        ("x.jsonl", lines({"query": "a", "passages": ["b"]}), ":1: passages without scores"),
        ("x.jsonl", lines({"query": "a", "passages": ["b"], "scores": [1, 2]}), ":1: 2 scores for 1 passages"),
        ("x.jsonl", lines({"query": "a", "pos": [" "]}), ":1: pos holds ' ', which is not a text"),
        ("x.jsonl", lines({"query": "a", "pos": "b"}), ":1: pos is not a list"),
        ("x.jsonl", lines({"query": "a", "positive": "b", "negative": None}), ":1: negative holds None"),
        (
            "x.jsonl",
            lines({"query_id": "1", "document_ids": "['2']", "scores": "[1]"}),
            ":1: document_ids is not a list",
        ),
        ("x.jsonl", lines({"query": "a", "positive_passages": [{"title": 5, "text": "b"}]}), ":1: positive_passages"),
        ("x.jsonl", "[1, [2, NaN]]\n", ":1: score nan is not a number"),
        ("x.jsonl", "[1, [2, 1e39]]\n", ":1: score 1e+39 is not a number below 1e38"),
        ("x.jsonl", f"[1, [2, {10**400}]]\n", ":1: score 1000"),
        (
            "x.jsonl",
            "[1, 2]\n[1, " + "9" * 5000 + "]\n",
            ":2: not JSON that can be read (a number has too many digits)",
        ),
        ("x.jsonl", "[" * 200_000 + "\n", ":1: not JSON that can be read (brackets are nested too deep)"),
        ("x.jsonl", '{"query": "a", "pos": ["\\ud83d"]}\n', ":1: half a surrogate pair"),
        ("x.tsv", "q\t0\td\t" + "9" * 5000 + "\n", ":1: grade '999"),
        ("x.jsonl", "[1, {" + ",".join(f'"{n}": 1' for n in range(9999)) + "}]\n", ":1: {'0': 1, "),
    ],
)
def test_broken_lines_are_named(tmp_path, name, text, message):
    with pytest.raises(DataError) as caught:
        list(read_rankings(write(tmp_path / name, text), by_id=False))
    assert str(tmp_path / name) in str(caught.value)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 500


def test_lists_without_negatives_and_empty_ones_are_read(tmp_path):
    """What FlagEmbedding's and Tevatron's users have."""
    text = lines(
        {"query": "a", "pos": ["x"], "neg": []},
        {"query": "b", "pos": ["y"]},
        {"query": "c", "pos": ["z"], "neg": [], "pos_scores": None, "neg_scores": None},
        {"query": "d", "positive_passages": [], "negative_passages": [{"docid": 3, "text": "w"}]},
    )
    assert said(write(tmp_path / "x.jsonl", text)) == [
        ("a", [("x", True, None)]),
        ("b", [("y", True, None)]),
        ("c", [("z", True, None)]),
        ("d", [("w", False, None)]),
    ]


def test_bad_lines_are_left_out_up_to_a_limit(tmp_path, folder):
    """A list that is not JSON, a query and a passage that are nowhere, and a passage without text; d0 stands again."""
    triples = write(tmp_path / "mined.tsv", "q0\td0\td9\nq7\td0\td1\nq0\td0\n")
    with (folder / "corpus.jsonl").open("a") as file:
        file.write(lines({"_id": "d0", "text": "zero"}, {"_id": "d6", "text": ""}))
    cfg = replace(config(folder, triples), max_bad_lines=4)
    found = load_rankings(cfg)
    assert found.left_out == {
        "broken_training_lines": 1, "absent_query_ids": 1, "repeated_passages": 1, "passages_without_text": 1,
        "absent_passage_ids": 1,
    }  # fmt: skip
    clean = load_rankings(replace(config(folder), max_bad_lines=1))
    assert (found.queries, found.relevant.tolist()) == (clean.queries, clean.relevant.tolist())
    assert "d9" not in found.passage_ids
    assert with_collection(found, cfg).left_out == found.left_out
    flag = r"mined.tsv:3: 2 columns, but 3 before; .*; mend the line, or leave out up to N such lines with FLAG N"
    with pytest.raises(DataError, match=flag):
        load_rankings(replace(cfg, max_bad_lines=0), "FLAG")
    with pytest.raises(DataError, match=r"mined.tsv:1: passage 'd9' is not in .*\(bad line 4, max_bad_lines=3\)"):
        load_rankings(replace(cfg, max_bad_lines=3))


def test_a_tsv_collection_has_each_id_once_and_perhaps_a_header(tmp_path, folder):
    head, rows = "pid\tpassage\ttitle\n", "d0\tzero\nd1\tone\nd2\ttwo\nd3\tthree\nd4\tfour\n"
    path = write(tmp_path / "collection.tsv", head + rows + "d4\tfour\n")
    cfg = replace(config(folder), collection=str(path), queries=str(folder / "queries.en.jsonl"))
    found = with_collection(load_rankings(cfg), cfg)
    assert (found.left_out, len(found.passages)) == ({"repeated_passages": 1}, 5)
    write(path, rows + "d4\tfive\n")
    with pytest.raises(DataError, match=r"collection.tsv:6: passage 'd4' is already in line 5, with another text"):
        load_rankings(cfg)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Six passages, d5 with the text of d1; five queries."""
    path = tmp_path / "tiny"
    (path / "qrels").mkdir(parents=True)
    texts = {"d0": "zero", "d1": "one", "d2": "two", "d3": "three", "d4": "four", "d5": "one"}
    write(path / "corpus.jsonl", lines(*({"_id": d, "title": "", "text": t} for d, t in texts.items())))
    write(path / "queries.en.jsonl", lines(*({"_id": f"q{n}", "text": f"ask {n}"} for n in range(5))))
    rows = ["query-id\tcorpus-id\tscore", "q0\td0\t1", "q1\td1\t1", "q1\td2\t1", "q2\td3\t1", "q3\td4\t1", "q4\td4\t0"]
    write(path / "qrels" / "train.tsv", "\n".join(rows) + "\n")
    return path


def config(folder: Path, *more: Path) -> RankingDataConfig:
    return RankingDataConfig(
        train=(str(folder / "qrels" / "train.tsv"), *map(str, more)), collection=str(folder), global_batch=2, passages=3
    )


def test_files_are_joined_by_text(tmp_path, folder):
    """d5 is d1: a triple that calls it a negative of q1 is outweighed. q4 has nothing relevant, and is left out."""
    triples = write(tmp_path / "mined.tsv", "q0\td0\td1\nq0\td0\td3\nq1\td1\td5\n")
    found = load_rankings(config(folder, triples))
    assert found.queries == ["ask 0", "ask 1", "ask 2", "ask 3"]
    texts = [[found.passages[n] for n in numbers] for numbers in found.candidates]
    assert texts == [["zero", "one", "three"], ["one", "two"], ["three"], ["four"]]
    assert found.relevant.tolist() == [1, 2, 1, 1]
    assert (found.unjudged, found.query_ids[0], found.passage_ids[0]) == (1, "q0", "d0")
    assert found.pairs().tolist() == [[0, 0], [1, 1], [1, 3], [2, 2], [3, 4]]
    assert {Path(path).name for path in found.files} == {"train.tsv", "mined.tsv", "corpus.jsonl", "queries.en.jsonl"}


def test_the_best_scored_passage_is_relevant_where_nothing_says_better(tmp_path):
    text = lines({"query": "a", "passages": ["x", "y", "z"], "scores": [1, 3, 2]})
    found = load_rankings(RankingDataConfig(train=(str(write(tmp_path / "a.jsonl", text)),)))
    assert [found.passages[n] for n in found.candidates[0]] == ["y", "x", "z"]
    assert found.scores[0].tolist() == [3.0, 1.0, 2.0]
    judged = write(tmp_path / "b.jsonl", lines({"query": "a", "pos": ["x"], "neg": []}))
    found = load_rankings(RankingDataConfig(train=(str(tmp_path / "a.jsonl"), str(judged))))
    assert found.passages[found.candidates[0][0]] == "x"


def test_ids_that_lead_nowhere_and_collections_that_are_not_named(tmp_path, folder):
    triples = write(tmp_path / "mined.tsv", "q0\td0\td1\nq0\td0\td9\n")
    with pytest.raises(DataError, match=r"mined.tsv:2: passage 'd9' is not in .*corpus.jsonl"):
        load_rankings(config(folder, triples))
    with pytest.raises(ConfigError, match=r"data.queries is empty, and .*train.tsv:2 names queries by id"):
        load_rankings(replace(config(folder), collection=""))
    collection = write(tmp_path / "collection.tsv", "d0\tzero\nd1\tone\nd2\ttwo\nd3\tthree\nd4\tfour\n")
    queries = write(tmp_path / "queries.tsv", "".join(f"q{n}\task {n}\n" for n in range(5)))
    by_tsv = load_rankings(replace(config(folder), collection=str(collection), queries=str(queries)))
    assert by_tsv.passages == load_rankings(config(folder)).passages
    write(collection, "d0 zero\n")
    with pytest.raises(DataError, match=r"collection.tsv:1: not a passage"):
        load_rankings(replace(config(folder), collection=str(collection), queries=str(queries)))


def test_what_is_held_out_is_neither_asked_nor_a_negative(tmp_path, folder):
    every = [f"q{n}\td{d}\td{m}" for n, d in ((0, 0), (1, 1), (2, 3), (3, 4)) for m in range(5) if m != d]
    triples = write(tmp_path / "mined.tsv", "\n".join(every) + "\n")
    cfg = replace(config(folder, triples), hold_out=0.5)
    found = load_rankings(cfg)
    train, dev = hold_out(found, cfg)
    assert dev is not None
    assert len(train.queries) == len(dev.queries) == 2
    assert not set(train.queries) & set(dev.queries.values())
    held = {dev.documents[d] for grades in dev.qrels.values() for d in grades}
    others = {
        train.passages[n]
        for numbers, count in zip(train.candidates, train.relevant, strict=True)
        for n in numbers[count:].tolist()
    }
    assert others
    assert not held & others
    again, _ = hold_out(load_rankings(replace(cfg, train=cfg.train[::-1])), cfg)
    assert set(again.queries) == set(train.queries)
    assert hold_out(found, replace(cfg, hold_out=0.0))[1] is None
    few = hold_out(found, replace(cfg, dev_documents=1))[1]
    assert few is not None
    assert set(few.documents.values()) == held


def test_a_dev_folder_is_cut_to_size(folder):
    dev, files = load_dev(
        RankingDataConfig(dev=str(folder), dev_split="train", dev_queries=2, dev_documents=3, language="en")
    )
    assert (len(dev.queries), len(dev.documents)) == (2, 3)
    assert all(d in dev.documents for grades in dev.qrels.values() for d in grades)
    assert str(folder / "corpus.jsonl") in files


# ---- batches -----------------------------------------------------------------------------------------------------


@pytest.fixture
def batches(tmp_path, folder):
    """A function: the batches and what makes them, of q0 with two negatives and the others with none."""
    triples = write(tmp_path / "mined.tsv", "q0\td0\td1\nq0\td0\td3\n")
    rankings = load_rankings(config(folder, triples))
    tokenizer = train_vocabulary([*rankings.queries, *rankings.passages], 80)

    def make(seed: int = 0, **more: Any):
        return make_ranking_batches(rankings, tokenizer, HeadConfig(), config(folder, triples), seed, **more)

    return make


def test_an_epoch_holds_every_pair_once_and_fills_up_with_the_next(batches):
    _, source = batches()
    assert source.batches == 3
    seen = [(int(q), int(p[0])) for i in range(5) for q, p in zip(*source.texts_of(i), strict=True)]
    assert sorted(seen[:5]) == sorted(map(tuple, source.pairs.tolist())) == sorted(seen[5:])
    assert seen[:5] != seen[5:]


def test_negatives_are_drawn_from_a_querys_own_and_marked(batches):
    """Passages: zero 0, one 1, three 2, two 3, four 4. Where there are no negatives the relevant one stands again."""
    _, source = batches()
    for index in range(3):
        queries, passages = source.texts_of(index)
        marks = source.marks(queries, passages)
        flat = passages.ravel().tolist()
        assert np.asarray(marks.first).ravel().tolist() == [p not in flat[:n] for n, p in enumerate(flat)]
        for q, row, relevant in zip(queries.tolist(), passages.tolist(), np.asarray(marks.relevant), strict=True):
            assert sorted(row[1:]) == ([1, 2] if q == 0 else [row[0]] * 2)
            assert relevant.tolist() == ([1, 3] if q == 1 else [row[0], -1])
        assert np.isnan(marks.scores).all()


def test_a_restored_position_repeats_and_two_processes_share_the_rows(batches):
    whole, _ = batches(shards=2)
    first = [next(whole) for _ in range(4)]
    again, _ = batches(shards=2)
    for _ in range(2):
        next(again)
    third, _ = batches(shards=2)
    third.restore(again.state())
    np.testing.assert_array_equal(next(third).passages.ids, first[2].passages.ids)
    halves = [batches(shards=2, process_index=i, process_count=2)[0] for i in (0, 1)]
    parts = [next(half) for half in halves]
    for name in ("passage_ids", "first", "relevant"):
        whole_rows = getattr(first[0].marks, name)
        np.testing.assert_array_equal(np.concatenate([getattr(p.marks, name) for p in parts]), whole_rows)
    joined = np.concatenate([np.asarray(p.passages.ids) for p in parts])
    np.testing.assert_array_equal(joined, first[0].passages.ids)
    with pytest.raises(ConfigError, match="other pairs, seed"):
        batches(seed=1)[0].restore(again.state())


# ---- mining ------------------------------------------------------------------------------------------------------


def test_negatives_come_from_the_ranks_asked_for_and_judged_passages_are_skipped(tmp_path, folder):
    """Rank 1 is left out by the depth, what is relevant by its judgement; -1 is where a ranking ends."""
    rankings = load_rankings(config(folder))
    found = np.array([[4, 0, 1, 2], [1, 2, 3, 0], [0, 1, 2, 3], [0, 1, -1, -1]], np.int32)
    ranking = Ranking(found, np.array([[4.0, 3.0, 2.0, 1.0]] * 3 + [[4.0, 3.0, -np.inf, -np.inf]], np.float32))
    mined = list(choose_negatives(rankings, ranking, depth=(2, 4), count=5, seed=0))
    assert [one.negatives for one in mined] == [[1, 2], [3, 0], [1, 2], [1]]
    assert [one.relevant for one in mined] == [[0], [1, 2], [3], [4]]
    drawn = [
        [one.negatives for one in choose_negatives(rankings, ranking, depth=(1, 4), count=1, seed=seed)]
        for seed in (0, 0, 1, 2, 3)
    ]
    assert drawn[0] == drawn[1]
    assert len({str(one) for one in drawn}) > 1

    assert write_triples(tmp_path / "t.tsv", rankings, mined) == 7
    written = (tmp_path / "t.tsv").read_text().splitlines()
    assert written[:4] == ["q0\td0\td1", "q0\td0\td2", "q1\td1\td3", "q1\td2\td0"]
    both = load_rankings(config(folder, tmp_path / "t.tsv"))
    assert [len(c) - r for c, r in zip(both.candidates, both.relevant.tolist(), strict=True)] == [2, 2, 2, 1]

    assert write_scored(tmp_path / "t.jsonl", rankings, mined, scores_by_query(ranking)) == 4
    record = json.loads((tmp_path / "t.jsonl").read_text().splitlines()[0])
    assert record == {"query_id": "q0", "document_ids": ["d0", "d1", "d2"], "scores": [3.0, 2.0, 1.0]}

    without_ids = replace(rankings, query_ids=[""] * len(rankings.queries))
    assert write_scored(tmp_path / "t.jsonl", without_ids, mined, scores_by_query(ranking)) == 4
    record = json.loads((tmp_path / "t.jsonl").read_text().splitlines()[0])
    assert record == {
        "query": "ask 0", "pos": ["zero"], "pos_scores": [3.0], "neg": ["one", "two"], "neg_scores": [2.0, 1.0]
    }  # fmt: skip
    # Not found by the ranking: the lowest score there is.
    assert json.loads((tmp_path / "t.jsonl").read_text().splitlines()[3])["pos_scores"] == [3.0]
    assert load_rankings(RankingDataConfig(train=(str(tmp_path / "t.jsonl"),))).has_scores()


def test_scores_of_english_queries_teach_their_translations(tmp_path):
    """What a model scored by ids in English is read with the queries of another language under the same ids."""
    folder = tmp_path / "c"
    (folder / "qrels").mkdir(parents=True)
    (folder / "corpus.jsonl").write_text('{"_id": "d", "text": "a cat"}\n{"_id": "e", "text": "a dog"}\n')
    (folder / "queries.en.jsonl").write_text('{"_id": "q", "text": "what purrs"}\n')
    (folder / "queries.sw.jsonl").write_text('{"_id": "q", "text": "nani hukoroma"}\n')
    (folder / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\nq\td\t1\n")
    files = (str(folder / "qrels" / "train.tsv"), str(tmp_path / "scored.jsonl"))
    (tmp_path / "scored.jsonl").write_text('{"query_id": "q", "document_ids": ["e", "d"], "scores": [2.5, 1.5]}\n')
    found = load_rankings(RankingDataConfig(train=files, collection=str(folder), language="sw"))
    assert found.queries == ["nani hukoroma"]
    assert [found.passages[n] for n in found.candidates[0]] == ["a cat", "a dog"]
    np.testing.assert_allclose(found.scores[0], [1.5, 2.5])

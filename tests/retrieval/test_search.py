"""Search against sorting everything, ties, run files, and BM25."""

import doctest
from contextlib import nullcontext

import jax
import numpy as np
import pytest

from optical_jax.config import MeshConfig
from optical_jax.data.text import folding
from optical_jax.data.text.folding import words
from optical_jax.errors import ConfigError
from optical_jax.partitioning import make_mesh
from optical_jax.retrieval import blocks, search
from optical_jax.retrieval.blocks import Block
from optical_jax.retrieval.bm25 import make_bm25
from optical_jax.retrieval.metrics import evaluate_run
from optical_jax.retrieval.search import Ranking, TopDocuments, encode_blocks, ranks_of_ids, write_trec_run
from optical_jax.types import TokenVectors

WIDTH = 8


def encode(texts):
    """A stand-in for a tower: each word is a vector of its own; every second word gives none.

    Coordinates are multiples of 1/4, so that scores are exact in any order of summing, and often tie.
    """
    longest = max(len(text.split()) for text in texts)
    vectors, mask = np.zeros((len(texts), longest, WIDTH), np.float32), np.zeros((len(texts), longest), bool)
    for row, text in enumerate(texts):
        for place, word in enumerate(text.split()):
            vectors[row, place] = np.random.default_rng(list(word.encode())).integers(-4, 5, WIDTH) / 4
            mask[row, place] = place % 2 == 0
    return TokenVectors(vectors=vectors * mask[:, :, None], mask=mask)


def some_texts(count: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(f"w{n}" for n in rng.integers(0, 30, rng.integers(1, 25))) for _ in range(count)]


def by_sorting(queries, documents):
    """Every score, a pair at a time; then Python's sort by score and id, both descending."""
    ids, runs = list(documents), []
    q, d = encode(queries), encode(list(documents.values()))
    for b in range(len(queries)):
        scores = [
            (q.vectors[b][q.mask[b]].astype(np.float64) @ d.vectors[n][d.mask[n]].T.astype(np.float64))
            .max(axis=1)
            .sum()
            for n in range(len(ids))
        ]
        runs.append(sorted(zip(scores, ids, strict=True), reverse=True))
    return runs


@pytest.mark.parametrize("depth", [5, 1000])
def test_equals_sorting_all_scores(monkeypatch, depth):
    monkeypatch.setattr(search, "WINDOW_TEXTS", 16)
    queries, documents = some_texts(20, seed=0), {f"d{n}": t for n, t in enumerate(some_texts(70, seed=1))}
    seen = []
    blocks = {"one": list(encode_blocks(queries, encode)), "two": list(encode_blocks(queries[:3], encode))}
    found = search.search(blocks, documents, encode, depth=depth, advance=seen.append)
    assert sum(seen) == 70
    ids = list(documents)
    for b, expected in enumerate(by_sorting(queries, documents)):
        assert found["one"].scores[b].tolist() == [score for score, _ in expected[:depth]]
        assert [ids[n] for n in found["one"].documents[b]] == [name for _, name in expected[:depth]]
    np.testing.assert_array_equal(found["two"].documents, found["one"].documents[:3])
    np.testing.assert_array_equal(found["two"].scores, found["one"].scores[:3])


def test_accelerators_encode_more_at_a_time(monkeypatch):
    """A CPU 16 texts; elsewhere 4 times as many for each of 2 parts of a batch."""
    monkeypatch.setattr(search, "WINDOW_TEXTS", 16)
    seen = []
    with jax.set_mesh(make_mesh(MeshConfig(tensor=4))):
        list(encode_blocks(["w1"] * 200, encode, seen.append))
        assert set(seen) == {16, 200 % 16}
        monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
        seen.clear()
        list(encode_blocks(["w1"] * 200, encode, seen.append))
    assert seen == [128, 72]


@pytest.mark.parametrize("mesh", [None, MeshConfig(), MeshConfig(data=2, fsdp=2, tensor=2)])
@pytest.mark.parametrize("depth", [3, 9, 1000])
def test_many_devices_rank_as_sorting_does(monkeypatch, depth, mesh):
    """Scores tie often: what a device keeps of its part is by score and id too. 70 documents do not divide by 8."""
    monkeypatch.setattr(blocks, "BLOCK_TOKENS", {"cpu": 300, "other": 300})
    monkeypatch.setattr(blocks, "CHUNK_TOKENS", 64)
    queries, documents = some_texts(20, seed=4), {f"d{n}": t for n, t in enumerate(some_texts(70, seed=5))}
    with jax.set_mesh(make_mesh(mesh)) if mesh else nullcontext():
        found = search.search({0: list(encode_blocks(queries, encode))}, documents, encode, depth=depth)[0]
    ids = list(documents)
    for b, expected in enumerate(by_sorting(queries, documents)):
        assert found.scores[b].tolist() == [score for score, _ in expected[:depth]]
        assert [ids[n] for n in found.documents[b]] == [name for _, name in expected[:depth]]


def test_widths_must_agree():
    query = Block(np.arange(1), TokenVectors(vectors=np.ones((1, 1, 4), np.float32), mask=np.ones((1, 1), bool)))
    with pytest.raises(ConfigError, match="width 4 and documents of width 8"):
        search.search({0: [query]}, {"d": "w1"}, encode)


@pytest.mark.parametrize("fsdp", [1, 4])
def test_devices_keep_the_best_of_many_blocks(monkeypatch, fsdp):
    """As many documents wanted as a block has, a device's part being an eighth of it, and twenty times as many in all.

    Documents come in an order that is not that of their ids, and their scores are of 2 kinds: a device sees some 80 of
    the better.
    """
    rng = np.random.default_rng(0)
    monkeypatch.setattr(blocks, "BLOCK_TOKENS", {"cpu": 64, "other": 64})
    vectors = rng.integers(0, 2, (1280, 1, WIDTH)).astype(np.float32) * (np.arange(WIDTH) == 0)
    documents = [Block(n, TokenVectors(vectors[n], np.ones((64, 1), bool))) for n in np.arange(1280).reshape(20, 64)]
    query = Block(np.arange(2), TokenVectors(np.eye(WIDTH, dtype=np.float32)[[[0], [0]]], np.ones((2, 1), bool)))
    ids, fetched = [f"d{n}" for n in rng.permutation(1280)], []
    add = TopDocuments.add
    monkeypatch.setattr(TopDocuments, "add", lambda *given: fetched.append(given[3].shape) or add(*given))
    with jax.set_mesh(make_mesh(MeshConfig(fsdp=fsdp))):
        found = search.rank({0: [query]}, ids, documents, depth=64)[0]
    assert fetched == [(2, 8 * 64)]  # once, and no more than the best of every device
    best = sorted(zip(vectors[:, 0, 0].tolist(), ids, strict=True), reverse=True)[:64]
    for row, scores in zip(found.documents, found.scores, strict=True):
        assert [(score, ids[n]) for n, score in zip(row, scores.tolist(), strict=True)] == best


def test_broken_weights_are_found_on_many_devices():
    vectors = np.ones((16, 1, WIDTH), np.float32)
    vectors[3] = np.nan
    broken = Block(np.arange(16), TokenVectors(vectors, np.ones((16, 1), bool)))
    query = Block(np.arange(1), TokenVectors(np.ones((1, 1, WIDTH), np.float32), np.ones((1, 1), bool)))
    with jax.set_mesh(make_mesh(MeshConfig())), pytest.raises(ConfigError, match="NaN"):
        search.rank({0: [query]}, [f"d{n}" for n in range(16)], [broken], depth=2)


@pytest.mark.parametrize("length", [1, 4, 5, 63, 64, 65, 129, 500, 513])
def test_blocks_are_hardly_longer_than_their_texts(length):
    padded = blocks.blocked_length(length)
    assert length <= padded <= max(length + 3, length * 9 / 8)
    assert len({blocks.blocked_length(n) for n in range(1, 513)}) == 40


def test_accelerators_compile_few_blocks(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert [blocks.blocked_length(n) for n in (1, 9, 65, 300)] == [8, 16, 96, 384]
    assert len({blocks.blocked_length(n) for n in range(1, 513)}) == 12


@pytest.mark.parametrize("pieces", [1, 2, 5])
def test_ties_stand_by_id_descending_however_scores_arrive(pieces):
    """Ids are compared as strings ("d9" after "d10"), also where the ranking is cut; -0.0 ties with 0.0."""
    ids = ["d10", "d9", "d1", "é", "D"]
    scores = np.array([[0.0, -0.0, 1.0, -1.0, -1.0]], np.float32)
    top = TopDocuments(1, ranks_of_ids(ids), depth=4)
    for piece in np.array_split(np.arange(5), pieces):
        top.add(np.array([0]), piece, scores[:, piece])
    ranking = top.ranking()
    assert [ids[n] for n in ranking.documents[0]] == ["d1", "d9", "d10", "é"]
    assert ranking.scores[0].tolist() == [1.0, 0.0, 0.0, -1.0]


def test_what_is_kept_does_not_depend_on_the_pieces():
    """200 documents of four scores each, in pieces of any size: the best 30 by score and id."""
    rng = np.random.default_rng(0)
    scores, ids = rng.integers(0, 4, (3, 200)).astype(np.float32), [f"d{n:03d}" for n in rng.permutation(200)]
    for cuts in ([], [1, 2, 100], sorted(rng.integers(1, 199, 20).tolist())):
        top = TopDocuments(3, ranks_of_ids(ids), depth=30)
        for piece in np.split(np.arange(200), cuts):
            top.add(np.arange(3), piece, scores[:, piece])
        for row, found in enumerate(top.ranking().documents):
            best = sorted(zip(scores[row].tolist(), ids, strict=True), reverse=True)[:30]
            assert [ids[n] for n in found] == [name for _, name in best]


def test_scores_survive_to_the_last_bit():
    scores = np.random.default_rng(0).standard_normal((3, 40)).astype(np.float32) * 1e3
    top = TopDocuments(3, np.arange(40))
    top.add(np.arange(3), np.arange(40), scores)
    np.testing.assert_array_equal(top.ranking().scores, -np.sort(-scores, axis=1))


def test_documents_without_score_are_not_found():
    top = TopDocuments(2, np.arange(2))
    top.add(np.array([1]), np.array([0, 1]), np.array([[-np.inf, 2.0]], np.float32))
    ranking = top.ranking()
    assert ranking.documents.tolist() == [[-1, -1], [1, -1]]
    assert ranking.as_run(["q1", "q2"], ["a", "b"]) == {"q1": {}, "q2": {"b": 2.0}}


def test_a_query_is_left_out_of_its_own_ranking():
    """By hand: q2 is found second and d1 moves up; q9 is no document; p is one, but is not to be left out."""
    ranking = Ranking(
        np.array([[0, 2, 1], [2, 1, -1], [3, 0, 1]], np.int32),
        np.array([[3, 2, 1], [5, 4, -np.inf], [9, 8, 7]], np.float32),
    )
    found = ranking.without_own(["q2", "q9", "p"], ["d0", "d1", "q2", "p"], {"q2"})
    np.testing.assert_array_equal(found.documents, [[0, 1, -1], [2, 1, -1], [3, 0, 1]])
    np.testing.assert_array_equal(found.scores, np.float32([[3, 1, -np.inf], [5, 4, -np.inf], [9, 8, 7]]))
    assert ranking.without_own(["q2", "q9", "p"], ["d0", "d1", "q2", "p"], set()) is ranking


def test_nan_is_an_error():
    with pytest.raises(ConfigError, match="NaN"):
        TopDocuments(1, np.arange(1)).add(np.array([0]), np.array([0]), np.array([[np.nan]], np.float32))


def test_run_file_reads_back_to_the_same_figures(tmp_path):
    import ir_measures

    queries, documents = some_texts(12, seed=2), {f"d{n}": t for n, t in enumerate(some_texts(40, seed=3))}
    ranking = search.search({0: list(encode_blocks(queries, encode))}, documents, encode)[0]
    query_ids, ids = [f"q{i}" for i in range(12)], list(documents)
    write_trec_run(tmp_path / "run.trec", ranking, query_ids, ids, tag="x")
    lines = [line.split(" ") for line in (tmp_path / "run.trec").read_text("utf-8").splitlines()]
    assert [line[1:4:2] + line[5:] for line in lines[:40]] == [["Q0", str(rank), "x"] for rank in range(1, 41)]
    np.testing.assert_array_equal(np.float32([line[4] for line in lines]), ranking.scores.ravel())
    qrels = {q: {f"d{3 * i}": 1} for i, q in enumerate(query_ids)}
    read = list(ir_measures.read_trec_run(str(tmp_path / "run.trec")))
    expected = ir_measures.calc_aggregate([ir_measures.AP], qrels, read)[ir_measures.AP]
    ours = evaluate_run(ranking.as_run(query_ids, ids), qrels)
    assert np.mean([figures["AP"] for figures in ours.values()]) == pytest.approx(expected)


def test_words():
    assert doctest.testmod(folding, raise_on_error=True).attempted > 0
    # Decomposed marks, Devanagari vowel signs and full-width digits stay inside their words.
    assert words("cafe\u0301 हिन्दी \uff11\uff12_x") == ["café", "हिन्दी", "12", "x"]


def test_bm25_by_hand():
    """Lucene's formula: idf ln(1 + (N - df + 0.5) / (df + 0.5)), tf / (tf + k1 (1 - b + b length / average))."""
    ranking = make_bm25({"a": "cat cat dog", "b": "dog", "c": "bird."})(["CAT dog", "?", "fish"])
    average, lengths = 5 / 3, {"a": 3, "b": 1}

    def score(tf: int, df: int, document: str) -> float:
        length = 1 - 0.75 + 0.75 * lengths[document] / average
        return np.log(1 + (3 - df + 0.5) / (df + 0.5)) * tf / (tf + 1.5 * length)

    expected = {"a": score(2, 1, "a") + score(1, 2, "a"), "b": score(1, 2, "b")}
    run = ranking.as_run(["q1", "q2", "q3"], ["a", "b", "c"])
    assert run["q1"] == pytest.approx(expected, rel=1e-5)
    assert run["q2"] == run["q3"] == {}


def test_bm25_where_no_document_has_a_word():
    assert make_bm25({"a": "?!"})(["cat"]).documents.tolist() == [[-1]]

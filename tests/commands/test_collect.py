"""`python -m optical_jax collect`: what it writes in BEIR's form reads back as the source it was made from."""

import json

import pytest

from optical_jax.data.collections.collection import Collection, read_collection
from optical_jax.data.collections.sources import read_source
from optical_jax.data.files.records import BadLines
from tests.helpers.source_folders import CASES, MIRACL, MIRACL_CORPUS, MIRACL_QRELS, MMARCO, jsonl, put


def same(a: Collection, b: Collection) -> bool:
    return (a.documents, a.queries, a.qrels, a.document_language) == (
        b.documents,
        b.queries,
        b.qrels,
        b.document_language,
    )


@pytest.fixture
def quick_collect(capsys):
    """The command in this process."""
    from optical_jax.commands.collect import main

    def call(*words: str) -> tuple[int, str, str]:
        code = main(list(words))
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


@pytest.mark.parametrize("case", CASES, ids=[f"{case[0]} {case[1]} {case[2]}" for case in CASES])
def test_what_collect_writes_reads_back_as_the_source(tmp_path, case, quick_collect):
    spec, split, languages, files, _ = case
    put(tmp_path / "raw", files)
    spec, out = spec.format(tmp_path / "raw"), tmp_path / "out"
    flags = ["--lang", *languages] if languages else []
    code, printed, _ = quick_collect("--collection", spec, "--split", split, "--out", str(out), *flags)
    assert code == 0
    assert printed.endswith(f"collection: {out}\n")
    source = read_source(spec, split, languages)
    assert same(read_collection(out, split, list(source.queries)), source)
    assert json.loads((out / "collection.json").read_text("utf-8"))["source"] == spec
    assert not (tmp_path / "out.unfinished").exists()


def test_several_splits_and_triples(tmp_path, quick_collect):
    """What a retriever is trained on: judged queries of both splits, English beside them, and the triples by id."""
    put(tmp_path / "raw", MMARCO)
    out, spec = tmp_path / "pt", f"mmarco/pt:{tmp_path / 'raw'}"
    words = ["--collection", spec, "--lang", "pt", "--out", str(out), "--split", "train", "dev.small"]
    code, printed, _ = quick_collect(*words)
    assert code == 0
    assert (out / "triples.train.tsv").read_text("utf-8") == "3\t1\t0\n"
    assert f"1 triples: {out / 'triples.train.tsv'}" in printed
    queries = {"3": "o que cai", "7": "quem dorme"}
    assert {
        r["_id"]: r["text"] for r in map(json.loads, (out / "queries.pt.jsonl").read_text("utf-8").splitlines())
    } == queries
    assert sorted(p.name for p in (out / "qrels").iterdir()) == ["dev.small.tsv", "train.tsv"]
    code, _, told = quick_collect(*words)
    assert (code, told.count("\n")) == (2, 1)
    assert "already exists" in told


def test_bad_lines_are_left_out_up_to_a_number(tmp_path, quick_collect):
    corpus = jsonl({"docid": "2#0", "title": "", "text": " "})
    put(tmp_path / "raw", MIRACL | {MIRACL_CORPUS: corpus, MIRACL_QRELS: "5#0 Q0 1#0 1\n5#0 Q0 9#0 1\n"})
    words = ["--collection", f"miracl/sw:{tmp_path / 'raw'}", "--out", str(tmp_path / "out"), "--max-bad-lines"]
    code, _, told = quick_collect(*words, "1")
    assert code == 3
    assert "sw-dev.tsv:2: document '9#0' is not in the corpus (bad line 2, max_bad_lines=1)" in told
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]
    code, printed, _ = quick_collect(*words, "2")
    assert code == 0
    assert "left out: 2 lines, such as " in printed
    assert read_collection(tmp_path / "out", languages=["sw"]).qrels == {"5#0": {"1#0": 1}}
    # eval.py reads the source as it reads the folder.
    source = read_source(words[1], "dev", ["sw"], bad=BadLines(2))
    assert same(read_collection(tmp_path / "out", "dev", ["sw"]), source)


def test_repeats_and_two_texts_of_a_public_set(tmp_path, quick_collect):
    """As MIRACL's Korean part: a passage and a judgement again, word for word, without any flag; with another text or
    grade the error names both places, and --max-bad-lines leaves the later one out."""
    cat = {"docid": "1#0", "title": "Paka", "text": "Paka analala."}
    again = MIRACL | {MIRACL_CORPUS: jsonl({"docid": "2#0", "text": "Mvua."}, cat)}
    again |= {MIRACL_QRELS: "5#0 Q0 1#0 1\n5#0 Q0 2#0 0\n5#0 Q0 1#0 1\n7#0 Q0 1#0 1\n"}
    put(tmp_path / "raw", again)
    spec, out = f"miracl/sw:{tmp_path / 'raw'}", tmp_path / "out"
    code, printed, _ = quick_collect("--collection", spec, "--out", str(out))
    assert code == 0
    expected = {"repeated_documents": 1, "repeated_judgements": 1, "judged_queries_without_text": 1}
    assert json.loads((out / "collection.json").read_text("utf-8"))["left_out"] == expected
    words = "repeated documents 1, repeated judgements 1, judged queries without text 1"
    assert f"left out, by reason: {words}\n" in printed
    assert read_collection(out, languages=["sw"]).qrels == {"5#0": {"1#0": 1, "2#0": 0}}

    put(tmp_path / "raw", {MIRACL_CORPUS: jsonl({"docid": "2#0", "text": "Mvua."}, cat | {"text": "Analia."})})
    code, _, told = quick_collect("--collection", spec, "--out", str(tmp_path / "b"))
    assert (code, told.count("\n")) == (3, 1)
    assert f"docs-1.jsonl.gz:2: document '1#0' is already in line 1 of {tmp_path / 'raw'}" in told
    assert told.endswith("with another text; mend the line, or leave out up to N such lines with --max-bad-lines N\n")
    code, printed, _ = quick_collect("--collection", spec, "--out", str(tmp_path / "b"), "--max-bad-lines", "1")
    assert code == 0
    assert read_collection(tmp_path / "b", languages=["sw"]).documents["1#0"] == "Paka Paka analala."


def test_a_bad_line_of_queries_that_two_splits_share_counts_once(tmp_path, quick_collect):
    folder = tmp_path / "raw"
    judged = {f"qrels/{split}.tsv": "query-id\tcorpus-id\tscore\nq1\td1\t1\n" for split in ("train", "dev")}
    queries = jsonl({"_id": "q1", "text": "paka"}, {"_id": "q2", "text": ""}, {"_id": "q1", "text": "paka"})
    put(folder, {"corpus.jsonl": jsonl({"_id": "d1", "text": "Cats."}), "queries.sw.jsonl": queries} | judged)
    words = ["--collection", str(folder), "--split", "train", "dev", "--out", str(tmp_path / "out")]
    code, _, told = quick_collect(*words)
    assert (code, "queries.sw.jsonl:2: query 'q2' has no text" in told) == (3, True)
    code, printed, _ = quick_collect(*words, "--max-bad-lines", "1")
    assert code == 0
    assert "left out, by reason: queries without text 1, repeated queries 1\n" in printed

"""Reading BEIR folders, and every way in which one can be broken."""

import gzip
import json
from pathlib import Path

import pytest

from optical_jax.data.collections.collection import own_documents, read_collection
from optical_jax.data.files.records import BadLines
from optical_jax.errors import ConfigError, DataError


def jsonl(*records: dict) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


QRELS = "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\nq2\td2\t1\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two documents; q1 and q2 are judged, q3 is not; Swahili has both, Somali q2 and q3 alone, Hausa only q3."""
    path = tmp_path / "tiny"
    (path / "qrels").mkdir(parents=True)
    (path / "corpus.jsonl").write_text(
        jsonl({"_id": "d1", "title": "Cats", "text": "Cats purr."}, {"_id": "d2", "title": "", "text": "Dogs bark."}),
        "utf-8",
    )
    texts = {"q1": "paka", "q2": "mbwa", "q3": "ndege"}
    for language, ids in {"sw": ["q1", "q2", "q3"], "so": ["q2", "q3"], "ha": ["q3"]}.items():
        data = jsonl(*({"_id": q, "text": texts[q]} for q in ids)).encode()
        (path / f"queries.{language}.jsonl.gz").write_bytes(gzip.compress(data))
    (path / "qrels" / "dev.tsv").write_text(QRELS, "utf-8")
    return path


def test_takes_what_is_judged(folder):
    collection = read_collection(folder)
    assert (collection.name, collection.split) == ("tiny", "dev")
    assert collection.documents == {"d1": "Cats Cats purr.", "d2": "Dogs bark."}
    assert collection.queries == {"so": {"q2": "mbwa"}, "sw": {"q1": "paka", "q2": "mbwa"}}
    assert collection.qrels == {"q1": {"d1": 2, "d2": 0}, "q2": {"d2": 1}}
    assert collection.english == {}


def test_qrels_hold_all_languages_and_only_those_asked_for_are_kept(folder):
    assert read_collection(folder, languages=["so"]).qrels == {"q2": {"d2": 1}}


def test_one_file_of_queries_is_named_by_lang(folder):
    for path in folder.glob("queries.*"):
        path.unlink()
    (folder / "queries.jsonl").write_text(jsonl({"_id": "q1", "text": "paka"}), "utf-8")
    assert read_collection(folder, languages=["sw"]).queries == {"sw": {"q1": "paka"}}
    with pytest.raises(ConfigError, match="--lang sw"):
        read_collection(folder)


def test_parallel_means_one_relevant_document_of_the_same_id(folder):
    assert not read_collection(folder).is_parallel("sw")
    (folder / "corpus.jsonl").write_text(jsonl({"_id": "q1", "text": "Cats."}, {"_id": "q2", "text": "Dogs."}), "utf-8")
    (folder / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\nq1\tq1\t1\nq2\tq2\t1\n", "utf-8")
    assert read_collection(folder).is_parallel("sw")
    (folder / "queries.en.jsonl").write_text(jsonl({"_id": "q1", "text": "cat"}), "utf-8")
    with_english = read_collection(folder, languages=["sw"])
    assert with_english.english == {"q1": "cat"}
    assert not with_english.is_parallel("sw")


def broken(name: str, content: str | bytes, message: str, error: type = DataError):
    return pytest.param(name, content, message, error, id=message)


@pytest.mark.parametrize(
    ("name", "content", "message", "error"),
    [
        broken("corpus.jsonl", "", "corpus.jsonl: empty file"),
        broken("corpus.jsonl", "\n", "corpus.jsonl is empty"),
        broken("corpus.jsonl", '{"_id": "d1", "text": "a"}\n{"_id": "d2", ', r"corpus.jsonl:2: not JSON"),
        broken("corpus.jsonl", '\n{"_id": "d1"}\n', r"corpus.jsonl:2: not a document"),
        broken("corpus.jsonl", '["d1"]\n', r"corpus.jsonl:1: not a document"),
        broken("corpus.jsonl", '{"_id": "d 1", "text": "a"}\n', r"corpus.jsonl:1: _id 'd 1'"),
        broken(
            "corpus.jsonl", '{"_id": "d1", "title": "", "text": " "}\n', r"corpus.jsonl:1: document 'd1' has no text"
        ),
        broken("corpus.jsonl", b'{"_id": "d1", "text": "\xff"}\n', r"corpus.jsonl:1: not UTF-8"),
        broken(
            "corpus.jsonl",
            jsonl({"_id": "d1", "text": "a"}, {"_id": "d1", "text": "b"}),
            r"corpus.jsonl:2: document 'd1' is already in line 1, with another text",
        ),
        broken("corpus.jsonl", jsonl({"_id": "d1", "text": "a"}), r"dev.tsv:3: document 'd2' is not in the corpus"),
        broken("queries.sw.jsonl.gz", gzip.compress(b"x" * 100)[:-9], "broken gzip"),
        broken("queries.sw.jsonl.gz", gzip.compress(b""), "queries.sw.jsonl.gz: empty file"),
        broken("qrels/dev.tsv", "", "dev.tsv: empty file"),
        broken("qrels/dev.tsv", "query-id\tcorpus-id\tscore\n", "dev.tsv is empty"),
        broken("qrels/dev.tsv", "q1\td1\t1\n", "dev.tsv:1: a judgement in place of the header"),
        broken("qrels/dev.tsv", QRELS + "q3\td1\n", "dev.tsv:5: 2 columns"),
        broken("qrels/dev.tsv", QRELS + "q3\td1\t0.5\n", "dev.tsv:5: grade '0.5' is not an integer"),
        broken("qrels/dev.tsv", QRELS + "q1\td1\t1\n", "dev.tsv:5: .* judged twice"),
        broken("qrels/dev.tsv", "query-id\tcorpus-id\tscore\nq9\td1\t1\n", "no query of language sw .*dev.tsv"),
        broken("qrels/dev.tsv", "query-id\tcorpus-id\tscore\nq1\td1\t0\n", "no query of language sw .*dev.tsv"),
    ],
)
def test_broken_collections(folder, name, content, message, error):
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(error, match=message) as caught:
        read_collection(folder, languages=["sw"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"folder": "nowhere"}, "nowhere does not exist"),
        ({"split": "test"}, r"no qrels/test.tsv; its splits: dev"),
        ({"languages": ["sw", "xx"]}, r"no queries.xx.jsonl\[.gz\]; its languages: ha, so, sw"),
        ({"languages": ["ha"]}, r"queries.ha.jsonl.gz: no query of language ha .*dev.tsv"),
    ],
)
def test_what_is_missing_is_named_beside_what_is_there(folder, arguments, message):
    with pytest.raises(DataError, match=message):
        read_collection(**({"folder": folder} | arguments))


def test_corpus_must_be_there(folder):
    (folder / "corpus.jsonl").unlink()
    with pytest.raises(DataError, match=r"neither corpus.jsonl nor"):
        read_collection(folder)


def test_real_collections(data_dir):
    flores = read_collection(data_dir / "retrieval" / "flores_sib", languages=["sw", "am"])
    assert {language: len(queries) for language, queries in flores.queries.items()} == {"sw": 1002, "am": 1002}
    assert flores.is_parallel("sw")
    xquad = read_collection(data_dir / "retrieval" / "xquad")
    assert (len(xquad.queries), len(xquad.documents), len(xquad.english)) == (12, 120, 612)
    assert not xquad.is_parallel("de")
    afriqa = read_collection(data_dir / "retrieval" / "afriqa")
    assert set(afriqa.queries["ha"]) <= set(afriqa.english)


# ---- blemishes of public sets ------------------------------------------------------------------------------------


def test_repeats_count_once_and_bad_lines_are_left_out_up_to_a_limit(folder):
    """d1 and q1 again, word for word, d3 without text, d2 with another text; of the judgements a repeat, another grade,
    an absent document, and a query without text."""
    cats, dogs = {"_id": "d1", "title": "Cats", "text": "Cats purr."}, {"_id": "d2", "title": "", "text": "Dogs bark."}
    empty, other = {"_id": "d3", "title": "", "text": ""}, {"_id": "d2", "title": "", "text": "Dogs dig."}
    (folder / "corpus.jsonl").write_text(jsonl(cats, dogs, cats, empty, other), "utf-8")
    asked = jsonl(*({"_id": q, "text": text} for q, text in (("q1", "paka"), ("q2", "mbwa"), ("q1", "paka"))))
    for path in folder.glob("queries.*"):
        path.unlink()
    (folder / "queries.sw.jsonl").write_text(asked, "utf-8")
    (folder / "qrels" / "dev.tsv").write_text(QRELS + "q1\td1\t2\nq1\td2\t1\nq2\td9\t1\nq7\td1\t1\n", "utf-8")
    bad = BadLines(4)
    found = read_collection(folder, "dev", ["sw"], bad)
    assert found.documents == {"d1": "Cats Cats purr.", "d2": "Dogs bark."}
    assert found.queries == {"sw": {"q1": "paka", "q2": "mbwa"}}
    assert found.qrels == {"q1": {"d1": 2, "d2": 0}, "q2": {"d2": 1}}
    assert bad.count == 4
    assert found.left_out == {
        "repeated_documents": 1,
        "documents_without_text": 1,
        "documents_with_another_text": 1,
        "repeated_judgements": 1,
        "judgements_with_another_grade": 1,
        "judgements_of_absent_documents": 1,
        "repeated_queries": 1,
        "judged_queries_without_text": 1,
    }
    with pytest.raises(DataError, match=r"dev.tsv:7: .* is not in the corpus \(bad line 4, max_bad_lines=3\)"):
        read_collection(folder, "dev", ["sw"], BadLines(3))
    with pytest.raises(DataError, match=r"corpus.jsonl:4: document 'd3' has no text; .*collect --max-bad-lines N"):
        read_collection(folder, "dev", ["sw"])


def test_judged_queries_of_other_languages_are_not_missed(folder):
    """q2 and q3 are Somali; q1 is Swahili alone, so that a reader of Somali alone cannot know whether it has a text."""
    assert read_collection(folder, languages=["so"]).left_out == {}
    (folder / "qrels" / "dev.tsv").write_text(QRELS + "q7\td1\t1\n", "utf-8")
    assert read_collection(folder).left_out == {"judged_queries_without_text": 1}
    assert read_collection(folder, languages=["ha", "so", "sw"][1:]).left_out == {}


def test_a_query_in_english_and_in_its_own_file_is_counted_once(folder):
    asked = jsonl({"_id": "q1", "text": "cat"}, {"_id": "q1", "text": "cat"})
    (folder / "queries.en.jsonl").write_text(asked, "utf-8")
    assert read_collection(folder, languages=["en"]).left_out == {"repeated_queries": 1}
    assert read_collection(folder, languages=["sw"]).left_out == {"repeated_queries": 1}


@pytest.mark.parametrize("content", ["[]", "{}", '{"document_language": 5}', "{"])
def test_an_odd_record_of_a_collection_is_a_data_error(folder, content):
    (folder / "collection.json").write_text(content, "utf-8")
    with pytest.raises(DataError, match=r"collection\.json"):
        read_collection(folder, languages=["sw"])


# ---- queries that are documents ----------------------------------------------------------------------------------


def test_which_queries_are_documents_of_their_own_ids():
    """An unjudged one is (a); a judged one is to be found (b, with grade 0 too); c is in no document. Numbers may be
    equal by chance: 1 has the document's words, 2 has them in English, 3 has others."""
    documents = {"a": "x", "b": "x", "z": "x", "1": "Title. Who sleeps?", "2": "rain falls", "3": "a whole other text"}
    queries = {
        "a": "anything",
        "b": "q",
        "c": "q",
        "z": "q",
        "1": "who sleeps",
        "2": "mvua inanyesha",
        "3": "other texts",
    }
    qrels = {"a": {"b": 1}, "b": {"b": 1}, "c": {"a": 1}, "z": {"z": 0}, "1": {"a": 1}, "2": {"a": 1}, "3": {"a": 1}}
    assert own_documents(queries, qrels, documents, {"2": "Rain falls."}) == {"a", "1", "2"}
    assert own_documents(queries, qrels, documents) == {"a", "1"}

"""Streams of documents, queries and judgements: what counts once, what is left out, and what no id can be."""

import json
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from optical_jax.data.files.records import (
    LARGEST_GRADE,
    BadLines,
    Entry,
    Judgement,
    Stream,
    faults_in_ids,
    gather_qrels,
    id_fault,
    jsonl_texts,
    judgement_lines,
    read_grade,
    tsv_texts,
    unique_texts,
)
from optical_jax.errors import DataError


def jsonl(path: Path, *records: object) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    return path


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    return path


def stream(*texts: tuple[str, str]) -> Stream[Entry]:
    return Stream((), lambda: (Entry("f", n, *one) for n, one in enumerate(texts, start=1)), "f")


def judged(*rows: tuple[str, str, int]) -> Stream[Judgement]:
    return Stream((), lambda: (Judgement(f"q.tsv:{n}", *row) for n, row in enumerate(rows, start=1)))


# ---- what is left out --------------------------------------------------------------------------------------------


def test_a_text_that_stands_again_counts_once(tmp_path):
    rain = {"_id": "a", "title": "Rain", "text": "falls"}
    path = jsonl(tmp_path / "corpus.jsonl", rain, {"_id": "b", "text": "dry"}, rain, rain)
    bad = BadLines()
    assert list(unique_texts(jsonl_texts(path, kind="document"), "document", bad)) == [
        ("a", "Rain falls"),
        ("b", "dry"),
    ]
    assert (bad.count, dict(bad.left_out)) == (0, {"repeated_documents": 2})
    queries, bad = write(tmp_path / "queries.tsv", "1\twho\n1\twho\n"), BadLines()
    assert list(unique_texts(tsv_texts(queries, "query"), "query", bad)) == [("1", "who")]
    assert dict(bad.left_out) == {"repeated_queries": 1}


def test_another_text_names_both_places_and_the_later_one_is_left_out(tmp_path):
    a, b = write(tmp_path / "a.tsv", "1\tone\n2\ttwo\n"), write(tmp_path / "b.tsv", "3\tthree\n2\tzwei\n")
    both = Stream((a, b), lambda: (one for path in (a, b) for one in tsv_texts(path, "document")))
    with pytest.raises(DataError) as caught:
        list(unique_texts(both, "document", BadLines(remedy="REMEDY")))
    assert str(caught.value) == (
        f"{b}:2: document '2' is already in line 2 of {a}, with another text; REMEDY"
    )  # fmt: skip
    bad = BadLines(1)
    assert dict(unique_texts(both, "document", bad)) == {"1": "one", "2": "two", "3": "three"}
    assert dict(bad.left_out) == {"documents_with_another_text": 1}


def test_bad_lines_are_counted_by_reason_up_to_a_limit(tmp_path):
    """A line that is not JSON, half a surrogate pair, an id with a space, an empty text, a title that is a number."""
    path = write(
        tmp_path / "corpus.jsonl",
        '{"_id": "1", "text": "one"}\n{"_id": \n{"_id": "2", "text": "\\ud83d"}\n{"_id": "a b", "text": "x"}\n'
        '{"_id": "3", "text": " "}\n{"_id": "4", "title": 5, "text": "x"}\n{"_id": "5", "text": "five"}\n',
    )
    bad = BadLines(5)
    assert dict(unique_texts(jsonl_texts(path, kind="document"), "document", bad)) == {"1": "one", "5": "five"}
    assert dict(bad.left_out) == {
        "broken_documents": 3, "documents_without_valid_id": 1, "documents_without_text": 1
    }  # fmt: skip
    assert [message.split(": ")[0] for message in bad.first] == [f"{path}:{n}" for n in (2, 3, 4, 5, 6)]
    with pytest.raises(DataError, match=r"corpus.jsonl:6: title is 5, not text \(bad line 5, max_bad_lines=4\)"):
        list(unique_texts(jsonl_texts(path, kind="document"), "document", BadLines(4)))


def test_only_hashes_of_texts_are_held():
    """A thousand texts of 100 kB are 100 MB; their ids and hashes are below 1 MB."""
    texts = Stream((), lambda: (Entry("f", n, f"d{n}", chr(65 + n % 26) * 100_000) for n in range(1000)), "f")
    tracemalloc.start()
    for _ in unique_texts(texts, "document", BadLines()):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


def test_the_place_of_the_first_is_looked_up_only_for_messages_that_are_shown():
    """A message costs a pass over the corpus, so that of a thousand bad lines only the first five may."""
    passes = []

    def read():
        passes.append(1)
        yield Entry("f", 0, "a", "first")
        yield from (Entry("f", n, "a", f"{n}") for n in range(1, 1001))

    bad = BadLines(1000)
    assert list(unique_texts(Stream((), read, "f"), "document", bad)) == [("a", "first")]
    assert (bad.count, len(bad.first), len(passes)) == (1000, 5, 6)


def test_nothing_with_text_is_an_error():
    with pytest.raises(DataError, match="f is empty; it must hold a document with text a line"):
        list(unique_texts(stream(("a", ""), ("b", "")), "document", BadLines(9)))


# ---- judgements --------------------------------------------------------------------------------------------------


def test_a_judgement_that_stands_again_counts_once_and_another_grade_is_an_error():
    bad = BadLines()
    assert gather_qrels(judged(("q", "d", 2), ("q", "e", 0), ("q", "d", 2)), {"d", "e"}, bad) == {"q": {"d": 2, "e": 0}}
    assert dict(bad.left_out) == {"repeated_judgements": 1}
    rows = judged(("q", "d", 2), ("q", "e", 0), ("q", "d", 1))
    with pytest.raises(DataError, match=r"q.tsv:3: query 'q' and document 'd' are judged twice: 1 here, 2 in q.tsv:1;"):
        gather_qrels(rows, {"d", "e"}, BadLines())
    bad = BadLines(1)
    assert gather_qrels(rows, {"d", "e"}, bad) == {"q": {"d": 2, "e": 0}}
    assert dict(bad.left_out) == {"judgements_with_another_grade": 1}


def test_absent_documents_and_queries_that_have_no_others_are_counted():
    rows = judged(("q", "d", 1), ("q", "lost", 1), ("p", "lost", 1), ("p", "gone", 0))
    with pytest.raises(DataError, match=r"q.tsv:2: document 'lost' is not in the corpus"):
        gather_qrels(rows, {"d"}, BadLines())
    bad = BadLines(3)
    assert gather_qrels(rows, {"d"}, bad) == {"q": {"d": 1}}
    assert dict(bad.left_out) == {
        "judgements_of_absent_documents": 3, "queries_judged_on_absent_documents_alone": 1
    }  # fmt: skip


@pytest.mark.parametrize("grade", [LARGEST_GRADE + 1, 2**31, 2**63, 10**4000], ids=int.bit_length)
def test_large_grades_are_refused_by_line(grade):
    """trec_eval would count them in arrays of that length, or take them for other numbers; so on."""
    rows = judged(("q", "d", LARGEST_GRADE), ("q", "e", grade))
    with pytest.raises(DataError, match=r"q.tsv:2: the grade is above 10,000; mend the line"):
        gather_qrels(rows, {"d", "e"}, BadLines())
    assert gather_qrels(rows, {"d", "e"}, BadLines(1)) == {"q": {"d": LARGEST_GRADE}}


@pytest.mark.parametrize("text", ["0.5", "", "1_0", "one", "+", "9" * 5000, "-" + "9" * (1 << 20), "\u0661"], ids=len)
def test_what_is_not_a_grade(tmp_path, text):
    with pytest.raises(ValueError, match="is not an integer") as caught:
        read_grade(text)
    assert len(str(caught.value)) < 200
    if text:
        path = write(tmp_path / "qrels.txt", f"q 0 d {text}\n")
        with pytest.raises(DataError, match=r"qrels.txt:1: grade .* is not an integer"):
            gather_qrels(judgement_lines(path), {"d"}, BadLines())


@pytest.mark.parametrize(("text", "grade"), [("0", 0), ("-2", -2), ("+3", 3), ("007", 7)])
def test_grades(text, grade):
    assert read_grade(text) == grade


# ---- ids ---------------------------------------------------------------------------------------------------------

NOT_IDS = {
    "": "is empty",
    "a b": "has white space",
    "a\u00a0b": "has white space",
    "a\u2028": "has white space",
    "a\x00b": r"has the control character U\+0000",
    "a\x9f": r"has the control character U\+009F",
    "\ufeffa": r"has the control character U\+FEFF",
    "a\ud83d": r"has half a surrogate pair",
}  # fmt: skip


@pytest.mark.parametrize("identity", NOT_IDS, ids=ascii)
def test_what_no_id_can_be(identity):
    with pytest.raises(DataError, match=rf"f:1: _id .* {NOT_IDS[identity]}"):
        list(unique_texts(stream((identity, "text")), "query", BadLines()))
    with pytest.raises(DataError, match=rf"q.tsv:1: query id .* {NOT_IDS[identity]}"):
        gather_qrels(judged((identity, "d", 1)), {"d"}, BadLines())
    assert faults_in_ids(["good", identity]).startswith(f"id {identity!r} ")


def test_ids_of_any_script_are_valid():
    for identity in (
        "s07",
        "doc#1",
        "मौसम",
        "\u0634\u0628\u200c\u0646\u0645\u0627",
        "😀",
        "a,b",
        "MED-10",
        "http://x.org/?a=1",
    ):
        assert id_fault(identity) == ""
    assert faults_in_ids([]) == ""


# ---- TSV ---------------------------------------------------------------------------------------------------------


def test_a_header_and_spaces_round_an_id_are_not_part_of_a_tsv_file_of_texts(tmp_path):
    path = write(tmp_path / "queries.tsv", "\ufeffquery_id\ttext\n 7 \twho sleeps\n8\t id \n")
    assert dict(unique_texts(tsv_texts(path, "query"), "query", BadLines())) == {"7": "who sleeps", "8": "id"}


# ---- whatever is in a file ---------------------------------------------------------------------------------------

CELL = st.one_of(
    st.sampled_from(["q", "d", "1", "-2", "", " ", "\x00", "\ud800", "10001", "9" * 4400, "1e9", "\ufeff", "\r", '"']),
    st.text(max_size=4),
)
LINE = st.lists(CELL, max_size=5).map("\t".join)
JSON_LINE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["_id", "text", "title"]), inner),
    max_leaves=6,
).map(json.dumps)


@settings(max_examples=200, deadline=5000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.one_of(st.binary(max_size=60), st.lists(st.one_of(LINE, JSON_LINE), max_size=6).map(
    lambda lines: "\n".join(lines).encode("utf-8", "surrogatepass")
)))  # fmt: skip
def test_whatever_is_in_a_file_is_read_or_refused_by_name(tmp_path, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    for texts in (jsonl_texts(path, kind="document"), tsv_texts(path, "document")):
        found, message = attempt(lambda texts=texts: dict(unique_texts(texts, "document", BadLines(sys.maxsize))))
        assert found or str(path) in message
        assert all(text and not id_fault(identity) for identity, text in found.items())
        for text in (*found, *found.values()):
            text.encode()
    qrels, message = attempt(lambda: gather_qrels(judgement_lines(path), {"d", "q"}, BadLines(sys.maxsize)))
    assert not message or str(path) in message
    assert all(grade <= LARGEST_GRADE for grades in qrels.values() for grade in grades.values())


def attempt(read: Callable[[], dict]) -> tuple[dict, str]:
    """What is read, or the message of the error."""
    try:
        return read(), ""
    except DataError as error:
        return {}, str(error)

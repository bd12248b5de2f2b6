"""`search` from flags to lines: the order against NumPy, what a terminal and a pipe get, and the exit codes."""

import contextlib
import gzip
import json
import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from optical_jax.commands.search import main, print_hits
from optical_jax.commands.terminal import make_show
from optical_jax.retrieval.dictionary import count_lexicon, make_dictionary_bm25
from optical_jax.runs.load import load
from optical_jax.towers import texts
from optical_jax.towers.tower import encode
from tests.commands.test_evaluate import PAIRS, make_run

ENGLISH = [english for english, _ in PAIRS]
QUERIES = ["Paka analala", "mvua na mto mlimani"]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "a", seed=0)


@pytest.fixture(scope="module")
def docs(tmp_path_factory) -> Path:
    """A blank line before the first sentence, white space after the third, and no end of the last line."""
    path = tmp_path_factory.mktemp("docs") / "notes.txt"
    path.write_text("\n" + "\n".join([*ENGLISH[:3], " \t ", *ENGLISH[3:]]), "utf-8")
    return path


LINE_OF = {text: n + (2 if n < 3 else 3) for n, text in enumerate(ENGLISH)}


def by_numpy(queries, documents) -> list[list[tuple[float, str]]]:
    """(score, text) of every line for every query, best first; in float64, a pair at a time."""
    q, d = encode(queries, QUERIES), encode(documents, ENGLISH)
    scores = [
        [
            float(np.max(a[am].astype(float) @ b[bm].T.astype(float), axis=1).sum())
            for b, bm in zip(d.vectors, d.mask, strict=True)
        ]
        for a, am in zip(q.vectors, q.mask, strict=True)
    ]
    return [sorted(zip(row, ENGLISH, strict=True), reverse=True) for row in scores]


@pytest.mark.parametrize("checkpoint", ["last", "untrained", "3"])
def test_lines_are_ranked_as_numpy_ranks_them(run, docs, capsys, checkpoint):
    command = ["--run", str(run), "--docs", str(docs), "--json", "--checkpoint", checkpoint, "--top", "5", *QUERIES]
    assert main(command) == 0
    hits = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(hit["query"], hit["rank"]) for hit in hits] == [(query, n) for query in QUERIES for n in range(1, 6)]
    assert all(list(hit) == ["query", "rank", "score", "line", "text"] for hit in hits)
    expected = by_numpy(load(run, checkpoint=checkpoint), load(run, side="document"))
    for hit, (score, text) in zip(hits, [pair for row in expected for pair in row[:5]], strict=True):
        assert hit["score"] == pytest.approx(score, abs=1e-5)
        assert (hit["text"], hit["line"]) == (text, LINE_OF[text])


def test_a_dictionary_joins_in_by_places(run, docs, capsys):
    """Every line's score is the sum of 1 / (60 + place) in both rankings; --top cuts what is joined, not before."""
    flags = ["--run", str(run), "--docs", str(docs), "--json", "--dictionary", "sw", "--top", "4", *QUERIES]
    assert main(flags) == 0
    said = capsys.readouterr()
    assert f"counting a dictionary in {len(PAIRS)} sw pairs" in said.err
    hits = [json.loads(line) for line in said.out.splitlines()]
    lexicon = count_lexicon(ENGLISH, [foreign for _, foreign in PAIRS])
    # Ids as search gives them: of equal scores the earlier line stands first.
    ids = [f"{99 - LINE_OF[text]}" for text in ENGLISH]
    by_words = make_dictionary_bm25(dict(zip(ids, ENGLISH, strict=True)))(QUERIES, lexicon).documents
    by_vectors = by_numpy(load(run), load(run, side="document"))
    for query, looked_up, ranked in zip(QUERIES, by_words, by_vectors, strict=True):
        places = [[text for _, text in ranked], [ENGLISH[n] for n in looked_up if n >= 0]]
        expected = {text: sum(1 / (61 + row.index(text)) for row in places if text in row) for text in ENGLISH}
        found = {hit["text"]: hit["score"] for hit in hits if hit["query"] == query}
        assert len(found) == 4
        assert found == pytest.approx({text: expected[text] for text in found}, rel=1e-6)
        assert min(found.values()) >= max(score for text, score in expected.items() if text not in found) - 1e-9


def test_a_model_stands_on_both_sides(run, docs, tmp_path, capsys):
    """A sentence of the file finds itself, at a cosine of 1 a token; from a gzip as from a plain file."""
    packed = tmp_path / "notes.txt.gz"
    packed.write_bytes(gzip.compress(docs.read_bytes()))
    model = run / "teacher"
    assert main(["--model", str(model), "--docs", str(packed), "--top", "1", "--json", *ENGLISH[:2]]) == 0
    hits = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    tokens = encode(load(model), ENGLISH[:2]).mask.sum(axis=1)
    assert [hit["text"] for hit in hits] == ENGLISH[:2]
    np.testing.assert_allclose([hit["score"] for hit in hits], tokens, atol=1e-4)


def test_vectors_are_kept_and_read_again(run, docs, tmp_path, capsys, monkeypatch):
    """In bfloat16, so scores may differ in the third digit; the second time no line is encoded."""
    command = ["--run", str(run), "--docs", str(docs), "--json", "--top", "5"]
    folder, encoded = tmp_path / "vectors", []

    def found(*flags: str) -> list[dict]:
        encoded.clear()
        assert main([*command, *flags, *QUERIES]) == 0
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    monkeypatch.setattr(texts, "encode", lambda *given, **more: encoded.extend(given[1]) or encode(*given, **more))
    fresh, first, again = found(), found("--vectors", str(folder)), found("--vectors", str(folder))
    assert sorted(encoded) == sorted(QUERIES)
    assert first == again
    for hit, other in zip(fresh, first, strict=True):
        assert (hit["query"], hit["rank"]) == (other["query"], other["rank"])
        assert hit["score"] == pytest.approx(other["score"], abs=2e-2)
    every = {hit["line"]: hit["score"] for hit in found("--top", "99") if hit["query"] == QUERIES[0]}
    for hit in first[:5]:
        assert every[hit["line"]] == pytest.approx(hit["score"], abs=2e-2)
        assert LINE_OF[hit["text"]] == hit["line"]

    # A write that was cut off is done again, at whatever moment.
    (folder / "documents.json").rename(folder / "documents.json.new")
    (folder / "vectors.bf16").rename(folder / "vectors.bf16.new")
    assert found("--vectors", str(folder)) == first
    assert set(encoded) > set(QUERIES)


def test_vectors_of_something_else_are_refused(run, docs, tmp_path, capsys):
    other = make_run(tmp_path / "b", seed=1)
    (tmp_path / "one.txt").write_text(ENGLISH[0])
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "cat.png").touch()
    kept = ["--vectors", str(tmp_path / "kept"), "paka"]
    assert main(["--run", str(run), "--docs", str(docs), *kept]) == 0
    # The same weights with a tokenizer that leaves texts as they are.
    retold = shutil.copytree(run, tmp_path / "c")
    tokenizer = json.loads((retold / "teacher" / "tokenizer.json").read_text("utf-8"))
    (retold / "teacher" / "tokenizer.json").write_text(json.dumps(tokenizer | {"normalizer": None}), "utf-8")
    for flags, what in (
        (["--run", str(other), "--docs", str(docs), *kept], "are of another model"),
        (["--run", str(retold), "--docs", str(docs), *kept], "are of another model"),
        (["--run", str(run), "--docs", str(tmp_path / "one.txt"), *kept], "are of another text file"),
        (["--run", str(run), "--docs", str(docs), "--vectors", str(tmp_path / "pictures"), "paka"], "has other files"),
    ):
        capsys.readouterr()
        assert main(flags) == 2
        assert what in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["cat.png"]


def test_of_equal_lines_the_earlier_stands_first(run, tmp_path, capsys):
    """Twelve equal ones, so that numbers have one and two digits."""
    (tmp_path / "same.txt").write_text("\n".join(["The cat sleeps."] * 12) + "\n")
    assert main(["--run", str(run), "--docs", str(tmp_path / "same.txt"), "--top", "20", "--json", "paka"]) == 0
    assert [json.loads(line)["line"] for line in capsys.readouterr().out.splitlines()] == list(range(1, 13))


def test_a_pipe_gets_whole_lines_and_a_heading_a_query(run, tmp_path, capsys):
    long = "word " * 60 + "end\x1b[31m"
    (tmp_path / "long.txt").write_text(f"{long}\nThe cat sleeps.\n")
    assert main(["--run", str(run), "--docs", str(tmp_path / "long.txt"), *QUERIES]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert len(lines) == 9
    assert [lines[0], lines[4], lines[5]] == [QUERIES[0], "", QUERIES[1]]
    assert lines[1] == lines[6] == "rank score line  text"
    rows = [re.fullmatch(r" {3}([12]) +(-?\d\.\d{3}) +([12])  (.*)", lines[n]) for n in (2, 3, 7, 8)]
    assert {row[4] for row in rows if row} == {long, "The cat sleeps."}
    assert err == "1 of 2 lines is longer than 32 tokens; only the beginning is encoded\n"

    assert main(["--run", str(run), "--docs", str(tmp_path / "long.txt"), QUERIES[0]]) == 0
    assert capsys.readouterr().out.startswith("rank score line  text\n")


def on_terminal(code: str, columns: int) -> str:
    """What Python code prints on a terminal of that width."""
    ours, theirs = pty.openpty()
    env = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    env |= {"COLUMNS": str(columns), "TERM": "xterm"}
    with subprocess.Popen([sys.executable, "-c", code], stdout=theirs, env=env) as process:
        os.close(theirs)
        output = b""
        with contextlib.suppress(OSError):
            while chunk := os.read(ours, 65536):
                output += chunk
    os.close(ours)
    assert process.returncode == 0
    return output.decode().replace("\r\n", "\n")


def test_a_terminal_gets_lines_that_fit():
    """Chinese characters take two columns; what a file holds does not steer the terminal."""
    code = (
        "from optical_jax.commands.search import print_hits\n"
        "from optical_jax.index.texts import Hit\n"
        "hits = [Hit('q', 1, 12.5, 7, 'short'), Hit('q', 2, 1.25, 1234567, 'long ' * 20),\n"
        "        Hit('q', 3, 1.0, 8, '\\u4e2d' * 40), Hit('q', 4, 0.5, 9, 'a\\x1b[31mb\\tc')]\n"
        "print_hits(['q'], [hits])\n"
    )
    plain = re.sub(r"\x1b\[[01]?m", "", on_terminal(code, 40))
    assert plain.splitlines() == [
        "rank  score    line  text",
        "   1 12.500       7  short",
        "   2  1.250 1234567  long long long lon…",
        "   3  1.000       8  " + "中" * 9 + "…",
        "   4  0.500       9  a [31mb c",
    ]


def test_output_is_not_cut_without_a_terminal(capsys):
    from optical_jax.index.texts import Hit

    print_hits(["q"], [[Hit("q", 1, 1.0, 1, "long " * 100)]])
    assert "long " * 100 in capsys.readouterr().out
    make_show(10)("x" * 300, False)
    assert capsys.readouterr().out == "x" * 300 + "\n"


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--docs", "DOCS", "q"], 2, "none of --run, --model given; give exactly one"),
        (["--run", "RUN", "--model", "x", "--docs", "DOCS", "q"], 2, "run and model of --run, --model given"),
        (["--run", "RUN", "--docs", "DOCS"], 2, "no query given; write it after the flags"),
        (["--run", "RUN", "--docs", "DOCS", "q", " "], 2, "query 2 is empty"),
        (["--run", "RUN", "--docs", "DOCS", "\udcff"], 2, "argument 5, '\\xff', is not UTF-8"),
        (["--run", "nowhere", "--docs", "DOCS", "q"], 2, "run=nowhere is not a run folder"),
        (["--run", "RUN", "--checkpoint", "newest", "--docs", "DOCS", "q"], 2, "checkpoint=newest"),
        (["--run", "RUN", "--checkpoint", "99", "--docs", "DOCS", "q"], 2, "has no checkpoint 99"),
        (["--model", "RUN", "--docs", "DOCS", "q"], 2, "is a run; give --run"),
        (["--model", "./nowhere", "--docs", "DOCS", "q"], 2, "nowhere: no such folder"),
        (["--model", "x", "--checkpoint", "best", "--docs", "DOCS", "q"], 2, "checkpoint=best belongs to --run"),
        (["--run", "RUN", "--dictionary", "so", "--docs", "DOCS", "q"], 2, "was trained on sw; use one of them"),
        (
            ["--model", "x", "--dictionary", "sw", "--docs", "DOCS", "q"],
            2,
            "cannot go with model=x; leave one of them out",
        ),
        (["--run", "RUN", "--top", "0", "--docs", "DOCS", "q"], 2, "top=0 is not valid; use at least 1"),
        (["--run", "RUN", "--batch-size", "0", "--docs", "DOCS", "q"], 2, "batch_size=0"),
        (["--run", "RUN", "--docs", "FOLDER", "q"], 3, "is a folder, not a file"),
        (["--run", "RUN", "--docs", "nowhere.txt", "q"], 3, "nowhere.txt: no such file"),
        (["--run", "RUN", "--docs", "FOLDER/empty.txt", "q"], 3, "empty.txt: empty file"),
        (["--run", "RUN", "--docs", "FOLDER/blank.txt", "q"], 3, "blank.txt: every line is blank"),
        (["--run", "RUN", "--docs", "FOLDER/latin.txt", "q"], 3, "latin.txt:2: not UTF-8 (byte 4 of the line)"),
        (["--run", "RUN", "--docs", "FOLDER/broken.gz", "q"], 3, "broken.gz: broken gzip"),
        (["--run", "RUN", "--docs", "FOLDER/pipe", "q"], 3, "pipe: is not a regular file"),
    ],
)
def test_errors_are_one_line_and_an_exit_code(run, docs, tmp_path, capsys, flags, code, message):
    (tmp_path / "empty.txt").touch()
    (tmp_path / "blank.txt").write_text("\n \n\t\n")
    (tmp_path / "latin.txt").write_bytes("fine\ncaf\u00e9\n".encode("latin-1"))
    (tmp_path / "broken.gz").write_bytes(gzip.compress(b"text " * 100)[:20])
    os.mkfifo(tmp_path / "pipe")
    places = {"RUN": str(run), "DOCS": str(docs), "FOLDER": str(tmp_path)}
    words = [re.sub("^(RUN|DOCS|FOLDER)", lambda match: places[match[0]], flag) for flag in flags]
    assert main(words) == code
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ")
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""

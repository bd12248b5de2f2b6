"""What a student is compared with: translated queries, BM25, the teacher, and the table of them all."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest

from optical_jax.commands.evaluate import main
from optical_jax.data.collections.collection import Collection
from optical_jax.evaluation.retrieval import Direction, Evaluation
from optical_jax.evaluation.texts import T2D, text_task
from optical_jax.retrieval.metrics import METRICS
from optical_jax.retrieval.search import Ranking
from optical_jax.runs.load import load
from optical_jax.towers.tower import encode
from tests.commands.test_evaluate import PAIRS, best_documents, make_questions, make_run, read, write_jsonl


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "b", seed=10)


@pytest.fixture(scope="module")
def questions(tmp_path_factory) -> Path:
    return make_questions(tmp_path_factory.mktemp("data") / "questions")


@pytest.mark.parametrize("form", ["jsonl", "tsv"])
def test_translated_queries_are_asked_of_the_documents_tower_and_of_bm25(run, questions, tmp_path, form, capsys):
    """Translations of the three judged questions, in another order, by a system that was right but for the second."""
    said = {"q2": PAIRS[2][0], "q0": PAIRS[0][0], "q1": "xyz", "q9": "of another split"}
    file = tmp_path / f"mt.{form}"
    if form == "jsonl":
        write_jsonl(file, said)
    else:
        file.write_text("".join(f"{key}\t{text}\n" for key, text in said.items()), "utf-8")
    flags = ["--collection", str(questions), "--split", "test", "--lang", "sw", "--translations", f"sw={file}"]
    assert main(["--run", str(run), *flags]) == 0
    folder = run / "eval" / "questions-test"
    references = read(folder / "metrics.json")["references"]
    teacher = load(run, side="document")
    texts = [PAIRS[0][0], "xyz", PAIRS[2][0]]
    best = best_documents(
        encode(dataclasses.replace(teacher, side="query"), texts), encode(teacher, [e for e, _ in PAIRS])
    )
    # The first question has two relevant documents, 0 and 5.
    expected = ((best[0] in (0, 5)) / 2 + (best[1] == 1) + (best[2] == 2)) / 3
    assert references["mt"]["sw"]["R@1"] == pytest.approx(expected)
    # BM25 finds the documents whose own words are asked for, and nothing for xyz.
    rows = [json.loads(line) for line in (folder / "per_query.jsonl").read_text("utf-8").splitlines()]
    assert {r["query"]: r["RR@10"] for r in rows if r["system"] == "mt-bm25"} == {"q0": 1.0, "q1": 0.0, "q2": 1.0}
    printed = capsys.readouterr().out
    assert max(map(len, printed[printed.index("lang") :].splitlines())) <= 100
    assert main(["--model", str(run / "teacher"), *flags]) == 0
    assert re.search(r"^mt-bm25 +1 ", capsys.readouterr().out, re.MULTILINE)


def test_the_table_of_baselines(run, questions, tmp_path):
    """Means over languages, beside the student on the same queries: the teacher was asked two of three."""
    out = tmp_path / "m.json"
    assert main(["--run", str(run), "--collection", str(questions), "--split", "test", "--out", str(out)]) == 0
    rows = {row["system"]: row for row in read(out)["baselines"]}
    assert list(rows) == ["untrained", "teacher", "fused", "dictionary", "bm25"]
    per_query = [json.loads(x) for x in (run / "eval/questions-test/per_query.jsonl").read_text("utf-8").splitlines()]
    ap = {(r["system"], r["language"], r["query"]): r["AP"] for r in per_query}
    both = {lang: [q for s, a, q in ap if (s, a) == ("teacher", lang)] for lang in ("en", "sw")}
    assert {lang: len(queries) for lang, queries in both.items()} == {"en": 2, "sw": 2}
    for system, key in (("teacher", "means"), ("student", "own_ap")):
        expected = np.mean([np.mean([ap[system, lang, q] for q in queries]) for lang, queries in both.items()])
        found = rows["teacher"][key]
        assert (found["AP"] if key == "means" else found) == pytest.approx(expected)
    assert rows["dictionary"]["languages"] == rows["fused"]["languages"] == ["sw"]
    assert all(q >= p for row in rows.values() for p, q in zip(row["p_ttest"], row["p_ttest_holm"], strict=True))


def test_better_and_worse_are_counted_by_language():
    """One language in which every query differs by nearly the same, one in which none does."""
    rng = np.random.default_rng(0)
    task = text_task(Collection("x", "dev", {}, {}, {}, {}, {}))

    def evaluation(student: dict, bm25: dict) -> Evaluation:
        nothing = Ranking(np.zeros((0, 0), np.int32), np.zeros((0, 0), np.float32))
        found = {
            system: {language: {T2D: Direction([], [], nothing, queries)} for language, queries in languages.items()}
            for system, languages in (("student", student), ("bm25", bm25))
        }
        return Evaluation(task, "maxsim", "student", found, {}, {})

    def figures(low: float) -> dict:
        return {f"q{n}": dict.fromkeys(METRICS, low + 0.01 * rng.random()) for n in range(20)}

    same = figures(0.5)
    better, worse = {"sw": figures(0.9), "so": same}, {"sw": figures(0.2), "so": same}
    (row,) = evaluation(better, worse).as_json([])["baselines"]
    assert (row["better"], row["worse"], row["p_ttest_holm"][1]) == (1, 0, 1.0)
    (row,) = evaluation(worse, better).as_json([])["baselines"]
    assert (row["better"], row["worse"]) == (0, 1)

"""Documents encoded by the student: who asks them, what stands beside, and where it cannot be."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from optical_jax.commands.evaluate import main
from optical_jax.runs.load import load
from optical_jax.towers.tower import encode
from tests.commands.test_evaluate import PAIRS, best_documents, make_parallel, make_questions, make_run, read


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "b", seed=10)


def learned(run: Path, to: Path, sides: str) -> Path:
    """A copy of the run that says its student learned these sides."""
    shutil.copytree(run, to, ignore=shutil.ignore_patterns("eval"))
    config = read(to / "config.json")
    (to / "config.json").write_text(json.dumps(config | {"student": {"sides": sides}}))
    return to


@pytest.mark.parametrize(("sides", "flags"), [("both", ["--documents", "student"]), ("documents", [])])
def test_documents_that_the_student_encodes(trained, tmp_path, sides, flags):
    """Asked by the student in its language, or by its teacher in English where it learned documents alone."""
    questions = make_questions(tmp_path / "questions")
    run = learned(trained, tmp_path / "run", sides)
    flags = ["--run", str(run), "--collection", str(questions), "--split", "test", "--lang", "sw", *flags]
    assert main(flags) == 0
    figures = read(run / "eval" / "questions-test-student" / "metrics.json")
    assert figures["documents"] == "student"
    asker = load(run, "query", part="student" if sides == "both" else "teacher")
    # q2 has no English form.
    texts = [PAIRS[n][1] for n in range(3)] if sides == "both" else [PAIRS[n][0] for n in range(2)]
    best = best_documents(
        encode(asker, texts), encode(load(run, "document", part="student"), [one for one, _ in PAIRS])
    )
    relevant = [{0, 5}, {1}, {2}][: len(texts)]
    assert figures["languages"]["sw"]["queries"] == len(texts)
    hits = [int(document) in gold for document, gold in zip(best, relevant, strict=True)]
    assert figures["languages"]["sw"]["R@1"] == pytest.approx(
        np.mean([hit / len(gold) for hit, gold in zip(hits, relevant, strict=True)])
    )
    assert set(figures["references"]) == {"untrained", "bm25"} | ({"teacher"} if sides == "both" else set())


def test_documents_flag_that_cannot_be(trained, tmp_path, capsys):
    parallel = make_parallel(tmp_path / "parallel")
    documents = ["--collection", str(parallel), "--documents", "student"]
    assert main(["--model", str(trained / "teacher"), *documents]) == 2
    assert "documents=student applies to --run only" in capsys.readouterr().err
    run = learned(trained, tmp_path / "run", "documents")
    assert main(["--run", str(run), "--collection", str(parallel), "--lang", "sw"]) == 3
    assert "has no English queries" in capsys.readouterr().err

"""Every command that encodes texts refuses those that a model's tokenizer does not know; references only warn."""

import json
import re
from pathlib import Path

import pytest

from optical_jax.commands.align import main as align
from optical_jax.commands.evaluate import main as evaluate
from optical_jax.commands.image_teacher import main as image_teacher
from optical_jax.commands.lexicon import main as lexicon
from optical_jax.commands.mine import main as mine
from optical_jax.commands.search import main as search
from optical_jax.commands.teacher import main as teacher
from optical_jax.commands.train import main as train
from tests.commands.test_evaluate import PAIRS, make_run, write_jsonl
from tests.helpers.trainings import STUDENT, TINY

GEORGIAN = ("მზე ამოდის", "კატა წევს სახლში", "წვიმს მთაში", "ჩიტი მღერის დილით", "დედა ხარშავს ბრინჯს")
"""A script that no vocabulary here has."""
ENGLISH = ("the sun is here", "the cat lies in the house", "rain on the hill", "a bird sings", "mother cooks rice")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "a", seed=0)


def collection(folder: Path, queries: dict[str, str], documents: dict[str, str]) -> Path:
    (folder / "qrels").mkdir(parents=True)
    write_jsonl(folder / "corpus.jsonl", documents)
    write_jsonl(folder / "queries.ka.jsonl", queries)
    rows = [f"{query}\t{document}\t1" for query, document in zip(queries, documents, strict=False)]
    (folder / "qrels" / "dev.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *rows]) + "\n", "utf-8")
    return folder


def numbered(texts) -> dict[str, str]:
    return {f"n{n}": text for n, text in enumerate(texts)}


# ---- trainings ---------------------------------------------------------------------------------------------------


def test_a_student_whose_vocabulary_lacks_the_language_is_refused(tmp_path, capsys):
    bitext = tmp_path / "ka.train.tsv"
    bitext.write_text("\n".join(f"{a}\t{b}" for a, b in zip(ENGLISH, GEORGIAN, strict=True)) + "\n", "utf-8")
    flags = [*STUDENT, "--data.bitext", str(bitext), "--data.dev", "--data.dev-pairs", "0"]
    assert train([*flags, "--student.vocabulary", "keep", "--run", str(tmp_path / "run")]) == 3
    out, err = capsys.readouterr()
    assert re.search(r"^  student: .*, 100.0 % unknown$", out, re.MULTILINE)
    assert re.fullmatch(
        r"error: ka train, student: 100.0% of the tokens are unknown to the tokenizer \(\[UNK\]\), such as 'მზე', "
        r"'ამოდის', 'კატა'; learn a vocabulary from the pairs: --student.vocabulary train, or allow it by "
        r"--data.max-unknown 1\n",
        err,
    )
    assert not (tmp_path / "run" / "config.json").exists()
    assert train([*flags, "--dry-run"]) == 0  # configs/tiny.py trains one
    assert re.search(r"^  student: .*, 0.0 % unknown$", capsys.readouterr().out, re.MULTILINE)
    assert train([*flags, "--student.vocabulary", "keep", "--data.max-unknown", "1", "--dry-run"]) == 0
    assert "warning: ka train, student: 100.0%" in capsys.readouterr().out


def test_a_trained_vocabulary_lacks_what_no_training_pair_has(tmp_path, capsys):
    train_file, dev_file = tmp_path / "ka.train.tsv", tmp_path / "ka.dev.tsv"
    train_file.write_text("".join(f"{a}\t{b}\n" for a, b in PAIRS), "utf-8")
    dev_file.write_text("".join(f"{a}\t{b}\n" for a, b in zip(ENGLISH, GEORGIAN, strict=True)), "utf-8")
    assert train([*STUDENT, "--data.bitext", str(train_file), "--data.dev", str(dev_file), "--dry-run"]) == 0
    assert re.search(
        r"^warning: ka dev, student: 100.0% .*; add pairs with such words to data.bitext, or increase student.vocab",
        capsys.readouterr().out,
        re.MULTILINE,
    )


def test_a_teacher_that_cannot_read_the_english_side_is_refused(tmp_path, capsys):
    bitext = tmp_path / "ka.train.tsv"
    bitext.write_text("\n".join(f"{b}\t{a}" for a, b in zip(ENGLISH, GEORGIAN, strict=True)) + "\n", "utf-8")
    flags = [*STUDENT, "--data.bitext", str(bitext), "--data.dev", "--data.dev-pairs", "0"]
    assert train([*flags, "--run", str(tmp_path / "run")]) == 3
    assert "ka train, teacher: 100.0%" in capsys.readouterr().err


@pytest.mark.parametrize("side", ["queries", "passages"])
def test_an_encoder_that_cannot_read_its_queries_or_passages_is_refused(side, tmp_path, capsys):
    texts = {"queries": numbered(ENGLISH), "passages": numbered(ENGLISH)} | {side: numbered(GEORGIAN)}
    folder = collection(tmp_path / "set", texts["queries"], texts["passages"])
    flags = [
        "--encoder.path", str(TINY), "--encoder.document-length", "24", "--encoder.projection", "0",
        "--data.train", str(folder / "qrels" / "dev.tsv"), "--data.collection", str(folder), "--data.language", "ka",
        "--data.passages", "1", "--data.global-batch", "8", "--data.hold-out", "0", "--run", str(tmp_path / "run"),
    ]  # fmt: skip
    assert teacher(flags) == 3
    out, err = capsys.readouterr()
    assert "unknown tokens: " in out
    assert re.search(rf"ka {side}: 100.0% .*--encoder.path, or allow it by --data.max-unknown 1", err)


def test_a_text_tower_that_cannot_read_the_captions_is_refused(image_teacher_training, tmp_path, capsys):
    folder = tmp_path / "bars"
    folder.mkdir()
    for path in image_teacher_training.folder.iterdir():
        if path.name.startswith("captions.en"):
            rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
            lines = [json.dumps(row | {"text": GEORGIAN[n % 5]}) for n, row in enumerate(rows)]
            (folder / path.name).write_text("\n".join(lines) + "\n", "utf-8")
        else:
            (folder / path.name).symlink_to(path)
    flags = [
        str(folder) if flag == str(image_teacher_training.folder) else flag for flag in image_teacher_training.flags
    ]
    assert image_teacher([*flags, "--run", str(tmp_path / "run")]) == 3
    assert re.search(r"en captions: 100.0% .*--text.path", capsys.readouterr().err)


def test_a_limit_that_is_not_a_share(tmp_path, capsys):
    assert train([*STUDENT, "--data.max-unknown", "1.5", "--run", str(tmp_path / "run")]) == 2
    assert "data.max_unknown=1.5" in capsys.readouterr().err
    assert search(["--run", "x", "--docs", "y", "--max-unknown", "-1", "z"]) == 2
    assert "max_unknown=-1.0 is not valid" in capsys.readouterr().err


# ---- search ------------------------------------------------------------------------------------------------------


@pytest.fixture
def docs(tmp_path) -> Path:
    path = tmp_path / "docs.txt"
    path.write_text("\n".join(english for english, _ in PAIRS) + "\n\u200b\n\ufeff\u200d\n", "utf-8")
    return path


def test_a_query_of_unknown_words_is_not_ranked(run, docs, capsys):
    assert search(["--run", str(run), "--docs", str(docs), "Paka analala", GEORGIAN[0]]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert f"the tokenizer knows no word of {GEORGIAN[0]!r}" in err
    assert search(["--run", str(run), "--docs", str(docs), "--max-unknown", "1", "--json", GEORGIAN[0]]) == 0
    out, err = capsys.readouterr()
    # Lines without anything to see are no documents.
    assert {json.loads(line)["line"] for line in out.splitlines()} == set(range(1, 9))
    assert "warning: queries: 100.0%" in err


def test_lines_of_unknown_words_are_not_searched(run, tmp_path, capsys):
    (tmp_path / "docs.txt").write_text("\n".join(GEORGIAN) + "\n", "utf-8")
    assert search(["--run", str(run), "--docs", str(tmp_path / "docs.txt"), "Paka"]) == 3
    assert re.search(r"docs.txt: 100.0% of the tokens .* --max-unknown 1", capsys.readouterr().err)


@pytest.mark.parametrize("query", ["\u200b", "\u200d\u00ad", "\x02"])
def test_a_query_that_shows_nothing_is_refused(run, docs, query, capsys):
    assert search(["--run", str(run), "--docs", str(docs), query]) == 2
    assert "query 1 is empty, or shows nothing" in capsys.readouterr().err


def test_long_lines_and_queries_are_counted(run, docs, capsys):
    docs.write_text(docs.read_text("utf-8") + "sun cat " * 40 + "\n", "utf-8")
    assert search(["--run", str(run), "--docs", str(docs), "Paka", "paka mvua " * 30]) == 0
    err = capsys.readouterr().err
    assert "1 of 2 queries is longer than 32 tokens; only the beginning is encoded\n" in err
    assert "1 of 9 lines is longer than 32 tokens; only the beginning is encoded\n" in err


# ---- eval --------------------------------------------------------------------------------------------------------


def test_an_evaluation_in_an_unknown_language_is_refused(run, tmp_path, capsys):
    folder = collection(tmp_path / "set", numbered(GEORGIAN), numbered(english for english, _ in PAIRS))
    assert evaluate(["--run", str(run), "--collection", str(folder)]) == 3
    assert re.search(r"ka queries, student: 100.0% .*--student.vocabulary train", capsys.readouterr().err)
    assert evaluate(["--model", str(run / "teacher"), "--collection", str(folder), "--max-unknown", "1"]) == 0
    assert "warning: ka queries, model: 100.0%" in capsys.readouterr().err


def test_documents_in_an_unknown_language_are_refused(run, tmp_path, capsys):
    folder = collection(tmp_path / "set", numbered(foreign for _, foreign in PAIRS[:5]), numbered(GEORGIAN))
    assert evaluate(["--run", str(run), "--collection", str(folder)]) == 3
    assert re.search(r"documents: 100.0% .* use a model that reads them", capsys.readouterr().err)


def test_a_document_that_shows_nothing_has_no_text(run, tmp_path, capsys):
    documents = numbered(english for english, _ in PAIRS) | {"x": "\u200b\u200d\x02"}
    folder = collection(tmp_path / "set", numbered(foreign for _, foreign in PAIRS[:5]), documents)
    assert evaluate(["--run", str(run), "--collection", str(folder)]) == 3
    assert "corpus.jsonl:9: document 'x' has no text" in capsys.readouterr().err


def test_truncated_texts_are_in_the_metrics_and_in_the_terminal(run, tmp_path, capsys):
    """Two of eight documents and one of five queries have more than 32 tokens."""
    documents = numbered(english for english, _ in PAIRS) | {"n6": "the cat " * 30, "n7": "the sun " * 30}
    queries = numbered(foreign for _, foreign in PAIRS[:5]) | {"n4": "paka mvua " * 30}
    folder = collection(tmp_path / "set", queries, documents)
    assert evaluate(["--run", str(run), "--collection", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "2 of 8 documents are longer than 32 tokens; only the beginning is encoded\n" in out
    assert "1 of 5 ka queries is longer than 32 tokens; only the beginning is encoded\n" in out
    found = json.loads((run / "eval" / "set-dev" / "metrics.json").read_text("utf-8"))["truncated"]
    assert found == {
        "documents": {"texts": 8, "truncated": 2, "max_length": 32},
        "queries": {"ka": {"texts": 5, "truncated": 1, "max_length": 32}},
    }


# ---- align, lexicon, mine ----------------------------------------------------------------------------------------


def test_pairs_of_unknown_words_are_not_aligned(run, tmp_path, capsys):
    assert align(["--run", str(run), GEORGIAN[0], "The sun rises"]) == 3
    assert "the foreign text: the tokenizer knows no word of" in capsys.readouterr().err
    assert align(["--run", str(run), "Jua linachomoza", GEORGIAN[0]]) == 3
    assert "the English text: the tokenizer knows no word of" in capsys.readouterr().err
    (tmp_path / "ka.tsv").write_text(f"The sun rises\t{GEORGIAN[0]}\nThe cat sleeps\t{GEORGIAN[1]}\n", "utf-8")
    assert align(["--run", str(run), "--bitext", f"ka={tmp_path / 'ka.tsv'}"]) == 3
    assert re.search(r"ka, foreign texts: 100.0% of the tokens .*'მზე', 'ამოდის'", capsys.readouterr().err)
    # With gold links the metrics show it: a warning.
    (tmp_path / "gold").write_text("0-0 1-0 2-1\n0-0 1-0 2-1\n", "utf-8")
    gold = ["--gold", str(tmp_path / "gold"), "--out", str(tmp_path / "q.json")]
    assert align(["--run", str(run), "--bitext", f"ka={tmp_path / 'ka.tsv'}", *gold]) == 0
    assert "warning: ka, foreign texts: 100.0%" in capsys.readouterr().err


def test_a_lexicon_of_unknown_words_is_not_counted(run, tmp_path, capsys):
    other = make_run(tmp_path / "b", seed=0)
    (tmp_path / "sw.train.tsv").write_text(
        "\n".join(f"{a}\t{b}" for a, b in zip(ENGLISH, GEORGIAN, strict=True)) + "\n", "utf-8"
    )
    assert lexicon(["--run", str(other)]) == 3
    assert "sw, foreign texts: 100.0%" in capsys.readouterr().err


def test_negatives_are_not_mined_in_an_unknown_language(tmp_path, capsys):
    folder = collection(tmp_path / "set", numbered(GEORGIAN), numbered(ENGLISH))
    judged = ["--train", str(folder / "qrels" / "dev.tsv"), "--collection", str(folder), "--language", "ka"]
    out = ["--out", str(tmp_path / "out.tsv")]
    assert mine([*judged, *out, "--by", str(TINY)]) == 3
    assert re.search(r"queries: 100.0% .*--by, or allow it by --max-unknown 1", capsys.readouterr().err)
    assert mine([*judged, *out, "--by", "bm25"]) == 0

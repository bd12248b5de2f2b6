"""eval.py from flags to files: runs, models, comparisons, what is printed, and the exit codes."""

import dataclasses
import io
import json
import re
from pathlib import Path

import ir_measures
import jax
import numpy as np
import pytest
from rich.console import Console

from optical_jax import __main__ as package_main
from optical_jax.commands.evaluate import main
from optical_jax.commands.evaluate import parse as evaluate_parse
from optical_jax.config import CheckpointConfig, Config, DataConfig, EncoderConfig, HeadConfig, TowerConfig, to_json
from optical_jax.data.tokenization import train_vocabulary
from optical_jax.evaluation.evaluate import evaluate_run
from optical_jax.evaluation.report import print_evaluation
from optical_jax.evaluation.texts import read_task
from optical_jax.models.formats.export import save_tower
from optical_jax.models.late_interaction import tower_specs
from optical_jax.params import init_params
from optical_jax.retrieval.metrics import METRICS
from optical_jax.runs.checkpoint import Checkpoints
from optical_jax.runs.load import load
from optical_jax.towers.tower import encode

PAIRS = [
    ("The sun rises in the east.", "Jua linachomoza mashariki."),
    ("The cat sleeps on the mat.", "Paka analala kwenye mkeka."),
    ("Children play near the river.", "Watoto wanacheza karibu na mto."),
    ("The teacher reads a book.", "Mwalimu anasoma kitabu."),
    ("Rain falls on the mountain.", "Mvua inanyesha mlimani."),
    ("My mother cooks rice.", "Mama yangu anapika wali."),
    ("The bird sings in the morning.", "Ndege anaimba asubuhi."),
    ("We walk to the market.", "Tunatembea kwenda sokoni."),
]
STEP = 3


def write_jsonl(path: Path, rows: dict[str, str]) -> None:
    lines = [json.dumps({"_id": key, "text": text}) for key, text in rows.items()]
    path.write_text("\n".join(lines) + "\n", "utf-8")


def make_run(folder: Path, seed: int) -> Path:
    """A run as training leaves it: a teacher, a student before and after, all of them random."""
    english, foreign = zip(*PAIRS, strict=True)
    (folder.parent / "sw.train.tsv").write_text("\n".join(map("\t".join, PAIRS)) + "\n", "utf-8")
    encoder = EncoderConfig(vocab_size=120, width=16, layers=1, heads=2, mlp_width=32, max_positions=32)
    cfg = TowerConfig(encoder, HeadConfig(projection=8, query_length=32, document_length=32))
    drawn = [init_params(tower_specs(cfg), jax.random.key(seed + n)) for n in range(3)]
    save_tower(drawn[0], cfg, train_vocabulary(english, 120, True), folder / "teacher")
    save_tower(drawn[1], cfg, train_vocabulary(foreign, 120, True), folder / "student")
    config = to_json(Config(run=str(folder), data=DataConfig(bitext=(str(folder.parent / "sw.train.tsv"),))))
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    add_checkpoint(folder, STEP, drawn[2])
    return folder


def add_checkpoint(folder: Path, step: int, params) -> None:
    with Checkpoints(folder / "checkpoints", CheckpointConfig()) as checkpoints:
        checkpoints.save(step, params, {"count": np.zeros(1)}, data={"next": 0}, config={"seed": 0}, best_metric=None)
        checkpoints.wait()


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("runs")
    return make_run(folder / "a", seed=0), make_run(folder / "b", seed=10)


def make_parallel(folder: Path) -> Path:
    """Swahili sentences look for their English ones; German stands in with the English words shuffled."""
    (folder / "qrels").mkdir(parents=True)
    ids = [f"s{n}" for n in range(len(PAIRS))]
    write_jsonl(folder / "corpus.jsonl", {i: english for i, (english, _) in zip(ids, PAIRS, strict=True)})
    write_jsonl(folder / "queries.sw.jsonl", {i: foreign for i, (_, foreign) in zip(ids, PAIRS, strict=True)})
    write_jsonl(folder / "queries.de.jsonl", {i: english[::-1] for i, (english, _) in zip(ids, PAIRS, strict=True)})
    (folder / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(f"{i}\t{i}\t1\n" for i in ids))
    return folder


def make_questions(folder: Path) -> Path:
    """Questions in Swahili and English over the same documents, graded; q2 is in Swahili alone, q3 is not judged."""
    (folder / "qrels").mkdir(parents=True)
    write_jsonl(folder / "corpus.jsonl", {f"d{n}": english for n, (english, _) in enumerate(PAIRS)})
    write_jsonl(folder / "queries.sw.jsonl", {f"q{n}": PAIRS[n][1] for n in range(4)})
    write_jsonl(folder / "queries.en.jsonl", {f"q{n}": PAIRS[n][0] for n in (0, 1, 3)})
    (folder / "qrels" / "test.tsv").write_text(
        "query-id\tcorpus-id\tscore\nq0\td0\t2\nq0\td5\t1\nq1\td1\t1\nq2\td2\t1\nq2\td0\t0\n"
    )
    return folder


@pytest.fixture(scope="module")
def parallel(tmp_path_factory) -> Path:
    return make_parallel(tmp_path_factory.mktemp("data") / "parallel")


@pytest.fixture(scope="module")
def questions(tmp_path_factory) -> Path:
    return make_questions(tmp_path_factory.mktemp("data") / "questions")


def read(path: Path):
    return json.loads(path.read_text("utf-8"))


def best_documents(queries, documents) -> np.ndarray:
    """The document with the highest score of each query, by NumPy."""
    scores = [
        [np.max(q[qm] @ d[dm].T, axis=1).sum() for d, dm in zip(documents.vectors, documents.mask, strict=True)]
        for q, qm in zip(queries.vectors, queries.mask, strict=True)
    ]
    return np.argmax(scores, axis=1)


def test_a_run_beside_its_references(runs, parallel, tmp_path, capsys):
    run, out = runs[0], tmp_path / "deep" / "metrics.json"
    assert main(["--run", str(run), "--collection", str(parallel), "--lang", "sw", "de", "--out", str(out)]) == 0
    folder = run / "eval" / "parallel-dev"
    names = ["curves.png", "metrics.json", "per_query.jsonl", "run.de.trec", "run.sw.trec"]
    assert sorted(p.name for p in folder.iterdir()) == names
    assert max(names, key=lambda name: (folder / name).stat().st_mtime_ns) == "metrics.json"
    figures = read(folder / "metrics.json")
    assert read(out) == figures
    assert (figures["collection"], figures["split"], figures["scoring"]) == ("parallel", "dev", "maxsim")
    assert figures["checkpoint"] == STEP
    assert set(figures["languages"]["sw"]) == {*METRICS, "queries"}
    assert figures["languages"]["sw"]["queries"] == len(PAIRS)
    assert set(figures["references"]) == {"untrained", "fused", "dictionary", "bm25"}
    for metric in METRICS:
        low, high = figures["languages"]["sw"][metric], figures["languages"]["de"][metric]
        assert figures["groups"]["gap"][metric] == pytest.approx(high - low)
    # The text of every training pair stands in the collection.
    assert figures["shared_with_training"] == {"sw": len(PAIRS)}

    english, foreign = zip(*PAIRS, strict=True)
    documents = encode(load(run, side="document"), english)
    for which, ours in (("last", figures["languages"]), ("untrained", figures["references"]["untrained"])):
        queries = encode(load(run, checkpoint=which), foreign)
        assert ours["sw"]["R@1"] == np.mean(best_documents(queries, documents) == np.arange(len(PAIRS)))
    assert figures["references"]["bm25"]["sw"]["AP"] == 0.0

    trec = list(ir_measures.read_trec_run(str(folder / "run.sw.trec")))
    qrels = {f"s{n}": {f"s{n}": 1} for n in range(len(PAIRS))}
    again = ir_measures.calc_aggregate([ir_measures.AP], qrels, trec)[ir_measures.AP]
    assert figures["languages"]["sw"]["AP"] == pytest.approx(again)
    rows = [json.loads(line) for line in (folder / "per_query.jsonl").read_text("utf-8").splitlines()]
    # The dictionary knows Swahili alone, which the run was trained on: here on these very pairs.
    assert len(rows) == (3 * 2 + 2) * len(PAIRS)
    assert set(figures["references"]["dictionary"]) == set(figures["references"]["fused"]) == {"sw"}
    assert figures["references"]["dictionary"]["sw"]["AP"] == 1.0
    mean = np.mean([r["AP"] for r in rows if (r["system"], r["language"]) == ("untrained", "de")])
    assert figures["references"]["untrained"]["de"]["AP"] == pytest.approx(mean)

    printed = capsys.readouterr().out
    assert "trivial: query and document are the same sentence" in printed
    assert f"curves: {folder}/curves.png\n" in printed
    assert max(map(len, printed[printed.index("lang") : printed.index("trivial:")].splitlines())) <= 80
    assert "\x1b" not in printed


def test_a_picture_that_fails_takes_no_result_with_it_but_a_full_disk_is_told(runs, parallel, caplog):
    folder = runs[1] / "eval" / "parallel-dev"
    command = ["--run", str(runs[1]), "--collection", str(parallel), "--lang", "sw"]
    (folder / "curves.png").mkdir(parents=True)
    assert main(command) == 0
    assert (folder / "metrics.json").is_file()
    assert "curves.png could not be plotted; all other files are complete: IsADirectoryError" in caplog.text
    (folder / "curves.png").rmdir()
    (folder / "curves.png.new").symlink_to("/dev/full")
    assert main(command) == 5
    assert not (folder / "metrics.json").exists()
    assert main(command) == 0


def test_the_teacher_is_asked_in_english_where_the_collection_can(runs, questions, capsys):
    """Of the three judged Swahili questions English has two; bm25 on the Swahili words finds nothing."""
    command = ["--run", str(runs[1]), "--collection", str(questions), "--split", "test", "--lang", "sw"]
    assert main([*command, "--checkpoint", str(STEP)]) == 0
    figures = read(runs[1] / "eval" / "questions-test" / "metrics.json")
    assert figures["languages"]["sw"]["queries"] == 3
    assert figures["references"]["teacher"]["sw"]["queries"] == 2
    assert figures["groups"]["gap"] is None
    assert figures["groups"]["high"] is None
    teacher = load(runs[1], side="document")
    queries = encode(dataclasses.replace(teacher, side="query"), [PAIRS[0][0], PAIRS[1][0]])
    documents = encode(teacher, [english for english, _ in PAIRS])
    first, second = best_documents(queries, documents)
    # The first question has two relevant documents.
    expected = ((first in (0, 5)) / 2 + (second == 1)) / 2
    assert figures["references"]["teacher"]["sw"]["R@1"] == pytest.approx(expected)
    assert "trivial" not in capsys.readouterr().out


def test_languages_are_those_judged_unless_named(runs, questions):
    assert main(["--run", str(runs[1]), "--collection", str(questions), "--split", "test"]) == 0
    assert set(read(runs[1] / "eval" / "questions-test" / "metrics.json")["languages"]) == {"en", "sw"}


def test_pooled_scores_stand_beside(runs, parallel):
    assert main(["--run", str(runs[1]), "--collection", str(parallel), "--lang", "sw", "--scoring", "pooled"]) == 0
    folder = runs[1] / "eval" / "parallel-dev-pooled"
    assert read(folder / "metrics.json")["scoring"] == "pooled"
    english, foreign = zip(*PAIRS, strict=True)

    def means(tower, texts):
        tokens = encode(tower, texts)
        total = tokens.vectors.sum(axis=1)
        return total / np.linalg.norm(total, axis=1, keepdims=True)

    cosines = means(load(runs[1]), foreign) @ means(load(runs[1], side="document"), english).T
    found = {(r.query_id, r.doc_id): r.score for r in ir_measures.read_trec_run(str(folder / "run.sw.trec"))}
    for q, d in np.ndindex(cosines.shape):
        assert found[f"s{q}", f"s{d}"] == pytest.approx(cosines[q, d], abs=1e-6)


def test_a_model_writes_nothing_but_out(runs, questions, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = str(runs[0] / "teacher")
    before = sorted(p for p in runs[0].rglob("*"))
    command = ["--model", model, "--collection", str(questions), "--split", "test", "--lang", "en"]
    assert main(command) == 0
    assert list(tmp_path.iterdir()) == []
    assert main([*command, "--out", "m.json"]) == 0
    figures = read(tmp_path / "m.json")
    assert [p.name for p in tmp_path.iterdir()] == ["m.json"]
    assert sorted(p for p in runs[0].rglob("*")) == before
    assert set(figures["languages"]) == {"en"}
    # The English questions are the documents' own words.
    assert set(figures["references"]) == {"bm25"}
    assert figures["references"]["bm25"]["en"]["RR@10"] == 1.0
    assert figures["model"] == model


def test_blemishes_of_a_collection_change_no_metric(runs, parallel, tmp_path, capsys):
    """Repeats need no flag. Bad lines need one, which the message names; both are counted in metrics.json."""
    command = ["--model", str(runs[0] / "teacher"), "--lang", "de", "--out", str(tmp_path / "m.json"), "--collection"]
    assert main([*command, str(parallel)]) == 0
    clean = read(tmp_path / "m.json")
    assert clean["left_out"] == {}
    folder = make_parallel(tmp_path / "parallel")

    def append(name: str, text: str) -> None:
        with (folder / name).open("a", encoding="utf-8") as file:
            file.write(text)

    append("corpus.jsonl", json.dumps({"_id": "s3", "text": PAIRS[3][0]}) + "\n")
    append("qrels/dev.tsv", "s3\ts3\t1\n")
    capsys.readouterr()
    assert main([*command, str(folder)]) == 0
    found = read(tmp_path / "m.json")
    assert found.pop("left_out") == {"repeated_documents": 1, "repeated_judgements": 1}
    assert "left out of parallel: repeated documents 1, repeated judgements 1\n" in capsys.readouterr().out
    names = ("languages", "references", "groups", "baselines")
    assert {name: found[name] for name in names} == {name: clean[name] for name in names}

    append("corpus.jsonl", json.dumps({"_id": "s9", "title": "", "text": ""}) + "\n")
    append("qrels/dev.tsv", "s3\ts9\t1\ns4\tnowhere\t1\n")
    assert main([*command, str(folder)]) == 3
    told = capsys.readouterr().err
    assert told.startswith(f"error: {folder}/corpus.jsonl:10: document 's9' has no text; ")
    assert told.endswith("leave out up to N such lines with --max-bad-lines N\n")
    assert main([*command, str(folder), "--max-bad-lines", "2"]) == 3
    assert (
        "dev.tsv:12: document 'nowhere' is not in the corpus (bad line 3, max_bad_lines=2)" in capsys.readouterr().err
    )
    assert main([*command, str(folder), "--max-bad-lines", "3"]) == 0
    found = read(tmp_path / "m.json")
    assert found["left_out"]["documents_without_text"] == 1
    assert found["left_out"]["judgements_of_absent_documents"] == 2
    assert {name: found[name] for name in names} == {name: clean[name] for name in names}


def test_grades_of_minus_two_alone_count_as_zero(runs, parallel, tmp_path):
    """Eight queries, each relevant to its own document; that of the last is now judged -2."""
    folder = make_parallel(tmp_path / "parallel")
    qrels = (folder / "qrels" / "dev.tsv").read_text("utf-8").replace("s7\ts7\t1", "s7\ts7\t-2")
    (folder / "qrels" / "dev.tsv").write_text(qrels, "utf-8")
    command = ["--model", str(runs[0] / "teacher"), "--lang", "sw", "--out", str(tmp_path / "m.json"), "--collection"]
    assert main([*command, str(folder)]) == 0
    found = read(tmp_path / "m.json")["languages"]["sw"]
    assert found["queries"] == len(PAIRS)
    # Of the other seven the metrics are as they were, and the eighth adds nothing to their sums.
    seven = make_parallel(tmp_path / "seven")
    (seven / "qrels" / "dev.tsv").write_text(qrels.replace("s7\ts7\t-2\n", ""), "utf-8")
    assert main([*command, str(seven)]) == 0
    of_seven = read(tmp_path / "m.json")["languages"]["sw"]
    assert {metric: found[metric] * 8 for metric in METRICS} == pytest.approx({m: of_seven[m] * 7 for m in METRICS})


@pytest.fixture(scope="module")
def arguments(tmp_path_factory) -> Path:
    """As ArguAna: each query is a document itself, and another document answers it; only s3 is to find itself."""
    folder = tmp_path_factory.mktemp("data") / "arguments"
    (folder / "qrels").mkdir(parents=True)
    write_jsonl(folder / "corpus.jsonl", {f"s{n}": english for n, (english, _) in enumerate(PAIRS)})
    write_jsonl(folder / "queries.sw.jsonl", {f"s{n}": PAIRS[n][1] for n in range(4)})
    write_jsonl(folder / "queries.en.jsonl", {f"s{n}": PAIRS[n][0] for n in range(4)})
    rows = ["query-id\tcorpus-id\tscore", "s0\ts1\t1", "s1\ts0\t1", "s2\ts5\t1", "s3\ts3\t1"]
    (folder / "qrels" / "dev.tsv").write_text("\n".join(rows) + "\n", "utf-8")
    return folder


def test_a_query_is_not_found_in_its_own_ranking_unless_it_is_judged(runs, arguments, capsys):
    """For every system. In English the own document would be the first one; without it the answer's rank is known."""
    command = evaluate_parse(["--run", str(runs[1]), "--collection", str(arguments), "--lang", "sw", "en"])
    task = read_task(command)
    assert "left out of arguments: documents that are the query 6\n" in capsys.readouterr().out
    found = evaluate_run(command, task, runs[1]).found
    assert set(found) == {"student", "untrained", "teacher", "fused", "dictionary", "bm25"}
    for system, languages in found.items():
        for language, directions in languages.items():
            ranked = directions["t2d"].ranking.documents
            for n in range(3):
                assert n not in ranked[n], (system, language)
    assert 3 in found["student"]["sw"]["t2d"].ranking.documents[3]
    assert found["bm25"]["en"]["t2d"].per_query["s3"]["R@1"] == 1.0

    teacher = load(runs[1], side="document")
    queries = encode(dataclasses.replace(teacher, side="query"), [PAIRS[n][0] for n in range(4)])
    documents = encode(teacher, [english for english, _ in PAIRS])
    for n, answer in enumerate((1, 0, 5, 3)):
        scores = [
            np.max(queries.vectors[n][queries.mask[n]] @ d[dm].T, axis=1).sum()
            for d, dm in zip(documents.vectors, documents.mask, strict=True)
        ]
        better = sum(score > scores[answer] for m, score in enumerate(scores) if m != n or n == 3)
        assert found["teacher"]["en"]["t2d"].per_query[f"s{n}"]["AP"] == pytest.approx(1 / (1 + better)), n

    both = [found[system]["sw"]["t2d"].ranking for system in ("student", "dictionary")]
    by_hand = [{} for _ in range(4)]
    for ranking in both:
        for n, row in enumerate(ranking.documents):
            for rank, d in enumerate(row[row >= 0].tolist(), start=1):
                by_hand[n][d] = by_hand[n].get(d, 0.0) + 1 / (60 + rank)
    fused = found["fused"]["sw"]["t2d"].ranking
    for n, scores in enumerate(by_hand):
        row = fused.documents[n]
        assert {d: s for d, s in zip(row.tolist(), fused.scores[n].tolist(), strict=True) if d >= 0} == pytest.approx(
            scores
        )

    folder = runs[1] / "eval" / "arguments-dev"
    lines = [line.split() for line in (folder / "run.sw.trec").read_text("utf-8").splitlines()]
    assert not [line for line in lines if line[0] == line[2] != "s3"]
    assert [line[3] for line in lines if line[0] == "s0"] == [str(rank) for rank in range(1, 8)]
    assert read(folder / "metrics.json")["left_out"] == {"documents_that_are_the_query": 6}


def test_a_comparison_evaluates_anew_what_an_older_version_left_in(runs, arguments):
    command = ["--compare", *map(str, runs), "--collection", str(arguments), "--lang", "sw"]
    assert main(command) == 0
    path = runs[0] / "eval" / "arguments-dev" / "metrics.json"
    found, written = read(path), path.stat().st_mtime_ns
    assert main(command) == 0
    assert path.stat().st_mtime_ns == written
    path.write_text(json.dumps({name: value for name, value in found.items() if name != "left_out"}), "utf-8")
    assert main(command) == 0
    assert read(path) == found


def test_comparison_of_two_runs(runs, parallel, tmp_path, capsys):
    """What was evaluated is not evaluated again; a newer checkpoint is."""
    folder = runs[0] / "eval" / "parallel-dev"
    command = ["--compare", *map(str, runs), "--collection", str(parallel), "--lang", "sw"]
    assert main(["--run", str(runs[0]), "--collection", str(parallel), "--lang", "sw", "de"]) == 0
    written = (folder / "metrics.json").stat().st_mtime_ns
    assert main([*command, "--out", str(tmp_path / "c.json")]) == 0
    assert (folder / "metrics.json").stat().st_mtime_ns == written
    content = read(tmp_path / "c.json")
    assert [(t["language"], t["metric"]) for t in content["tests"]] == [("sw", metric) for metric in METRICS]
    means = [read(run / "eval" / "parallel-dev" / "metrics.json")["languages"]["sw"] for run in runs]
    for test in content["tests"]:
        a, b = (figures[test["metric"]] for figures in means)
        assert test["difference"] == pytest.approx(b - a)
        assert test["p_randomisation"] <= test["p_randomisation_holm"] <= 1
    printed = capsys.readouterr().out
    assert f"B = {runs[1]}, checkpoint {STEP}" in printed

    add_checkpoint(runs[0], STEP + 1, load(runs[0], checkpoint="untrained").params)
    assert main(command) == 0
    newer = read(folder / "metrics.json")
    assert newer["checkpoint"] == STEP + 1
    assert newer["languages"]["sw"] == newer["references"]["untrained"]["sw"]


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        ([], 2, "none of --run, --model, --compare given"),
        (["--run", "RUN", "--model", "x"], 2, "run and model of --run, --model, --compare given; give exactly one"),
        (["--compare", "RUN"], 2, "has 1 runs; give two"),
        (["--run", "RUN", "--checkpoint", "newest"], 2, "checkpoint=newest"),
        (["--run", "RUN", "--checkpoint", "99"], 2, "has no checkpoint 99"),
        (["--run", "RUN", "--batch-size", "0"], 2, "batch_size=0"),
        (["--run", "RUN", "--max-bad-lines", "-1"], 2, "max_bad_lines=-1 is not valid; use 0 or more"),
        (["--run", "RUN", "--translations", "mt.tsv"], 2, "translations=mt.tsv is not valid; use LANG=FILE"),
        (["--run", "RUN", "--translations", "sw=a", "sw=b"], 2, "translations names sw twice"),
        (["--run", "RUN", "--translations", "fr=a"], 2, "has judged queries in de, sw"),
        (["--run", "RUN", "--translations", "sw=nowhere.tsv"], 3, "nowhere.tsv: no such file"),
        (["--run", "RUN", "--translations", "sw=FEW"], 3, "lacks 7 of the judged sw queries, such as 's1'"),
        (["--compare", "RUN", "RUN", "--translations", "sw=a"], 2, "translations=sw=a belongs to --run or --model"),
        (["--run", "RUN", "--out", "."], 2, "out=. is a folder"),
        (["--run", "nowhere"], 2, "run=nowhere is not a run folder"),
        (["--model", "./nowhere"], 2, "nowhere"),
        (["--model", "RUN"], 2, "is a run; give --run"),
        (["--run", "RUN", "--split", "test"], 3, "no qrels/test.tsv; its splits: dev"),
        (["--run", "RUN", "--lang", "fr"], 3, "no queries.fr.jsonl[.gz]; its languages: de, sw"),
        (["--run", "RUN", "--collection", "nowhere"], 3, "collection nowhere does not exist"),
    ],
)
def test_errors_are_one_line_and_an_exit_code(runs, parallel, capsys, flags, code, message):
    (runs[1].parent / "few.tsv").write_text("s0\tThe sun\n", "utf-8")
    known = {"RUN": str(runs[1]), "sw=FEW": f"sw={runs[1].parent / 'few.tsv'}"}
    flags = [known.get(flag, flag) for flag in flags]
    assert main(["--collection", str(parallel), *flags]) == code
    printed = capsys.readouterr().err
    assert printed.startswith("error: ")
    assert message in printed
    assert printed.count("\n") == 1


def test_unknown_flag_is_exit_2(capsys):
    with pytest.raises(SystemExit) as exit:
        main(["--collection", "x", "--nonsense", "1"])
    assert exit.value.code == 2


def test_package_as_a_program(capsys):
    assert package_main.main([]) == 0
    assert "eval" in capsys.readouterr().out
    assert package_main.main(["nonsense"]) == 2
    assert "available: demo, train, eval" in capsys.readouterr().err
    assert package_main.main(["eval", "--collection", "x"]) == 2


def test_table_fits_a_terminal_and_no_color_is_honoured(runs, parallel, monkeypatch):
    from optical_jax.commands import evaluate

    seen = []
    monkeypatch.setattr("optical_jax.evaluation.report.print_evaluation", lambda *a: seen.append(a))
    assert evaluate.main(["--run", str(runs[1]), "--collection", str(parallel)]) == 0
    monkeypatch.setenv("NO_COLOR", "1")
    for width in (80, 60):
        file = io.StringIO()
        print_evaluation(*seen[0], Console(file=file, force_terminal=True, width=width))
        printed = file.getvalue()
        assert "\x1b[1m" in printed
        assert not re.search(r"\x1b\[[0-9;]*3[0-9]", printed), "a colour"
        table = re.sub(r"\x1b\[[0-9;]*m", "", printed)
        # Rich shortens a cell that does not fit, ending it in this sign.
        assert "…" not in table
        assert ("P@10" in table) == (width == 80)
    first = [line.split()[0] for line in table.splitlines() if line.strip()]
    assert first[first.index("low") :][:3] == ["low", "high", "gap"]

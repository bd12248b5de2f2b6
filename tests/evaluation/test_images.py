"""eval.py on pictures: figures by NumPy, both ways, from flags to files; what is refused; captions as texts."""

import io
import json
import re
import shutil
from pathlib import Path

import ir_measures
import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from optical_jax.commands.evaluate import main
from optical_jax.data.pixels import picture_pixels
from optical_jax.evaluation.report import print_evaluation
from optical_jax.export.student_card import evaluation
from optical_jax.retrieval.image_search import search_both_ways
from optical_jax.retrieval.significance import holm
from optical_jax.runs.load import load
from optical_jax.towers.tower import encode
from tests.commands.test_evaluate import STEP, add_checkpoint, make_parallel
from tests.helpers.image_runs import (
    CAPTIONS,
    NAMES,
    RECIPE,
    make_pair,
    make_set,
    make_student_run,
    make_teacher_run,
    picture,
    write_captions,
    write_images,
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("runs")
    return make_student_run(folder / "a", seed=0), make_student_run(folder / "b", seed=20)


@pytest.fixture(scope="module")
def teacher_run(tmp_path_factory) -> Path:
    return make_teacher_run(tmp_path_factory.mktemp("runs") / "pair", seed=40)


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> Path:
    return make_pair(tmp_path_factory.mktemp("pairs") / "pair", seed=60)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    return make_set(tmp_path_factory.mktemp("sets") / "drawn")


def read(path: Path):
    return json.loads(path.read_text("utf-8"))


def token_rows(tower, given) -> list[np.ndarray]:
    found = encode(tower, given)
    return [vectors[mask] for vectors, mask in zip(found.vectors, found.mask, strict=True)]


def image_rows(tower) -> list[np.ndarray]:
    return token_rows(tower, np.stack([picture_pixels(picture(n), RECIPE) for n in range(len(NAMES))]))


def mean_vector(rows: np.ndarray) -> np.ndarray:
    total = rows.astype(float).sum(axis=0, keepdims=True)
    return total / np.linalg.norm(total)


def success(scores: np.ndarray, right: list[set[int]]) -> dict[str, float]:
    """R@k as the share of queries with a right one among the first k, by a loop."""
    ranks = []
    for row, wanted in zip(scores, right, strict=True):
        order = sorted(range(len(row)), key=lambda n: -row[n])
        ranks.append(1 + min(order.index(n) for n in wanted))
    return {f"R@{k}": float(np.mean([rank <= k for rank in ranks])) for k in (1, 5, 10)} | {
        "mean_rank": float(np.mean(ranks)),
        "median_rank": float(np.median(ranks)),
    }


def expected(text, image, rows, *, pooled=False) -> dict[str, float]:
    """Both ways, by NumPy, of captions (picture, text, id) among all pictures."""
    captions, pictures = token_rows(text, [text for _, text, _ in rows]), image_rows(image)
    if pooled:
        captions, pictures = [mean_vector(x) for x in captions], [mean_vector(x) for x in pictures]
    place = [NAMES.index(name) for name, _, _ in rows]
    t2i = np.array([[(c @ p.T).max(axis=1).sum() for p in pictures] for c in captions])
    asking = sorted(set(place))
    i2t = np.array([[(pictures[n] @ c.T).max(axis=1).sum() for c in captions] for n in asking])
    found = {f"t2i {k}": x for k, x in success(t2i, [{n} for n in place]).items()}
    right = [{row for row, n in enumerate(place) if n == asked} for asked in asking]
    found |= {f"i2t {k}": x for k, x in success(i2t, right).items()}
    return found


def agrees(figures, wanted) -> None:
    for name, value in wanted.items():
        assert figures[name] == pytest.approx(value), name
    recalls = [figures[f"{way} R@{k}"] for way in ("t2i", "i2t") for k in (1, 5, 10)]
    assert figures["rSum"] == pytest.approx(100 * sum(recalls))


# ---- a run ---------------------------------------------------------------------------------------------------------


def test_a_run_beside_its_references(runs, drawn, tmp_path, capsys):
    run, out = runs[0], tmp_path / "deep" / "metrics.json"
    assert main(["--run", str(run), "--collection", str(drawn), "--out", str(out)]) == 0
    folder = run / "eval" / "drawn-dev"
    trecs = [f"run.{language}.{way}.trec" for language in CAPTIONS for way in ("t2i", "i2t")]
    names = ["curves.png", "gallery.html", "metrics.json", "per_query.jsonl", *trecs]
    assert sorted(p.name for p in folder.iterdir()) == sorted(names)
    assert max(names, key=lambda name: (folder / name).stat().st_mtime_ns) == "metrics.json"
    figures = read(folder / "metrics.json")
    assert read(out) == figures
    assert (figures["searched"], figures["pictures"], figures["scoring"]) == ("pictures", len(NAMES), "maxsim")
    assert (figures["checkpoint"], figures["system"]) == (STEP, "student")
    assert set(figures["languages"]) == set(CAPTIONS)

    image = load(run, part="image")
    for which, ours in (("last", figures["languages"]), ("untrained", figures["references"]["untrained"])):
        for language, rows in CAPTIONS.items():
            agrees(ours[language], expected(load(run, checkpoint=which), image, rows))
    teacher = load(run, part="teacher")
    for language, rows in CAPTIONS.items():
        there = {name for name, _, _ in rows}
        english = [row for row in CAPTIONS["en"] if row[0] in there]
        agrees(figures["references"]["teacher"][language], expected(teacher, image, english))
    assert figures["languages"]["sw"]["t2i queries"] == 6
    assert figures["languages"]["sw"]["i2t queries"] == 5
    gap = figures["groups"]["gap"]["rSum"]
    high = np.mean([figures["languages"][language]["rSum"] for language in ("en", "de")])
    assert gap == pytest.approx(high - figures["languages"]["sw"]["rSum"])

    printed = capsys.readouterr().out
    assert f"gallery: {folder}/gallery.html\ncurves: {folder}/curves.png\n" in printed
    assert max(map(len, printed[printed.index("lang") : printed.index("gallery: ")].splitlines())) <= 80
    assert "\x1b" not in printed


def test_files_hold_what_was_found(runs, drawn):
    folder = runs[0] / "eval" / "drawn-dev"
    if not folder.is_dir():
        assert main(["--run", str(runs[0]), "--collection", str(drawn)]) == 0
    figures = read(folder / "metrics.json")
    trec = list(ir_measures.read_trec_run(str(folder / "run.sw.t2i.trec")))
    ids = {caption or name: name for name, _, caption in CAPTIONS["sw"]}
    qrels = {caption: {name: 1} for caption, name in ids.items()}
    again = ir_measures.calc_aggregate([ir_measures.Success @ 1, ir_measures.Success @ 5], qrels, trec)
    assert [again[m] for m in (ir_measures.Success @ 1, ir_measures.Success @ 5)] == pytest.approx(
        [figures["languages"]["sw"][f"t2i R@{k}"] for k in (1, 5)]
    )
    assert len(trec) == len(ids) * len(NAMES)
    back = list(ir_measures.read_trec_run(str(folder / "run.sw.i2t.trec")))
    answers = {name: {caption: 1 for caption, of in ids.items() if of == name} for name in NAMES[:5]}
    reverse = ir_measures.calc_aggregate([ir_measures.Success @ 1], answers, back)[ir_measures.Success @ 1]
    assert reverse == pytest.approx(figures["languages"]["sw"]["i2t R@1"])

    rows = [json.loads(line) for line in (folder / "per_query.jsonl").read_text("utf-8").splitlines()]
    own = [row for row in rows if (row["system"], row["language"]) == ("student", "sw")]
    assert {(row["query"], row["picture"]) for row in own if row["way"] == "t2i"} == set(ids.items())
    assert {row["query"] for row in own if row["way"] == "i2t"} == set(NAMES[:5])
    page = (folder / "gallery.html").read_text("utf-8")
    assert page.count("<article>") == sum(len(captions) for captions in CAPTIONS.values())
    assert "drawn, dev: student of a, checkpoint 3" in page

    # A model card shows them in one table, and beside it what of them was learned from: all but the last of the pairs
    # share a text with a caption, of which English ones are of p0 to p5, and Swahili ones of p0 to p4 and a second.
    head, table, *told = evaluation(figures)
    assert told == [
        "Training pairs that share a text with its captions: sw 7.",
        "Of its 6 pictures the student was shown 0.",
    ]
    assert head == "### drawn, dev, maxsim"
    assert "| language | system | captions | t2i R@1 | i2t R@1 | rSum |" in table
    assert f"| sw | student | 6 | {figures['languages']['sw']['t2i R@1']:.3f} |" in table

    # The variance of ranks, over the pictures that every language asks for.
    ranks = {
        (row["language"], row["query"]): row["rank"]
        for row in rows
        if (row["system"], row["way"]) == ("student", "i2t")
    }
    table = np.array([[ranks[language, name] for name in NAMES[:5]] for language in CAPTIONS])
    variance = figures["rank_variance"]["student"]["i2t"]
    assert variance == pytest.approx({"MRV": table.var(axis=0).mean(), "languages": 3, "pictures": 5})


def test_names_with_spaces_are_ids_without_in_files_and_names_in_the_gallery(runs, tmp_path):
    write_images(tmp_path / "spaced" / "images.dev", ["my cat", "my dog", "p2"])
    rows = [("my cat", "a cat", ""), ("my dog", "a dog", "dog 1"), ("p2", "a house", "")]
    folder = write_captions(tmp_path / "spaced", {"en": rows, "sw": rows})
    assert main(["--run", str(runs[1]), "--collection", str(folder), "--lang", "sw"]) == 0
    found = runs[1] / "eval" / "spaced-dev"
    lines = [line.split() for line in (found / "run.sw.t2i.trec").read_text().splitlines()]
    assert {len(line) for line in lines} == {6}
    assert {line[0] for line in lines} == {"my%20cat", "dog%201", "p2"}
    assert {line[2] for line in lines} == {"my%20cat", "my%20dog", "p2"}
    page = (found / "gallery.html").read_text()
    assert "my cat" in page
    assert "my%20cat" not in page


def test_references_are_tested_by_picture(runs, drawn):
    """The paired t-test by SciPy over pictures, p1's two captions as their mean; Holm over all languages and ways."""
    folder = runs[0] / "eval" / "drawn-dev"
    if not folder.is_dir():
        assert main(["--run", str(runs[0]), "--collection", str(drawn)]) == 0
    rows = [json.loads(line) for line in (folder / "per_query.jsonl").read_text("utf-8").splitlines()]
    sums: dict = {}
    for row in rows:
        key = row["system"], row["language"], row["way"], row["picture"]
        sums.setdefault(key, []).append(row["R@1"] + row["R@5"] + row["R@10"])
    tests = {row["system"]: row["tests"] for row in read(folder / "metrics.json")["baselines"]}
    assert list(tests) == ["untrained", "teacher"]
    raw = []
    for name, found in tests.items():
        for test in found:
            cell = test["language"], test["way"]
            asked = [picture for s, *c, picture in sums if s == "student" and tuple(c) == cell]
            differences = np.array([np.mean(sums["student", *cell, p]) - np.mean(sums[name, *cell, p]) for p in asked])
            assert test["pictures"] == len(differences) == (5 if cell[0] == "sw" else 6)
            assert test["difference"] == pytest.approx(differences.mean())
            p = 1.0 if not differences.any() else stats.ttest_1samp(differences, 0.0).pvalue
            if np.ptp(differences):
                assert test["p_ttest"] == pytest.approx(p)
            raw.append(test["p_ttest"])
    adjusted = [test["p_ttest_holm"] for found in tests.values() for test in found]
    assert adjusted == pytest.approx(holm(np.array(raw)).tolist())


def test_a_teacher_run_trains_both_towers(teacher_run, drawn):
    assert main(["--run", str(teacher_run), "--collection", str(drawn), "--lang", "en"]) == 0
    figures = read(teacher_run / "eval" / "drawn-dev" / "metrics.json")
    assert figures["system"] == "model"
    assert set(figures["references"]) == {"untrained"}
    for which, ours in (("last", figures["languages"]), ("untrained", figures["references"]["untrained"])):
        text, image = (load(teacher_run, part=part, checkpoint=which) for part in ("text", "image"))
        agrees(ours["en"], expected(text, image, CAPTIONS["en"]))


def test_a_pair_and_a_model_beside_another_pair(pair, runs, drawn, tmp_path):
    out = tmp_path / "m.json"
    before = sorted(pair.rglob("*"))
    assert main(["--model", str(pair), "--collection", str(drawn), "--lang", "en", "--out", str(out)]) == 0
    text, image = (load(pair, part=part) for part in ("text", "image"))
    agrees(read(out)["languages"]["en"], expected(text, image, CAPTIONS["en"]))
    assert sorted(pair.rglob("*")) == before
    # A run that has no pictures of its own, and a plain model of texts.
    student = make_student_run(tmp_path / "plain", seed=80, with_image=False)
    command = ["--collection", str(drawn), "--lang", "sw", "--pictures-by", str(pair)]
    assert main(["--run", str(student), *command]) == 0
    figures = read(student / "eval" / "drawn-dev" / "metrics.json")
    assert figures["pictures_by"] == str(pair)
    agrees(figures["languages"]["sw"], expected(load(student), image, CAPTIONS["sw"]))
    assert main(["--model", str(student / "teacher"), *command, "--out", str(out)]) == 0
    agrees(read(out)["languages"]["sw"], expected(load(student, part="teacher"), image, CAPTIONS["sw"]))


@pytest.mark.parametrize(("interaction", "pooling"), [("pooled", ("none", "none")), ("tokens", ("mean", "cls"))])
def test_a_pair_is_scored_as_it_was_trained(interaction, pooling, drawn, tmp_path):
    """By mean vectors where its pair.json says so, or its towers give one."""
    pair, out = make_pair(tmp_path / "pair", 5, interaction, pooling), tmp_path / "m.json"
    assert main(["--model", str(pair), "--collection", str(drawn), "--lang", "en", "--out", str(out)]) == 0
    text, image = (load(pair, part=part) for part in ("text", "image"))
    assert read(out)["scoring"] == "pooled"
    agrees(read(out)["languages"]["en"], expected(text, image, CAPTIONS["en"], pooled=True))


def test_pooled_scores_stand_beside(runs, drawn):
    command = ["--run", str(runs[1]), "--collection", str(drawn), "--lang", "sw", "--scoring", "pooled"]
    assert main(command) == 0
    figures = read(runs[1] / "eval" / "drawn-dev-pooled" / "metrics.json")
    wanted = expected(load(runs[1]), load(runs[1], part="image"), CAPTIONS["sw"], pooled=True)
    agrees(figures["languages"]["sw"], wanted)


def test_comparison_of_two_runs(runs, drawn, tmp_path, capsys):
    """What was evaluated is not evaluated again; a newer checkpoint is."""
    run = shutil.copytree(runs[0], tmp_path / "a")
    shutil.rmtree(run / "eval", ignore_errors=True)
    command = ["--compare", str(run), str(runs[1]), "--collection", str(drawn), "--lang", "sw"]
    assert main(["--run", str(run), "--collection", str(drawn), "--lang", "sw", "de"]) == 0
    folder, out = run / "eval" / "drawn-dev", tmp_path / "c.json"
    written = (folder / "metrics.json").stat().st_mtime_ns
    assert main([*command, "--out", str(out)]) == 0
    assert (folder / "metrics.json").stat().st_mtime_ns == written
    tests = read(out)["tests"]
    assert [(t["language"], t["way"], t["metric"]) for t in tests] == [
        ("sw", way, f"R@{k}") for way in ("t2i", "i2t") for k in (1, 5, 10)
    ]
    assert {test["queries"] for test in tests} == {5}
    ours, theirs = (read(one / "eval" / "drawn-dev" / "metrics.json")["languages"]["sw"] for one in (run, runs[1]))
    for test in tests[3:]:  # every picture asks once
        name = f"i2t {test['metric']}"
        assert (test["mean_a"], test["mean_b"]) == pytest.approx((ours[name], theirs[name]))
    assert f"B = {runs[1]}, checkpoint {STEP}, maxsim" in capsys.readouterr().out

    add_checkpoint(run, STEP + 1, load(run, checkpoint="untrained").params)
    assert main(command) == 0
    newer = read(folder / "metrics.json")
    assert newer["checkpoint"] == STEP + 1
    assert newer["languages"]["sw"] == newer["references"]["untrained"]["sw"]


# ---- ranks ---------------------------------------------------------------------------------------------------------


def test_ranks_do_not_depend_on_how_many_are_made_at_a_time(monkeypatch):
    rng = np.random.default_rng(0)

    def rows(count):
        found = [rng.standard_normal((rng.integers(1, 5), 8)).astype(np.float32) for _ in range(count)]
        return [x / np.linalg.norm(x, axis=1, keepdims=True) for x in found]

    pictures = [f"i{n}" for n in range(30)]
    captions = {f"c{n}": [f"i{n % 30}"] for n in range(45)}
    vectors = rows(45), rows(30)
    whole = search_both_ways(captions, vectors[0], pictures, vectors[1])
    monkeypatch.setattr("optical_jax.retrieval.image_search.MOST_SCORES", 30 * 7)
    monkeypatch.setattr("optical_jax.retrieval.image_search.DEPTH", 4)
    parts = search_both_ways(captions, vectors[0], pictures, vectors[1])
    for a, b, count in zip(whole, parts, (45, 30), strict=True):
        assert a.queries == b.queries
        np.testing.assert_array_equal(a.ranks, b.ranks)
        np.testing.assert_array_equal(a.ranking.documents[:, :4], b.ranking.documents)
        assert len(a.ranks) == count
    scores = np.array([[(c @ p.T).max(axis=1).sum() for p in vectors[1]] for c in vectors[0]])
    own = scores[np.arange(45), np.arange(45) % 30]
    np.testing.assert_array_equal(whole[0].ranks, 1 + (scores > own[:, None]).sum(axis=1))


# ---- what is refused, and what is printed --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--run", "PLAIN"], 2, "name a dual encoder that has one with --pictures-by"),
        (["--run", "RUN", "--pictures-by", "./nowhere"], 2, "nowhere"),
        (["--run", "RUN", "--pictures-by", "TEXT"], 2, "has only the text tower"),
        (["--run", "RUN", "--pictures-by", "BARE"], 2, "preprocessor_config.json"),
        (
            ["--run", "RUN", "--pictures-by", "PAIR", "--against", "captions"],
            2,
            "no image is encoded with --against captions",
        ),
        (["--run", "RUN", "--documents", "teacher"], 2, "documents=teacher applies to text collections only"),
        (["--run", "RUN", "--translations", "sw=x"], 2, "translations=sw=x applies to text collections only"),
        (["--run", "RUN", "--lang", "so"], 3, "no captions in so; its languages: de, en, sw"),
        (["--run", "RUN", "--split", "test"], 3, "no captions.<lang>.test.jsonl[.gz]; its splits: dev"),
        (["--run", "nowhere"], 2, "run=nowhere is not a run folder"),
        (["--model", "RUN"], 2, "is a run; give --run"),
        (["--model", "TEXT"], 2, "has only the text tower"),
        (["--run", "RUN", "--collection", "TEXTS", "--against", "pictures"], 2, "is not a set of images; leave it out"),
        (["--run", "RUN", "--collection", "TEXTS", "--pictures-by", "PAIR"], 2, "has no images; leave it out"),
        (["--run", "RUN", "--collection", "CAPTIONS", "--against", "pictures"], 3, "has no images: no"),
        (["--run", "RUN", "--collection", "BROKEN"], 3, "p3.png: not an image"),
    ],
)
def test_errors_are_one_line_and_an_exit_code(runs, pair, drawn, tmp_path, capsys, flags, code, message):
    plain = make_student_run(tmp_path / "plain", seed=80, with_image=False)
    bare = shutil.copytree(pair, tmp_path / "bare")
    (bare / "image" / "preprocessor_config.json").unlink()
    broken = shutil.copytree(drawn, tmp_path / "broken")
    (broken / "images.dev" / "p3.png").write_bytes(b"no picture")
    known = {
        "RUN": runs[1], "PLAIN": plain, "PAIR": pair, "TEXT": runs[1] / "teacher", "BARE": bare, "BROKEN": broken,
        "TEXTS": make_parallel(tmp_path / "texts"), "CAPTIONS": write_captions(tmp_path / "captions"),
    }  # fmt: skip
    assert main(["--collection", str(drawn), *(str(known.get(flag, flag)) for flag in flags)]) == code
    printed = capsys.readouterr().err
    told = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert len(told) == 1
    assert message in told[0]
    assert "Traceback" not in printed


def test_towers_of_other_widths_are_told(runs, drawn, tmp_path, capsys):
    from optical_jax.models.formats.export import save_tower
    from tests.helpers.image_runs import draw, image_config

    cfg = image_config()
    wide = type(cfg)(cfg.encoder, type(cfg.head)(projection=6))
    other = make_pair(tmp_path / "other", 7)
    shutil.copy(other / "image" / "preprocessor_config.json", tmp_path)
    save_tower(draw(wide, 0), wide, None, other / "image")
    shutil.copy(tmp_path / "preprocessor_config.json", other / "image")
    assert main(["--run", str(runs[1]), "--collection", str(drawn), "--pictures-by", str(other)]) == 2
    assert "text vectors have width 8, and image vectors by" in capsys.readouterr().err


def test_tables_fit_a_terminal(runs, drawn, monkeypatch):
    seen = []
    monkeypatch.setattr("optical_jax.evaluation.report.print_evaluation", lambda *a: seen.append(a))
    assert main(["--run", str(runs[1]), "--collection", str(drawn)]) == 0
    for width in (80, 72, 60):
        file = io.StringIO()
        print_evaluation(*seen[0], Console(file=file, force_terminal=True, width=width))
        table = re.sub(r"\x1b\[[0-9;]*m", "", file.getvalue())
        # Rich shortens a cell that does not fit, ending it in this sign.
        assert "…" not in table
        (head,) = (line for line in table.splitlines() if line.split()[:2] == ["lang", "system"])
        assert ("R@10" in head) == (width >= 72)
    first = [line.split()[0] for line in table.splitlines() if line.strip()]
    assert first[first.index("low") :][:3] == ["low", "high", "gap"]

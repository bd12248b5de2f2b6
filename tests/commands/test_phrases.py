"""`phrases` from flags to figures: boxes ranked by NumPy over whole patches, boxes from a file, and exit codes."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from optical_jax.commands.phrases import main
from optical_jax.data.images.proposals import read_proposals
from optical_jax.data.pixels import picture_pixels
from optical_jax.data.rgb import read_rgb
from optical_jax.errors import DataError
from optical_jax.runs.load import load
from tests.commands.test_evaluate import STEP
from tests.evaluation.test_images import token_rows
from tests.helpers.image_runs import RECIPE, make_pair, make_student_run, make_teacher_run
from tests.helpers.source_folders import jsonl, put

BOXES = {
    # As the files have them: outermost pixels, counted from 1. Each covers whole patches of 4 x 4 pixels.
    "11": {"1": [(1, 1, 4, 4)], "2": [(5, 1, 12, 4)], "3": [(1, 9, 4, 12), (9, 9, 12, 12)], "9": []},
    "12": {"1": [(1, 1, 12, 8)], "2": [(5, 5, 8, 8)]},
}
SENTENCES = {
    "11": [
        "[/EN#1/people A child] near [/EN#2/other the river] and [/EN#9/scene a field]",
        "[/EN#3/animals Two birds] sing in [/EN#0/notvisual the morning]",
    ],
    "12": ["[/EN#1/vehicles The sun] over [/EN#2/other/clothing the mat]"],
}
PHRASES = {
    # phrase: picture, text, type, chain
    "11.jpg#0:0": ("11", "A child", "people", "1"),
    "11.jpg#0:3": ("11", "the river", "other", "2"),
    "11.jpg#1:0": ("11", "Two birds", "animals", "3"),
    "12.jpg#0:0": ("12", "The sun", "vehicles", "1"),
    "12.jpg#0:3": ("12", "the mat", "other", "2"),
}


def annotation(boxes) -> str:
    objects = "".join(
        f"<object><name>{chain}</name><bndbox><xmin>{l}</xmin><ymin>{t}</ymin><xmax>{r}</xmax><ymax>{b}</ymax></bndbox>"
        "</object>"
        for chain, of in boxes.items()
        for l, t, r, b in of  # noqa: E741
    )
    return f"<annotation><size><width>12</width><height>12</height></size>{objects}</annotation>"


@pytest.fixture(scope="module")
def entities(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sets") / "entities"
    put(folder, {f"Sentences/{name}.txt": "\n".join(lines) + "\n" for name, lines in SENTENCES.items()})
    put(folder, {f"Annotations/{name}.xml": annotation(boxes) for name, boxes in BOXES.items()})
    put(folder, {"val.txt": "11\n12\n"})
    (folder / "flickr30k-images").mkdir()
    for name in BOXES:
        pixels = np.random.default_rng(int(name)).integers(0, 256, (12, 12, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "flickr30k-images" / f"{name}.jpg", quality=95)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return make_student_run(tmp_path_factory.mktemp("runs") / "a", seed=0)


def edges(box) -> tuple[int, int, int, int]:
    return box[0] - 1, box[1] - 1, box[2], box[3]


def share(a, b) -> float:
    """Intersection over union, counted in pixels."""
    grids = []
    for left, top, right, bottom in (a, b):
        grid = np.zeros((12, 12), bool)
        grid[top:bottom, left:right] = True
        grids.append(grid)
    return (grids[0] & grids[1]).sum() / (grids[0] | grids[1]).sum()


def expected(text, image, folder, candidates) -> dict[str, dict[str, float]]:
    """Figures of every phrase: the boxes sorted by the cosine of mean vectors."""
    patches = {}
    for name in BOXES:
        pixels = picture_pixels(read_rgb(folder / "flickr30k-images" / f"{name}.jpg"), RECIPE)
        patches[name] = token_rows(image, pixels[None])[0].reshape(3, 3, -1)
    found = {}
    for phrase, (picture, words, _, chain) in PHRASES.items():
        (query,) = token_rows(text, [words])

        def score(box, query=query, picture=picture):
            left, top, right, bottom = box
            region = patches[picture][top // 4 : bottom // 4, left // 4 : right // 4].reshape(-1, 8).mean(axis=0)
            return float(query.sum(axis=0) @ region / np.linalg.norm(region))

        ranked = sorted(candidates[picture], key=score, reverse=True)
        gold = [edges(box) for box in BOXES[picture][chain]]
        corners = np.array(gold)
        merged = [(*corners[:, :2].min(axis=0), *corners[:, 2:].max(axis=0))]
        figures = {}
        for protocol, targets in (("any", gold), ("merged", merged)):
            right = [max(share(box, target) for target in targets) >= 0.5 for box in ranked]
            figures |= {f"{protocol} R@{k}": float(any(right[:k])) for k in (1, 5, 10)}
            figures[f"{protocol} bound"] = float(any(right))
        found[phrase] = figures
    return found


DRAWN = {name: [edges(box) for of in boxes.values() for box in of] for name, boxes in BOXES.items()}


def read_rows(folder: Path) -> dict[tuple[str, str], dict]:
    rows = [json.loads(line) for line in (folder / "per_phrase.jsonl").read_text("utf-8").splitlines()]
    return {(row["system"], row["phrase"]): row for row in rows}


def test_a_run_and_its_references_by_drawn_boxes(run, entities, capsys):
    assert main(["--run", str(run), "--images", str(entities)]) == 0
    folder = run / "phrases" / "flickr30k_entities-val"
    assert sorted(path.name for path in folder.iterdir()) == ["metrics.json", "per_phrase.jsonl"]
    assert not (run / "eval").exists()
    figures, rows = json.loads((folder / "metrics.json").read_text()), read_rows(folder)
    image = load(run, part="image")
    for system, text in (
        ("student", load(run)),
        ("untrained", load(run, checkpoint="untrained")),
        ("teacher", load(run, part="teacher")),
    ):
        wanted = expected(text, image, entities, DRAWN)
        for phrase, of in wanted.items():
            assert {name: rows[system, phrase][name] for name in of} == of, (system, phrase)
        means = figures["figures"] if system == "student" else figures["references"][system]
        assert means["phrases"] == len(PHRASES)
        for name in next(iter(wanted.values())):
            assert means[name] == pytest.approx(np.mean([of[name] for of in wanted.values()])), name
    # No drawn box is like the one around both birds.
    assert rows["student", "11.jpg#1:0"]["merged bound"] == 0.0
    assert rows["student", "11.jpg#1:0"]["any bound"] == 1.0
    assert figures["types"]["other"]["phrases"] == 2
    assert (figures["candidates"], figures["pictures"], figures["checkpoint"]) == ("drawn", 2, STEP)
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines()[1:])) <= 80
    assert "…" not in printed


def test_boxes_from_a_file(entities, tmp_path, capsys):
    """The box around both birds is there now; by a run of both towers, each before and after."""
    teacher = make_teacher_run(tmp_path / "pair", seed=40)
    candidates = {"11": [(0, 8, 12, 12), (0, 0, 4, 4), (4, 0, 12, 4)], "12": [(4, 4, 8, 8), (0, 0, 12, 8)]}
    lines = [{"_id": f"{name}.jpg", "boxes": boxes} for name, boxes in candidates.items()]
    put(tmp_path, {"found.jsonl.gz": jsonl(*lines)})
    command = ["--run", str(teacher), "--images", f"flickr30k_entities:{entities}"]
    assert main([*command, "--boxes", str(tmp_path / "found.jsonl.gz"), "--out", str(tmp_path / "out.json")]) == 0
    folder = teacher / "phrases" / "flickr30k_entities-val-found"
    figures, rows = json.loads((tmp_path / "out.json").read_text()), read_rows(folder)
    assert figures == json.loads((folder / "metrics.json").read_text())
    assert figures["candidates"] == "given"
    assert set(figures["references"]) == {"untrained"}
    for system, which in (("model", "last"), ("untrained", "untrained")):
        towers = (load(teacher, part=part, checkpoint=which) for part in ("text", "image"))
        for phrase, of in expected(*towers, entities, candidates).items():
            assert {name: rows[system, phrase][name] for name in of} == of, (system, phrase)
    assert rows["model", "11.jpg#1:0"]["merged bound"] == 1.0


def test_a_pooled_pair_is_asked_for_its_patches(entities, tmp_path):
    """One vector a phrase, and every patch its own, as the class token's head gives them."""
    pair, out = make_pair(tmp_path / "pair", 5, "pooled", ("mean", "cls")), tmp_path / "out.json"
    assert main(["--model", str(pair), "--images", str(entities), "--out", str(out)]) == 0
    patches = make_pair(tmp_path / "patches", 5, "tokens", ("mean", "none"))
    wanted = expected(load(pair, part="text"), load(patches, part="image"), entities, DRAWN)
    figures = json.loads(out.read_text())["figures"]
    for name in next(iter(wanted.values())):
        assert figures[name] == pytest.approx(np.mean([of[name] for of in wanted.values()])), name
    assert sorted(path.name for path in pair.iterdir()) == ["image", "pair.json", "text"]


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        ([], 2, "none of --run, --model given"),
        (["--run", "RUN", "--model", "x"], 2, "run and model of --run, --model given"),
        (["--run", "RUN", "--checkpoint", "newest"], 2, "checkpoint=newest"),
        (["--model", "RUN", "--checkpoint", "best"], 2, "checkpoint=best belongs to --run"),
        (["--model", "RUN"], 2, "is a run; give --run"),
        (["--run", "RUN", "--batch-size", "0"], 2, "batch_size=0"),
        (["--run", "RUN", "--out", "."], 2, "out=. is a folder"),
        (["--run", "nowhere"], 2, "run=nowhere is not a run folder"),
        (["--run", "RUN", "--split", "dev2"], 2, "split=dev2"),
        (["--run", "RUN", "--boxes", "nowhere.jsonl"], 3, "nowhere.jsonl: no such file"),
        (["--run", "RUN", "--boxes", "FEW"], 3, "lacks 1 of 2 images, such as '12.jpg'"),
        (["--run", "RUN", "--images", "BARE"], 3, "lacks its images"),
        (["--run", "RUN", "--images", "coco:SET"], 2, "has no boxes"),
        (["--run", "RUN", "--images", "OURS"], 2, "has captions without phrases and boxes"),
        (["--run", "RUN", "--images", "NONE"], 3, "no phrase has a box"),
    ],
)
def test_errors_are_one_line_and_an_exit_code(run, entities, tmp_path, capsys, flags, code, message):
    put(tmp_path, {"few.jsonl": jsonl({"_id": "11.jpg", "boxes": [[0, 0, 4, 4]]})})
    bare, none = shutil.copytree(entities, tmp_path / "bare"), shutil.copytree(entities, tmp_path / "none")
    shutil.rmtree(bare / "flickr30k-images")
    ours = put(tmp_path / "ours", {"captions.en.test.jsonl": jsonl({"_id": "11", "text": "x"})})
    put(none, {f"Annotations/{name}.xml": annotation({}) for name in BOXES})
    known = {
        "RUN": run, "FEW": tmp_path / "few.jsonl", "BARE": bare, "NONE": none, "OURS": ours,
        "coco:SET": f"coco:{entities}",
    }  # fmt: skip
    assert main(["--images", str(entities), *(str(known.get(flag, flag)) for flag in flags)]) == code
    printed = capsys.readouterr().err
    told = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert len(told) == 1
    assert message in told[0]


# ---- boxes from a file ---------------------------------------------------------------------------------------------


def test_a_file_of_boxes(tmp_path):
    put(tmp_path, {"b.jsonl": jsonl({"_id": "a", "boxes": [[0, 0.5, 3, 4]], "x": 1}, {"_id": "b", "boxes": []})})
    found = read_proposals(tmp_path / "b.jsonl")
    np.testing.assert_array_equal(found["a"], [[0, 0.5, 3, 4]])
    assert found["b"].shape == (0, 4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ('{"_id": "a"}\n', "b.jsonl:1: not the boxes of an image"),
        ("[]\n", "b.jsonl:1: not the boxes of an image"),
        ('{"_id": 1, "boxes": []}\n', "b.jsonl:1: not the boxes of an image"),
        ('{"_id": "a", "boxes": [[0, 0, 1]]}\n', r"b.jsonl:1: boxes\[0\] is \[0, 0, 1\]; it must be"),
        ('{"_id": "a", "boxes": [[0, 0, 1, 1], [3, 0, 3, 1]]}\n', r"boxes\[1\] is \[3, 0, 3, 1\]"),
        ('{"_id": "a", "boxes": [[0, 0, NaN, 1]]}\n', r"boxes\[0\] is \[0, 0, nan, 1\]"),
        ('{"_id": "a", "boxes": [[0, 0, true, 1]]}\n', r"boxes\[0\]"),
        ('{"_id": "a", "boxes": []}\n{"_id": "a", "boxes": []}\n', "b.jsonl:2: image 'a' is a duplicate"),
    ],
)
def test_what_is_no_file_of_boxes(tmp_path, text, message):
    put(tmp_path, {"b.jsonl": text})
    with pytest.raises(DataError, match=message):
        read_proposals(tmp_path / "b.jsonl")

"""`search --images` from flags to a sheet: the order against NumPy, from any form of pictures; exit codes."""

import json
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread, imsave

from optical_jax.commands import search
from optical_jax.commands.search import main
from optical_jax.data.images.files import Images
from optical_jax.data.images.finding import index_images
from optical_jax.index.images import ImageHit
from optical_jax.runs.load import load
from tests.evaluation.test_images import image_rows, mean_vector, token_rows
from tests.helpers.image_runs import NAMES, make_pair, make_set, make_student_run, picture, write_captions, write_images

QUERIES = ["Paka analala", "mvua na mto mlimani"]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return make_student_run(tmp_path_factory.mktemp("runs") / "a", seed=0)


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> Path:
    return make_pair(tmp_path_factory.mktemp("pairs") / "pair", 60, "pooled")


def pack(folder: Path, form: str) -> tuple[Path, list[str]]:
    """The drawn pictures in any form, and what their ids are there."""
    plain = write_images(folder / "pictures")
    files = [f"{name}.png" for name in NAMES]
    if form == "folder":
        return plain, files
    if form == "tar":
        with tarfile.open(folder / "pictures.tar", "w") as archive:
            for name in files:
                archive.add(plain / name, name)
        return folder / "pictures.tar", files
    if form == "set":
        return make_set(folder / "drawn"), NAMES
    # One size alone fits an array.
    images = np.stack([picture(0)] * 2)
    np.savez(folder / "pictures.npz", ids=["one", "other"], images=images)
    return folder / "pictures.npz", ["one", "other"]


@pytest.mark.parametrize("form", ["folder", "tar", "set"])
def test_pictures_are_ranked_as_numpy_ranks_them(run, tmp_path, capsys, form):
    source, ids = pack(tmp_path, form)
    assert main(["--run", str(run), "--images", str(source), "--json", "--top", "4", *QUERIES]) == 0
    hits = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(hit["query"], hit["rank"]) for hit in hits] == [(query, n) for query in QUERIES for n in range(1, 5)]
    assert all(list(hit) == ["query", "rank", "score", "picture", "file"] for hit in hits)
    pictures = image_rows(load(run, part="image"))
    for query, asked in zip(QUERIES, token_rows(load(run), QUERIES), strict=True):
        scores = [float((asked @ rows.T).max(axis=1).sum()) for rows in pictures]
        best = sorted(zip(scores, ids, strict=True), reverse=True)[:4]
        mine = [hit for hit in hits if hit["query"] == query]
        assert [hit["picture"] for hit in mine] == [name for _, name in best]
        assert [hit["score"] for hit in mine] == pytest.approx([score for score, _ in best], abs=1e-5)
        assert all(Path(hit["file"].split(": ")[-1]).stem == hit["picture"].removesuffix(".png") for hit in mine)
    assert not (run / "search").exists()


def test_a_pair_is_compared_by_means_where_it_was_trained_so(pair, tmp_path, capsys):
    source, ids = pack(tmp_path, "folder")
    assert main(["--model", str(pair), "--images", str(source), "--json", QUERIES[0]]) == 0
    found = {hit["picture"]: hit["score"] for hit in map(json.loads, capsys.readouterr().out.splitlines())}
    (asked,) = token_rows(load(pair, part="text"), QUERIES[:1])
    pictures = image_rows(load(pair, part="image"))
    expected = [float((mean_vector(asked) @ mean_vector(rows).T)[0, 0]) for rows in pictures]
    assert found == pytest.approx(dict(zip(ids, expected, strict=True)), abs=1e-5)


def test_of_a_set_one_split_is_searched_and_told(pair, tmp_path, capsys):
    found = make_set(tmp_path / "set")
    assert main(["--model", str(pair), "--images", str(found), "--json", "paka"]) == 0
    printed = capsys.readouterr()
    assert f"pictures: {len(printed.out.splitlines())} of split dev; --split takes others" in printed.err


def test_of_equal_pictures_the_earlier_name_stands_first(pair, tmp_path, capsys):
    source, ids = pack(tmp_path, "npz")
    assert main(["--model", str(pair), "--images", str(source), "--json", "paka"]) == 0
    hits = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [hit["picture"] for hit in hits] == ids
    assert hits[0]["score"] == hits[1]["score"]


def test_a_sheet_and_lines(run, pair, tmp_path, capsys):
    source, _ = pack(tmp_path, "folder")
    assert main(["--run", str(run), "--images", str(source), "--top", "3", *QUERIES]) == 0
    printed = capsys.readouterr().out.splitlines()
    sheet = run / "search" / "Paka-analala-mvua-na-mto-mlimani.png"
    assert printed[-1] == f"sheet: {sheet}"
    assert [printed[0], printed[6]] == QUERIES
    assert printed[1] == printed[7] == "rank score  picture"
    assert [line.split()[0] for line in printed[2:5]] == ["1", "2", "3"]
    found = np.round(imread(sheet)[:, :, :3] * 255)
    first = printed[2].split()[-1].removesuffix(".png")
    colour = picture(NAMES.index(first))[0, -1]
    assert (np.abs(found - colour) <= 2).all(axis=2).sum() > 500
    out = tmp_path / "deep" / "sheet.png"
    assert main(["--model", str(pair), "--images", str(source), "--out", str(out), "paka"]) == 0
    assert out.is_file()


def test_more_than_a_row_of_pictures(tmp_path, monkeypatch):
    source = write_images(tmp_path / "p", [f"n{n}" for n in range(12)])
    pictures = Images(index_images(source).sources)
    hits = [ImageHit("q", n + 1, 1.0 - n / 20, name, name) for n, name in enumerate(pictures)]
    seen = []
    monkeypatch.setattr("optical_jax.plots.images.contact_sheet", lambda rows, path: seen.append(rows))
    search.draw_sheet([hits], pictures, tmp_path / "a.png")
    assert [(query, len(found)) for query, found in seen[0]] == [("q", 10), ("", 2)]


def test_names_of_any_kind_are_printed_as_people_know_them(pair, tmp_path, capsys):
    names = {b"my red cat.png": "my red cat.png", b"caf\xe9.png": "caf%E9.png", b"a\nb.png": "a%0Ab.png",
             b"$x$.png": "$x$.png", "paka-é.png".encode(): "paka-é.png"}  # fmt: skip
    folder = tmp_path / "odd names"
    folder.mkdir()
    for n, name in enumerate(names):
        imsave(folder / os.fsdecode(name), picture(n))
    assert main(["--model", str(pair), "--images", str(folder), "--json", "paka"]) == 0
    hits = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {hit["picture"]: hit["file"] for hit in hits} == {name: f"{folder}/{name}" for name in names.values()}
    out = tmp_path / "sheet.png"
    assert main(["--model", str(pair), "--images", str(folder), "--out", str(out), "paka"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.split(maxsplit=2)[2] for line in lines[1:-1]} == set(names.values())
    assert out.is_file()


def test_of_a_set_names_with_spaces_are_printed_as_names(pair, tmp_path, capsys):
    write_images(tmp_path / "set" / "images.dev", ["my cat", "b"])
    write_captions(tmp_path / "set", {"sw": [("my cat", "paka", "")]})
    assert main(["--model", str(pair), "--images", str(tmp_path / "set"), "--json", "paka"]) == 0
    hits = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {hit["picture"] for hit in hits} == {"my cat", "b"}


def test_picture_files_that_are_left_out_are_said(pair, tmp_path, caplog):
    """As case 04: five picture files, of which not all are read."""
    folder = write_images(tmp_path / "p", ["tree"])
    (folder / "tree.png").rename(folder / "tree.jfif")
    (folder / "leaf.svg").write_text("<svg/>")
    (folder / "linked").symlink_to(tmp_path / "nowhere")
    with caplog.at_level("WARNING"):
        assert main(["--model", str(pair), "--images", str(folder), "--json", "paka"]) == 0
    assert [record.getMessage() for record in caplog.records if record.name == "optical_jax.data.images.finding"] == [
        f"{folder}: 2 image files left out: leaf.svg (SVG; save it as PNG or JPEG), "
        f"linked (broken link to {tmp_path}/nowhere)"
    ]


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--run", "RUN", "q"], 2, "none of --docs, --images given; give exactly one"),
        (["--run", "RUN", "--images", "PICTURES", "--docs", "x", "q"], 2, "docs and images of --docs, --images given"),
        (["--run", "RUN", "--images", "PICTURES"], 2, "no query given"),
        (["--run", "RUN", "--images", "PICTURES", "--dictionary", "sw", "q"], 2, "dictionary=sw is for --docs"),
        (["--run", "RUN", "--images", "PICTURES", "--vectors", "v", "q"], 2, "vectors=v is for --docs"),
        (["--run", "RUN", "--images", "PICTURES", "--documents", "teacher", "q"], 2, "documents=teacher is for --docs"),
        (["--run", "RUN", "--images", "PICTURES", "--out", "a.jpg", "q"], 2, "out=a.jpg is not valid"),
        (["--run", "RUN", "--docs", "x", "--out", "a.png", "q"], 2, "out=a.png is for --images"),
        (["--run", "RUN", "--docs", "x", "--pictures-by", "p", "q"], 2, "pictures_by=p is for --images"),
        (["--model", "PAIR", "--images", "PICTURES", "q"], 2, "out is empty, and a model has no folder for results"),
        (["--run", "nowhere", "--images", "PICTURES", "q"], 2, "run=nowhere is not a run folder"),
        (["--model", "RUN", "--images", "PICTURES", "--json", "q"], 2, "is a run; give --run"),
        (["--run", "PLAIN", "--images", "PICTURES", "q"], 2, "with --pictures-by"),
        (["--run", "RUN", "--images", "nowhere", "q"], 3, "images=nowhere: nowhere does not exist"),
        (["--run", "RUN", "--images", "EMPTY", "q"], 3, "no image in it"),
        (["--run", "RUN", "--images", "BROKEN", "paka"], 3, "p3.png: not an image"),
        (["--run", "RUN", "--images", "SET", "--split", "test", "q"], 3, "its splits: dev"),
    ],
)
def test_errors_are_one_line_and_an_exit_code(run, pair, tmp_path, capsys, flags, code, message):
    plain = make_student_run(tmp_path / "plain", seed=80, with_image=False)
    pictures, _ = pack(tmp_path, "folder")
    broken = shutil.copytree(pictures, tmp_path / "broken")
    (broken / "p3.png").write_bytes(b"no picture")
    (tmp_path / "empty").mkdir()
    known = {
        "RUN": run, "PAIR": pair, "PLAIN": plain, "PICTURES": pictures, "BROKEN": broken, "EMPTY": tmp_path / "empty",
        "SET": make_set(tmp_path / "set"),
    }  # fmt: skip
    assert main([str(known.get(flag, flag)) for flag in flags]) == code
    printed = capsys.readouterr()
    told = [line for line in printed.err.splitlines() if line.startswith("error: ")]
    assert len(told) == 1
    assert message in told[0]
    assert printed.out == ""

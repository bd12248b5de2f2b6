"""`align --image`: where the mass goes by NumPy, from a picture to a PNG, and exit codes."""

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from optical_jax.alignment.images import align_image_plan
from optical_jax.commands.align import main
from optical_jax.config import OtConfig
from optical_jax.data.pixels import picture_pixels
from optical_jax.data.tokenization import tokenize
from optical_jax.errors import ConfigError
from optical_jax.runs.load import load
from optical_jax.runs.pair import by_patches
from optical_jax.towers.tower import encode
from tests.helpers.image_runs import (
    RECIPE,
    SWAHILI,
    make_pair,
    make_student_run,
    make_teacher_run,
    picture,
    write_images,
)

CAPTION = SWAHILI[1]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return make_student_run(tmp_path_factory.mktemp("runs") / "a", seed=0)


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    return write_images(tmp_path_factory.mktemp("pictures"), ["cat"]) / "cat.png"


def cosines(text, image) -> np.ndarray:
    """[tokens, patches]"""
    caption, patches = encode(text, [CAPTION]), encode(image, picture_pixels(picture(0), RECIPE)[None])
    return caption.vectors[0][caption.mask[0]] @ patches.vectors[0].T


def test_each_piece_goes_to_its_best_patch(run):
    """plan=argmax: a piece's whole mass, one over their number, on the patch with the largest cosine."""
    text, image = load(run), load(run, part="image")
    found = align_image_plan(text, image, CAPTION, picture(0), OtConfig(plan="argmax"), by_pieces=True)
    similar = cosines(text, image)
    expected = np.zeros_like(similar)
    expected[np.arange(len(similar)), similar.argmax(axis=1)] = 1 / len(similar)
    np.testing.assert_allclose(found.plan.reshape(len(similar), 9), expected, atol=1e-6)
    (tokens,) = tokenize(text.tokenizer, [CAPTION], text.cfg.head, "query")
    assert list(found.words) == text.tokenizer.convert_ids_to_tokens(tokens.ids.tolist())
    assert found.score == pytest.approx(similar.max(axis=1).sum(), abs=1e-5)
    assert found.cost == pytest.approx(1 - similar.max(axis=1).mean(), abs=1e-5)
    assert found.seen.shape == (12, 12, 3)


def test_pieces_are_summed_into_words(run):
    """plan=uniform: every piece the same on every patch, so a word has as many ninths as it has pieces."""
    text, image = load(run), load(run, part="image")
    pieces = align_image_plan(text, image, CAPTION, picture(0), OtConfig(plan="uniform"), by_pieces=True)
    found = align_image_plan(text, image, CAPTION, picture(0), OtConfig(plan="uniform"))
    assert found.words == ("Paka", "analala", "kwenye", "mkeka.")
    np.testing.assert_allclose(pieces.plan, 1 / (9 * len(pieces.words)), rtol=1e-5)
    masses = found.plan.sum(axis=(1, 2)) * len(pieces.words)
    np.testing.assert_allclose(masses, np.round(masses), atol=1e-4)
    # All but the two special tokens.
    assert masses.sum() == pytest.approx(len(pieces.words) - 2, abs=1e-4)


def test_masses_of_a_whole_plan(run):
    """Sinkhorn's plan moves all: each piece and each patch has its equal share."""
    text, image = load(run), load(run, part="image")
    found = align_image_plan(text, image, CAPTION, picture(0), OtConfig(epsilon=0.5, iterations=200), by_pieces=True)
    np.testing.assert_allclose(found.plan.sum(axis=(1, 2)), 1 / len(found.words), rtol=1e-3)
    np.testing.assert_allclose(found.plan.sum(axis=0), 1 / 9, rtol=1e-3)


def test_one_vector_has_no_plan(tmp_path):
    pair = make_pair(tmp_path / "pair", 5, "pooled", ("mean", "cls"))
    text, image = (load(pair, part=part) for part in ("text", "image"))
    for towers in ((text, by_patches(image)), (load(make_pair(tmp_path / "b", 6), part="text"), image)):
        with pytest.raises(ConfigError, match="and no plan"):
            align_image_plan(*towers, CAPTION, picture(0), OtConfig())


def test_a_picture_and_lines(run, file, capsys):
    assert main(["--run", str(run), "--image", str(file), CAPTION]) == 0
    printed = capsys.readouterr().out.splitlines()
    path = run / "align" / "Paka-analala-kwenye-mkeka--cat.png"
    assert printed[-1] == f"picture: {path}"
    assert imread(path).ndim == 3
    assert printed[0] == "3 x 3 patches; for each word the one with most of its mass"
    assert [line.split()[0] for line in printed[2:6]] == ["Paka", "analala", "kwenye", "mkeka."]
    found = align_image_plan(load(run), load(run, part="image"), CAPTION, picture(0), OtConfig())
    for line, plan in zip(printed[2:6], found.plan, strict=True):
        row, column = np.unravel_index(plan.argmax(), plan.shape)
        assert line.split()[1:3] == [str(row + 1), str(column + 1)]
    assert printed[6] == f"MaxSim {found.score:.3f}, transport cost {found.cost:.3f} (epsilon 0.05)"


def test_a_teacher_run_and_another_pair(run, file, tmp_path, capsys):
    """A run without settings of a plan takes the defaults; another pair's tower may read the picture."""
    teacher, out = make_teacher_run(tmp_path / "pair", 40), tmp_path / "deep" / "a.png"
    command = ["--image", str(file), "--epsilon", "0.3", "--out", str(out), "The cat sleeps"]
    assert main(["--run", str(teacher), *command]) == 0
    assert "(epsilon 0.3)" in capsys.readouterr().out
    before = out.read_bytes()
    assert main(["--run", str(run), "--pictures-by", str(make_pair(tmp_path / "other", 60)), *command]) == 0
    assert out.read_bytes() != before


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--image", "FILE"], 2, "no caption given"),
        (["--image", "FILE", "paka", "cat"], 2, "a second text is given, 'cat'"),
        (["paka", "--image", "FILE", "--bitext", "sw=x"], 2, "bitext=sw=x and image="),
        (["--image", "FILE", "--out", "a.json", "paka"], 2, "out=a.json must be a file that ends in .png"),
        (["--image", "FILE", "--checkpoint", "99", "paka"], 2, "has no checkpoint 99"),
        (["--image", "FILE", "--epsilon", "0", "paka"], 2, "epsilon=0.0 is not valid"),
        (["--pictures-by", "x", "paka", "cat"], 2, "pictures_by=x is for --image"),
        (["--image", "nowhere.png", "paka"], 3, "image=nowhere.png: no such file"),
        (["--image", "TEXT", "paka"], 3, "not an image"),
        (["--image", "FILE", "\N{SOFT HYPHEN}"], 2, "no caption given"),
        (["--image", "FILE", "\ue000"], 3, "knows no word of"),
        (["--run", "PLAIN", "--image", "FILE", "paka"], 2, "with --pictures-by"),
    ],
)
def test_errors_are_one_line_and_an_exit_code(run, file, tmp_path, capsys, flags, code, message):
    plain = make_student_run(tmp_path / "plain", seed=80, with_image=False)
    (tmp_path / "text.png").write_text(json.dumps("no picture"))
    known = {"FILE": file, "PLAIN": plain, "TEXT": tmp_path / "text.png"}
    words = [str(known.get(flag, flag)) for flag in flags]
    assert main(words if "--run" in words else ["--run", str(run), *words]) == code
    printed = capsys.readouterr().err
    told = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert len(told) == 1
    assert message in told[0]

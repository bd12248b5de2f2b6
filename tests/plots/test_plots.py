"""Pictures: drawn without a warning whatever is in them, readable, and of the values they were given."""

import itertools
import logging
import subprocess
import sys
import warnings
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.colors import to_rgb
from matplotlib.font_manager import fontManager
from matplotlib.image import imread

from optical_jax.alignment.plans import AlignedPlan
from optical_jax.plots.curves import DEPTHS, draw_evaluation, draw_training, try_to_draw
from optical_jax.plots.plans import SHARES, draw_plans, luminance, readable_on
from optical_jax.plots.style import find_fonts, letters_of
from tests import ROOT

LANGUAGES = ["sw", "so", "tl", "mr", "yo", "ha", "am", "km", "ne", "ig", "rw", "zu", "bem", "tw", "de", "fr", "es"]
DEVANAGARI = "उत्तर"


def plan_of(values, foreign=None, english=None) -> AlignedPlan:
    values = np.array(values, float)
    foreign = foreign or tuple(f"neno{n}" for n in range(len(values)))
    english = english or tuple(f"word{n}" for n in range(values.shape[1]))
    return AlignedPlan(foreign, english, values, left_out=0.0, cost=0.1, score=1.0, cut=False)


def pixels_of(path: Path, colour) -> int:
    picture = np.round(imread(path)[:, :, :3] * 255)
    return int((picture == np.round(np.array(to_rgb(colour)) * 255)).all(axis=2).sum())


# ---- plans -------------------------------------------------------------------------------------------------------


def test_cells_have_the_colour_of_their_share_of_the_row(tmp_path):
    """Rows of masses 2 and 4 give shares 1, 0, 0 and 1/4, 1/4, 1/2."""
    draw_plans([plan_of([[2.0, 0.0, 0.0], [1.0, 1.0, 2.0]])], tmp_path / "a.png")
    none, quarter, half, whole = (pixels_of(tmp_path / "a.png", SHARES(share)) for share in (0.0, 0.25, 0.5, 1.0))
    # Numbers cover a part of the cells that have one.
    assert quarter == pytest.approx(2 * half, rel=0.1)
    assert whole == pytest.approx(half, rel=0.15)
    assert none > 1.8 * half > 0


def test_a_plan_without_mass_in_a_row_and_one_word_each(tmp_path):
    draw_plans([plan_of([[0.0, 0.0], [1.0, 1.0]]), plan_of([[1.0]])], tmp_path / "deep" / "a.png", ["first", "second"])
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["a.png"]


def test_many_panels_stay_within_a_page_and_a_plan_of_many_words_within_the_pixels(tmp_path):
    """At 150 dots an inch; a page is 10.8 inches and its margins."""
    rng = np.random.default_rng(0)
    draw_plans([plan_of(rng.uniform(size=(4, 3)))] * 9, tmp_path / "nine.png", [f"language {n}" for n in range(9)])
    height, width, _ = imread(tmp_path / "nine.png").shape
    assert 700 < width <= 11.2 * 150
    assert height < 2 * width
    draw_plans([plan_of(rng.uniform(size=(4, 130)))], tmp_path / "long.png")
    assert max(imread(tmp_path / "long.png").shape) == pytest.approx(8000, abs=1)


def test_signs_that_matplotlib_reads_as_formulas_are_drawn_as_they_are(tmp_path):
    words = ("$5", "a_b^2$", "100%", "\\frac", "<b>", "x" * 300)
    draw_plans([plan_of(np.eye(6), words, words)], tmp_path / "a.png", ["$ and $\\nosuch$"])
    assert (tmp_path / "a.png").is_file()


def test_a_title_too_few_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="shorter"):
        draw_plans([plan_of([[1.0]])] * 2, tmp_path / "a.png", ["one"])


def test_numbers_are_readable_and_colours_get_darker():
    """WCAG asks for a contrast of 4.5 for small text; 3 for large."""
    shades = [SHARES(share) for share in np.linspace(0, 1, 101)]
    light = [luminance(shade) for shade in shades]
    assert all(a > b for a, b in itertools.pairwise(light))
    for shade in shades:
        high, low = sorted((luminance(shade), luminance(readable_on(shade))), reverse=True)
        assert (high + 0.05) / (low + 0.05) > 3.8


def test_luminance_of_known_colours():
    assert luminance("white") == pytest.approx(1.0)
    assert luminance("black") == 0.0
    assert luminance("#ff0000") == pytest.approx(0.2126)


# ---- curves ------------------------------------------------------------------------------------------------------


def dev(step: int, languages) -> dict:
    return {"step": step, "dev": {name: {"R@1": 0.1, "R@10": 0.3, "RR@10": 0.2} for name in languages}}


@pytest.mark.parametrize(
    "records",
    [
        [],
        [dev(0, ["sw"])],
        [{"step": 5, "loss": 0.3, "learning_rate": 1e-3}],
        [{"step": 5, "loss": 0.3}, {"step": 10, "loss": 0.2}, {"step": 10, "params_sha256": "ab"}],
        [dev(0, LANGUAGES), {"step": 5, "loss": 0.3}, dev(5, LANGUAGES), {"step": 5, "params_sha256": "ab"}],
        [dev(0, ["sw"]), dev(5, ["sw", "so"])],
        [{"step": 0, "dev": {}}, {"step": 5, "loss": 0.3}],
    ],
    ids=["empty", "start", "one loss", "no dev", "17 languages", "a language later", "dev of nothing"],
)
def test_training_curves_of_any_run(records, tmp_path):
    draw_training(records, tmp_path / "curves.png")
    assert imread(tmp_path / "curves.png").std() > 0


def evaluation(languages, teacher=()) -> dict:
    found = {f"R@{k}": k / 100 for k in DEPTHS} | {"RR@10": 0.5, "queries": 3}
    references = {"untrained": dict.fromkeys(languages, found), "bm25": dict.fromkeys(languages, found)}
    if teacher:
        references["teacher"] = dict.fromkeys(teacher, found)
    own = dict.fromkeys(languages, found)
    return {"system": "student", "collection": "names_$x$", "split": "dev", "languages": own, "references": references}


@pytest.mark.parametrize(
    "figures",
    [evaluation(["sw"]), evaluation(LANGUAGES, teacher=["so", "de"]), evaluation(["sw", "so"]) | {"references": {}}],
    ids=["one", "17", "alone"],
)
def test_evaluation_curves(figures, tmp_path):
    draw_evaluation(figures, tmp_path / "curves.png")
    assert imread(tmp_path / "curves.png").std() > 0


# ---- fonts -------------------------------------------------------------------------------------------------------


@pytest.fixture
def box_font(tmp_path):
    """A font of boxes for the Devanagari letters and the vowel signs of the tests, known to matplotlib meanwhile."""
    letters = sorted(set(DEVANAGARI))
    pen = TTGlyphPen(None)
    pen.moveTo((100, 0))
    for corner in ((100, 700), (500, 700), (500, 0)):
        pen.lineTo(corner)
    pen.closePath()
    box, names = pen.glyph(), [f"box{n}" for n in range(len(letters))]
    font = FontBuilder(1000, isTTF=True)
    font.setupGlyphOrder([".notdef", *names])
    font.setupCharacterMap({ord(letter): name for letter, name in zip(letters, names, strict=True)})
    font.setupGlyf(dict.fromkeys([".notdef", *names], box))
    font.setupHorizontalMetrics(dict.fromkeys([".notdef", *names], (600, 100)))
    font.setupHorizontalHeader(ascent=800, descent=-200)
    font.setupNameTable({"familyName": "Boxes of a Test", "styleName": "Regular"})
    font.setupOS2(sTypoAscender=800, usWinAscent=800, usWinDescent=200)
    font.setupPost()
    font.save(tmp_path / "boxes.ttf")
    before = list(fontManager.ttflist)
    fontManager.addfont(tmp_path / "boxes.ttf")
    assert fontManager.ttflist[-1].name == "Boxes of a Test"
    yield "Boxes of a Test"
    fontManager.ttflist[:] = before


def test_latin_needs_no_other_font():
    assert find_fonts("mbwa mkubwa, d'été") == (["DejaVu Sans"], [])


def test_a_font_that_has_the_letters_is_found_and_used(box_font, tmp_path, caplog):
    others = [font.fname for font in fontManager.ttflist if not font.name.startswith(("Last Resort", box_font))]
    installed_ones_missing = not any(set(DEVANAGARI) & letters_of(file) for file in others)
    families, missing = find_fonts(f"mbwa {DEVANAGARI}\u200d")
    assert missing == []
    assert families[0] == "DejaVu Sans"
    assert len(families) > 1
    # Where the machine has a font of its own for them, that one may be preferred.
    if installed_ones_missing:
        assert families[1:] == [box_font]
    draw_plans([plan_of([[1.0]], (DEVANAGARI,), ("North",))], tmp_path / "a.png", [DEVANAGARI])
    assert caplog.text == ""


def test_letters_that_no_font_has_are_told_in_one_line_and_drawn_on(tmp_path, caplog):
    """A Private Use letter has no font; its warnings would be errors here."""
    word = "\N{LINEAR B SYLLABLE B008 A}\N{ANATOLIAN HIEROGLYPH A001}"
    # Right to skip: a machine with a font for every script of Unicode has nothing to report.
    if find_fonts(word)[1] == []:
        pytest.skip("this machine has fonts for Linear B and Anatolian hieroglyphs")
    draw_plans([plan_of([[1.0]], (word,), ("big",))], tmp_path / "a.png", [word])
    assert (tmp_path / "a.png").is_file()
    (record,) = caplog.records
    assert record.name == "optical_jax.plots.style"
    assert "no installed font has Anatolian" in record.getMessage()
    assert "\n" not in record.getMessage()


# ---- what is left behind -----------------------------------------------------------------------------------------


def test_nothing_global_is_changed(tmp_path):
    settings, level = dict(matplotlib.rcParams), logging.getLogger("matplotlib.font_manager").level
    filters = list(warnings.filters)
    with matplotlib.rc_context({"axes.facecolor": "black", "lines.linewidth": 9}):
        draw_training([dev(0, ["sw"])], tmp_path / "odd.png")
        assert matplotlib.rcParams["axes.facecolor"] == "black"
    assert dict(matplotlib.rcParams) == settings
    assert logging.getLogger("matplotlib.font_manager").level == level
    assert list(warnings.filters) == filters
    draw_training([dev(0, ["sw"])], tmp_path / "plain.png")
    assert (tmp_path / "odd.png").read_bytes() == (tmp_path / "plain.png").read_bytes()


def test_matplotlib_is_met_where_something_is_drawn_alone():
    """Commands, towers and evaluation do without it; so it is left out of a run that draws nothing."""
    code = (
        "import sys\n"
        "import optical_jax.commands.train, optical_jax.commands.evaluate, optical_jax.commands.align\n"
        "import optical_jax.towers.tower, optical_jax.evaluation.report, optical_jax.retrieval.search\n"
        "assert 'matplotlib' not in sys.modules\n"
        "import optical_jax.plots.style\n"
        "assert 'matplotlib' in sys.modules and 'matplotlib.pyplot' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_full_disk_keeps_the_older_picture(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"older")
    (tmp_path / "a.png.new").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        try_to_draw(draw_plans, [plan_of([[1.0]])], path)
    assert path.read_bytes() == b"older"
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_a_drawing_that_fails_otherwise_is_told_and_leaves_no_stale_picture(tmp_path, caplog):
    path = tmp_path / "a.png"
    path.write_bytes(b"older")
    assert not try_to_draw(draw_evaluation, {"languages": {}}, path)
    assert not path.exists()
    assert "a.png could not be plotted" in caplog.text

"""Sheets of found pictures and plans over pictures: what is drawn, where, and in which colour."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from optical_jax.plots.images import (
    HEAT,
    MOST_OPAQUE,
    RIGHT,
    SheetImage,
    contact_sheet,
    fit,
    heat,
    in_grey,
    plan_over_image,
    wrap,
)
from optical_jax.plots.style import drawing, measure

COLOURS = [(200, 10, 10), (10, 10, 200), (200, 200, 10)]


def plain(colour, height=40, width=40) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


def where(path, colour) -> np.ndarray:
    """True where the PNG has that colour (0 to 255), but for rounding."""
    found = np.round(imread(path)[:, :, :3] * 255)
    return (np.abs(found - np.array(colour)) <= 2).all(axis=2)


def box_of(mask) -> tuple[int, int, int, int]:
    """left, top, right, bottom"""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


GREEN = tuple(np.round(np.array(to_rgb(RIGHT)) * 255))

# ---- sheets ------------------------------------------------------------------------------------------------------


def test_pictures_stand_side_by_side_in_their_shapes(tmp_path):
    found = [
        SheetImage(plain(COLOURS[0]), "first", 0.9, False),
        SheetImage(plain(COLOURS[1], height=20), "wide", 0.8, False),
        SheetImage(plain(COLOURS[2], width=10), "high", 0.7, False),
    ]
    contact_sheet([("mbwa mkubwa", found)], tmp_path / "deep" / "a.png")
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["a.png"]
    boxes = [box_of(where(tmp_path / "deep" / "a.png", colour)) for colour in COLOURS]
    shapes = [(right - left, bottom - top) for left, top, right, bottom in boxes]
    side = shapes[0][0]
    for got, expected in zip(shapes, [(side, side), (side, side / 2), (side / 4, side)], strict=True):
        assert got == pytest.approx(expected, abs=3)
    assert boxes[0][2] < boxes[1][0]
    assert boxes[1][2] < boxes[2][0]


@pytest.mark.parametrize("right", [0, 1])
def test_the_right_picture_is_framed(right, tmp_path):
    found = [SheetImage(plain(colour), "x", 0.5, n == right) for n, colour in enumerate(COLOURS[:2])]
    contact_sheet([("a query", found)], tmp_path / "a.png")
    frame, picture = box_of(where(tmp_path / "a.png", GREEN)), box_of(where(tmp_path / "a.png", COLOURS[right]))
    assert frame[0] < picture[0] < picture[2] < frame[2]
    assert not where(tmp_path / "a.png", GREEN)[
        :, slice(*box_of(where(tmp_path / "a.png", COLOURS[1 - right]))[::2])
    ].any()


def test_rows_stand_below_each_other(tmp_path):
    rows = [(f"query {n}", [SheetImage(plain(colour), "x", 1.0, False)]) for n, colour in enumerate(COLOURS)]
    contact_sheet(rows, tmp_path / "a.png")
    boxes = [box_of(where(tmp_path / "a.png", colour)) for colour in COLOURS]
    assert boxes[0][0] == boxes[1][0] == boxes[2][0]
    assert boxes[0][3] < boxes[1][1] < boxes[1][3] < boxes[2][1]


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [("", [])],
        [("$x_1$ and \\frac " * 30, []), ("كبير كلب", [SheetImage(plain((1, 2, 3)), "$" * 80, float("nan"), True)])],
        [("one pixel", [SheetImage(plain((9, 9, 9), 1, 1), "", -1.0, False)] * 12)],
    ],
    ids=["no query", "nothing", "signs", "many"],
)
def test_anything_can_be_drawn(rows, tmp_path):
    contact_sheet(rows, tmp_path / "a.png")
    assert imread(tmp_path / "a.png").ndim == 3


# ---- words -------------------------------------------------------------------------------------------------------


def test_lines_are_broken_between_words():
    with drawing([]):
        text = "the quick brown fox jumps over the lazy dog " * 3
        lines = wrap(text, 12, 2.0)
        assert " ".join(lines).split() == text.split()
        assert all(measure(line, 12) <= 2.0 for line in lines)
        # No line could have taken the next one's first word.
        for line, after in zip(lines, lines[1:], strict=False):  # noqa: RUF007
            assert measure(f"{line} {after.split()[0]}", 12) > 2.0


def test_a_word_wider_than_a_line_is_broken_itself():
    with drawing([]):
        lines = wrap("ab " + "x" * 100 + " cd", 12, 2.0)
        assert lines[0] == "ab"
        assert "".join(lines) == "ab" + "x" * 100 + "cd"
        assert all(measure(line, 12) <= 2.0 for line in lines)
        assert wrap("", 12, 2.0) == [""]


def test_titles_are_cut_to_their_room():
    with drawing([]):
        assert fit("short", 9, 2.0) == "short"
        cut = fit("a very long title of a picture that goes on", 9, 1.0)
        assert cut.endswith("…")
        assert 0.85 < measure(cut, 9) <= 1.0


# ---- plans -------------------------------------------------------------------------------------------------------


def test_heat_lies_where_the_mass_goes(tmp_path):
    """All mass on the patch of the second row and third column, over white."""
    plan = np.zeros((1, 2, 3))
    plan[0, 1, 2] = 0.25
    picture = plain((255, 255, 255), 60, 90)
    plan_over_image(tmp_path / "a.png", picture, plan, ["mbwa"])
    over_white = np.array(to_rgb(HEAT)) * MOST_OPAQUE + 1 - MOST_OPAQUE
    left, top, right, bottom = box_of(where(tmp_path / "a.png", over_white * 255))
    # A third of the width, half of the height: squares here.
    assert right - left == pytest.approx(bottom - top, abs=3)
    assert right - left == pytest.approx(2.2 * 120 / 3, abs=3)
    assert left == pytest.approx((0.2 + 2.2 * 2 / 3) * 120, abs=3)


def test_colour_is_the_share_of_the_tokens_mass():
    """On one scale: the largest share of any token is the strongest colour."""
    shares = np.array([[0.5, 0.25], [0.25, 0.0]])
    np.testing.assert_allclose(heat(shares, 0.5)[:, :, 3], MOST_OPAQUE * np.array([[1, 0.5], [0.5, 0]]))
    np.testing.assert_allclose(heat(shares, 1.0)[:, :, 3], MOST_OPAQUE * shares)
    np.testing.assert_array_equal(heat(shares, 0.5)[:, :, :3], np.broadcast_to(to_rgb(HEAT), (2, 2, 3)))
    assert not heat(np.zeros((1, 2)), 0.0)[:, :, 3].any()


def test_a_light_and_a_heavy_token_look_alike(tmp_path):
    picture = np.random.default_rng(0).integers(0, 255, (30, 30, 3)).astype(np.uint8)
    plan = np.random.default_rng(1).random((2, 3, 3))
    for name, scale in (("a", 1.0), ("b", 1 / 64)):
        plan_over_image(tmp_path / name, picture, plan * np.array([1.0, scale])[:, None, None], ["x", "y"])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_panels_stand_apart(tmp_path):
    """Five whole pictures of one colour, four a row."""
    plan_over_image(tmp_path / "a.png", plain((255, 255, 255)), np.ones((5, 1, 1)), list("abcde"))
    heated = where(tmp_path / "a.png", (np.array(to_rgb(HEAT)) * MOST_OPAQUE + 1 - MOST_OPAQUE) * 255)
    assert heated.sum() == pytest.approx(5 * (2.2 * 120) ** 2, rel=0.03)
    assert heated.any(axis=0).sum() == pytest.approx(4 * 2.2 * 120, rel=0.03)


def test_tokens_without_mass_and_many_panels(tmp_path):
    plan_over_image(tmp_path / "a.png", plain((0, 0, 0)), np.zeros((9, 2, 2)), ["$t$"] * 8 + ["x" * 90])
    assert not where(tmp_path / "a.png", np.array(to_rgb(HEAT)) * 255).any()
    height, width, _ = imread(tmp_path / "a.png").shape
    assert width < 4 * 2.5 * 120
    assert height > 3 * 2.2 * 120


def test_grey_keeps_order_and_is_light():
    """ITU-R BT.601 luma of red, green, blue: 76, 150, 29 of 255."""
    picture = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]], np.uint8)
    grey = in_grey(picture)
    assert (grey == grey[:, :, :1]).all()
    np.testing.assert_allclose(grey[0, :, 0], [90 + y * 165 / 255 for y in (76.2, 149.7, 29.1, 255)], atol=1)


@pytest.mark.parametrize(("panels", "tokens"), [(2, ["a"]), (0, [])])
def test_a_token_a_panel(panels, tokens, tmp_path):
    with pytest.raises(ValueError, match="use one token per panel"):
        plan_over_image(tmp_path / "a.png", plain((0, 0, 0)), np.ones((panels, 2, 2)), tokens)

"""The gallery of queries: who is in it, that the page is whole in itself, and that nothing gets out of its text."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from optical_jax.evaluation.gallery import EACH, SIDE, GalleryQuery, best_and_worst, gallery_queries, write_gallery
from optical_jax.plots.thumbnails import data_uri, thumbnail
from optical_jax.retrieval.search import Ranking

EVIL = "\"><script>alert(1)</script>&amp;'</style>"


def noise(height, width, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def query(rank, lead=0.1, text="q", right=("a",)) -> GalleryQuery:
    return GalleryQuery(text, right, (("a", 0.5 + lead), ("b", 0.5)), rank)


class Page(HTMLParser):
    """Tags in order, with the text inside each kind; unbalanced tags fail."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and data.strip():
            self.texts.setdefault(self._open[-1], []).append(data)

    def attributes(self, tag, name):
        return [attrs[name] for kind, attrs in self.tags if kind == tag and name in attrs]


def pixels(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert("RGB"))


@pytest.fixture
def page(tmp_path):
    pictures = {"a": noise(300, 400), "b": noise(50, 20, seed=1), EVIL: noise(8, 8, seed=2), "unused": noise(9, 9)}
    languages = {
        "sw": [query(1, text=EVIL), query(7, right=(EVIL, "a")), *(query(n) for n in range(2, 40))],
        EVIL: [query(3)],
        "so": [],
    }
    write_gallery(tmp_path / "deep" / "gallery.html", EVIL, languages, pictures)
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["gallery.html"]
    return (tmp_path / "deep" / "gallery.html").read_text(encoding="utf-8")


# ---- who is in it ------------------------------------------------------------------------------------------------


def test_best_and_worst_by_rank_and_then_by_lead():
    queries = [query(rank, lead) for rank in range(1, 26) for lead in (0.1, 0.3)]
    best, worst = best_and_worst(queries)
    assert [(q.rank, round(q.lead, 1)) for q in best[:4]] == [(1, 0.3), (1, 0.1), (2, 0.3), (2, 0.1)]
    assert [(q.rank, round(q.lead, 1)) for q in worst[:3]] == [(25, 0.1), (25, 0.3), (24, 0.1)]
    assert len(best) == len(worst) == EACH


@pytest.mark.parametrize("count", [0, 1, 10, 13, 20])
def test_few_queries_stand_once_each(count):
    queries = [query(n + 1, text=str(n)) for n in range(count)]
    best, worst = best_and_worst(queries)
    assert sorted(best + worst) == sorted(queries)
    assert len(best) == min(count, EACH)


def test_queries_of_a_ranking():
    ranking = Ranking(
        np.array([[2, 0, 1], [1, -1, -1]]), np.array([[0.9, 0.5, 0.1], [0.4, -np.inf, -np.inf]], np.float32)
    )
    first, second = gallery_queries(["x", "y"], [[0, 1], [0]], ranking, [2, 3], ["a", "b", "c"])
    assert first == GalleryQuery("x", ("a", "b"), (("c", pytest.approx(0.9)), ("a", 0.5), ("b", pytest.approx(0.1))), 2)
    assert first.lead == pytest.approx(0.4)
    assert second == GalleryQuery("y", ("a",), (("b", pytest.approx(0.4)),), 3)
    assert second.lead == 0.0


# ---- the page ----------------------------------------------------------------------------------------------------


def test_rows_show_what_was_asked_for_and_found(page):
    shown = Page(page)
    assert len(shown.attributes("article", "class")) == 0
    assert sum(tag == "article" for tag, _ in shown.tags) == 2 * EACH + 1
    assert "relevant image at rank 39 of 4" in shown.texts["p"]
    # "a" leads everywhere and is right everywhere.
    marked = sum(attrs.get("class") == "is-right" for tag, attrs in shown.tags if tag == "figure")
    assert marked == 2 * EACH + 1
    assert shown.texts["b"].count("0.600 ✓") == 2 * EACH + 1
    assert shown.texts["b"].count("0.500") == 2 * EACH + 1
    assert shown.texts["summary"] == ["Best", "Worst", "Best"]


def test_everything_is_escaped(page):
    shown = Page(page)
    assert {tag for tag, _ in shown.tags} == {
        "html", "head", "meta", "title", "style", "body", "h1", "p", "nav", "a", "section", "h2", "details", "summary",
        "article", "div", "figure", "svg", "use", "figcaption", "b", "br", "defs", "image",
    }  # fmt: skip
    assert not any(name.startswith("on") for _, attrs in shown.tags for name in attrs)
    assert shown.texts["h1"] == shown.texts["title"] == [EVIL]
    assert EVIL in shown.texts["p"]
    assert EVIL in shown.texts["h2"]
    assert EVIL in shown.texts["figcaption"]
    assert EVIL in shown.attributes("svg", "aria-label")
    assert EVIL in shown.attributes("p", "lang")


def test_nothing_is_fetched(page):
    shown = Page(page)
    assert not re.search(r"https?:|@import|url\(|src=", page)
    ids = [attrs["id"] for _, attrs in shown.tags if "id" in attrs]
    assert len(set(ids)) == len(ids)
    for tag in ("a", "use"):
        assert {link[1:] for link in shown.attributes(tag, "href")} <= set(ids)
    assert all(uri.startswith("data:image/") for uri in shown.attributes("image", "href"))


def test_pictures_are_small_and_there_once(page):
    shown = Page(page)
    small = [pixels(uri) for uri in shown.attributes("image", "href")]
    assert sorted(picture.shape[:2] for picture in small) == [(8, 8), (50, 20), (120, SIDE)]
    sizes = zip(*(map(int, shown.attributes("image", side)) for side in ("height", "width")), strict=True)
    assert [picture.shape[:2] for picture in small] == list(sizes)


def test_is_made_for_light_dark_and_small_screens(page):
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport" content="width=device-width' in page
    assert "max-width: 40rem" in page


# ---- thumbnails --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((300, 400), (120, 160)), ((400, 100), (160, 40)), ((40, 30), (40, 30)), ((2, 900), (1, 160))],
)
def test_thumbnails_keep_their_shape(shape, expected):
    assert thumbnail(noise(*shape), 160).shape == (*expected, 3)
    np.testing.assert_array_equal(thumbnail(np.full((*shape, 3), 77, np.uint8), 160), 77)


def test_drawings_are_exact_and_photographs_near():
    drawing = np.zeros((60, 80, 3), np.uint8)
    drawing[20:40, 10:60] = (200, 30, 30)
    assert data_uri(drawing).startswith("data:image/png;base64,")
    np.testing.assert_array_equal(pixels(data_uri(drawing)), drawing)
    y, x = np.mgrid[0:60, 0:80]
    photograph = np.stack([128 + 60 * np.sin(x / 9 + c) * np.cos(y / 7) for c in range(3)], axis=2)
    photograph = np.uint8(photograph + np.random.default_rng(0).normal(0, 3, photograph.shape))
    assert data_uri(photograph).startswith("data:image/jpeg;base64,")
    assert np.abs(pixels(data_uri(photograph)).astype(int) - photograph).mean() < 6

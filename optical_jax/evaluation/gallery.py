"""Gallery of retrieval results (gallery.html): best and worst queries of every language, with the retrieved images."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from optical_jax.data.files.names import image_name, shown_name
from optical_jax.plots.thumbnails import data_uri, thumbnail
from optical_jax.retrieval.search import Ranking

EACH = 10
"""Maximum number of best, and of worst, queries shown per language."""
SHOWN = 5
"""Number of retrieved images shown per query."""
SIDE = 160
"""Longest side of a thumbnail in pixels."""


class GalleryQuery(NamedTuple):
    """A query caption, its relevant images and its retrieved images."""

    text: str
    right: tuple[str, ...]
    """Ids of the relevant images."""
    found: tuple[tuple[str, float], ...]
    """Ids and scores of the top images, best first."""
    rank: int
    """Rank of the first relevant image, from 1."""

    @property
    def lead(self) -> float:
        """Score margin between the first and the second image."""
        return self.found[0][1] - self.found[1][1] if len(self.found) > 1 else 0.0


def gallery_queries(
    texts: Sequence[str],
    right: Sequence[Collection[int]],
    ranking: Ranking,
    ranks: Sequence[int],
    pictures: Sequence[str],
) -> list[GalleryQuery]:
    """Gallery queries of one language.

    Args:
      texts: captions, in the order of the ranking's rows.
      right: positions of each caption's relevant images.
      ranking: top images of each caption.
      ranks: rank of each caption's first relevant image, from 1.
      pictures: ids of all images, by position.
    """
    return [
        GalleryQuery(
            text,
            tuple(pictures[n] for n in of),
            tuple((pictures[int(n)], float(score)) for n, score in zip(found, scores, strict=True) if n >= 0),
            int(rank),
        )
        for text, of, found, scores, rank in zip(
            texts, right, ranking.documents[:, :SHOWN], ranking.scores[:, :SHOWN], ranks, strict=True
        )
    ]


def write_gallery(
    path: Path,
    title: str,
    languages: Mapping[str, Sequence[GalleryQuery]],
    pictures: Mapping[str, UInt8[np.ndarray, "H W 3"]],
) -> None:
    """Write a self-contained HTML page: no script, no other file, no network access.

    For every language it shows the `EACH` queries whose relevant image ranks highest (ties broken by the largest lead)
    and the `EACH` where it ranks lowest, each with its relevant image and the first `SHOWN` retrieved.

    Args:
      path: path of the page.
      title: headline of the page.
      languages: language -> queries.
      pictures: id -> RGB pixels; only the images shown are read; each is embedded once, with sides up to `SIDE` pixels.
    """
    chosen = {language: best_and_worst(queries) for language, queries in languages.items()}
    shown = [query for groups in chosen.values() for group in groups for query in group]
    sheet = ImageSheet({name for query in shown for name in shown_of(query)}, pictures)
    anchors = {language: f"language-{n}" for n, language in enumerate(languages)}
    links = "".join(f'<a href="#{anchors[language]}">{escape(language)}</a>' for language in languages)
    sections = "".join(
        f'<section id="{anchors[language]}"><h2>{escape(language)}</h2>'
        + group("Best", best, language, sheet, len(pictures))
        + group("Worst", worst, language, sheet, len(pictures))
        + "</section>\n"
        for language, (best, worst) in chosen.items()
    )
    style = resources.files("optical_jax.evaluation").joinpath("gallery.css").read_text(encoding="utf-8")
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<style>\n{style}</style></head>\n'
        f"<body>\n<h1>{escape(title)}</h1>\n<p>For every language up to {EACH} captions whose image ranks highest, "
        f"and {EACH} whose image ranks lowest. Left: the image of the caption; right: the first {SHOWN} retrieved, "
        f"with their scores; relevant ones are framed and marked ✓.</p>\n<nav>{links}</nav>\n"
        f"{sections}{sheet.definitions()}</body></html>\n"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    new.write_text(page, encoding="utf-8")
    new.replace(path)


def best_and_worst(queries: Sequence[GalleryQuery]) -> tuple[list[GalleryQuery], list[GalleryQuery]]:
    """Best queries, best first, and worst queries, worst first; no query is in both."""
    ordered = sorted(queries, key=lambda query: (query.rank, -query.lead))
    return ordered[:EACH], ordered[EACH:][-EACH:][::-1]


def shown_of(query: GalleryQuery) -> Iterable[str]:
    """Ids of the images in a query's row: the first relevant one, then the retrieved ones."""
    return query.right[0], *(name for name, _ in query.found[:SHOWN])


class ImageSheet:
    """SVG sprite sheet: every image of the page is embedded once and shown by reference."""

    def __init__(self, names: Iterable[str], pictures: Mapping[str, UInt8[np.ndarray, "H W 3"]]) -> None:
        self._small = {name: thumbnail(pictures[name], SIDE) for name in sorted(names)}
        self._ids = {name: f"picture-{n}" for n, name in enumerate(self._small)}

    def show(self, name: str) -> str:
        height, width, _ = self._small[name].shape
        return (
            f'<svg class="picture" role="img" aria-label="{label(name)}" viewBox="0 0 {width} {height}">'
            f'<use href="#{self._ids[name]}"/></svg>'
        )

    def definitions(self) -> str:
        images = []
        for name, small in self._small.items():
            height, width, _ = small.shape
            images.append(f'<image id="{self._ids[name]}" width="{width}" height="{height}" href="{data_uri(small)}"/>')
        return '<svg width="0" height="0" aria-hidden="true"><defs>\n' + "\n".join(images) + "\n</defs></svg>\n"


def label(identity: str) -> str:
    """Name of an image, as HTML."""
    return escape(shown_name(image_name(identity)))


def group(title: str, queries: Sequence[GalleryQuery], language: str, sheet: ImageSheet, pictures: int) -> str:
    if not queries:
        return ""
    articles = "".join(article(query, language, sheet, pictures) for query in queries)
    return f"<details open><summary>{title}</summary>{articles}</details>"


def article(query: GalleryQuery, language: str, sheet: ImageSheet, pictures: int) -> str:
    """HTML of one query: its text, the rank of its relevant image, and a row of images."""
    found = "".join(
        f"<figure{' class=is-right' * (name in query.right)}>{sheet.show(name)}<figcaption>"
        f"<b>{score:.3f}{' ✓' * (name in query.right)}</b><br>{label(name)}</figcaption></figure>"
        for name, score in query.found[:SHOWN]
    )
    wanted = query.right[0]
    return (
        f'<article><p lang="{escape(language)}" dir="auto">{escape(query.text)}</p>'
        f'<p class="rank">relevant image at rank {query.rank:,} of {pictures:,}</p><div class="found">'
        f'<figure class="wanted">{sheet.show(wanted)}<figcaption>relevant<br>{label(wanted)}</figcaption></figure>'
        f"{found}</div></article>\n"
    )

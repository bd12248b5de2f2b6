"""gallery.html: the best and the worst queries of every language, with the pictures that were found for them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from optical_jax.plots.thumbnails import data_uri, thumbnail
from optical_jax.retrieval.search import Ranking

EACH = 10
"""Queries shown of the best and of the worst of a language, at most."""
SHOWN = 5
"""Pictures shown of a query's ranking."""
SIDE = 160
"""Pixels of a picture's longest side."""


class GalleryQuery(NamedTuple):
    """A caption, the pictures it is of, and what was found for it."""

    text: str
    right: tuple[str, ...]
    """Ids of its pictures."""
    found: tuple[tuple[str, float], ...]
    """Ids and scores of the first pictures, best first."""
    rank: int
    """Of the first right picture, from 1."""

    @property
    def lead(self) -> float:
        """Of the first picture before the second."""
        return self.found[0][1] - self.found[1][1] if len(self.found) > 1 else 0.0


def gallery_queries(
    texts: Sequence[str],
    right: Sequence[Collection[int]],
    ranking: Ranking,
    ranks: Sequence[int],
    pictures: Sequence[str],
) -> list[GalleryQuery]:
    """The queries of one language.

    Args:
      texts: captions, in the order of the ranking's rows.
      right: positions of each caption's pictures.
      ranking: the first pictures of each caption.
      ranks: of the first right picture of each caption, from 1.
      pictures: ids of all pictures, by position.
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
    """One page, whole in itself: no script, no other file, nothing from a network.

    Of every language the `EACH` queries whose right picture stands first (of equal ones those with the largest lead)
    and the `EACH` where it stands last, each with its right picture and the first `SHOWN` found.

    Args:
      path: of the page.
      title: its headline.
      languages: language -> queries.
      pictures: id -> RGB pixels; those shown are read, and written once each, at most `SIDE` pixels long.
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
        f"<body>\n<h1>{escape(title)}</h1>\n<p>Of every language up to {EACH} captions whose picture was found best, "
        f"and {EACH} where it was found worst. Left the picture that was asked for, beside it the first {SHOWN} found, "
        f"with their scores; framed and marked ✓ where right.</p>\n<nav>{links}</nav>\n"
        f"{sections}{sheet.definitions()}</body></html>\n"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    new.write_text(page, encoding="utf-8")
    new.replace(path)


def best_and_worst(queries: Sequence[GalleryQuery]) -> tuple[list[GalleryQuery], list[GalleryQuery]]:
    """No query stands in both; the worst one first among the worst."""
    ordered = sorted(queries, key=lambda query: (query.rank, -query.lead))
    return ordered[:EACH], ordered[EACH:][-EACH:][::-1]


def shown_of(query: GalleryQuery) -> Iterable[str]:
    """The pictures of its row: the first right one, and those found."""
    return query.right[0], *(name for name, _ in query.found[:SHOWN])


class ImageSheet:
    """Every picture of the page once; where it is shown, it is referred to."""

    def __init__(self, names: Iterable[str], pictures: Mapping[str, UInt8[np.ndarray, "H W 3"]]) -> None:
        self._small = {name: thumbnail(pictures[name], SIDE) for name in sorted(names)}
        self._ids = {name: f"picture-{n}" for n, name in enumerate(self._small)}

    def show(self, name: str) -> str:
        height, width, _ = self._small[name].shape
        return (
            f'<svg class="picture" role="img" aria-label="{escape(name)}" viewBox="0 0 {width} {height}">'
            f'<use href="#{self._ids[name]}"/></svg>'
        )

    def definitions(self) -> str:
        images = []
        for name, small in self._small.items():
            height, width, _ = small.shape
            images.append(f'<image id="{self._ids[name]}" width="{width}" height="{height}" href="{data_uri(small)}"/>')
        return '<svg width="0" height="0" aria-hidden="true"><defs>\n' + "\n".join(images) + "\n</defs></svg>\n"


def group(title: str, queries: Sequence[GalleryQuery], language: str, sheet: ImageSheet, pictures: int) -> str:
    if not queries:
        return ""
    articles = "".join(article(query, language, sheet, pictures) for query in queries)
    return f"<details open><summary>{title}</summary>{articles}</details>"


def article(query: GalleryQuery, language: str, sheet: ImageSheet, pictures: int) -> str:
    """One query: its text, the rank of its picture, and a row of pictures."""
    found = "".join(
        f"<figure{' class=is-right' * (name in query.right)}>{sheet.show(name)}<figcaption>"
        f"<b>{score:.3f}{' ✓' * (name in query.right)}</b><br>{escape(name)}</figcaption></figure>"
        for name, score in query.found[:SHOWN]
    )
    wanted = query.right[0]
    return (
        f'<article><p lang="{escape(language)}" dir="auto">{escape(query.text)}</p>'
        f'<p class="rank">right picture at rank {query.rank:,} of {pictures:,}</p><div class="found">'
        f'<figure class="wanted">{sheet.show(wanted)}<figcaption>asked for<br>{escape(wanted)}</figcaption></figure>'
        f"{found}</div></article>\n"
    )

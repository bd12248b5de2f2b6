"""Which region of a picture a phrase of its captions means: every box is ranked for every phrase of its picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from optical_jax.data.images.flickr_entities import Box, FlickrEntities
from optical_jax.errors import DataError
from optical_jax.evaluation.phrase_regions import RegionPicture, phrase_figures
from optical_jax.retrieval.metrics import PerQuery
from optical_jax.retrieval.search import Advance
from optical_jax.towers.images import BATCH, encode_picture_blocks, grid_of
from optical_jax.towers.tower import Tower, encode, placed
from optical_jax.types import TokenVectors


class Asked(NamedTuple):
    """A phrase that stands in a caption, and where in the picture it is."""

    name: str
    """CAPTION:PLACE of its first word."""
    picture: str
    text: str
    type: str
    gold: np.ndarray
    """Boxes [n, 4], as edges in pixels."""


def phrases_of(entities: FlickrEntities) -> list[Asked]:
    """Every phrase that someone drew a box for.

    Raises:
      DataError: there is none.
    """
    found = []
    for caption, phrases in entities.phrases.items():
        picture = entities.captions.captions["en"][caption].picture
        for phrase in phrases:
            if boxes := entities.regions[picture].boxes.get(phrase.chain):
                name = f"{caption}:{phrase.first_word}"
                found.append(Asked(name, picture, phrase.text, phrase.types[0], as_edges(boxes)))
    if not found:
        raise DataError(f"{entities.captions.name}, {entities.captions.split}: no phrase has a box")
    return found


def gold_boxes(entities: FlickrEntities, picture: str) -> Float[np.ndarray, "n 4"]:
    """All boxes that were drawn in a picture, each once."""
    every = dict.fromkeys(box for boxes in entities.regions[picture].boxes.values() for box in boxes)
    return as_edges(list(every))


def as_edges(boxes: Sequence[Box]) -> Float[np.ndarray, "n 4"]:
    """Boxes [n, 4] given by their outermost pixels, as the edges around these."""
    return np.array(boxes, np.float64) + np.array([0, 0, 1, 1])


def rank_boxes(
    askers: Mapping[str, Tower],
    image: Tower,
    entities: FlickrEntities,
    phrases: Sequence[Asked],
    candidates: Mapping[str, Float[np.ndarray, "N 4"]],
    *,
    batch_size: int = BATCH,
    advance: Advance = lambda count: None,
) -> dict[str, PerQuery]:
    """Figures of every phrase, by each of several towers of texts. Pictures are encoded once, a block at a time.

    Args:
      askers: system -> its tower of texts.
      image: tower of pictures that gives a vector a patch.
      entities: where the pictures are, and their sizes.
      phrases: from `phrases_of`.
      candidates: picture id -> the boxes that are ranked.
      batch_size, advance: as of `encode_picture_blocks`.

    Returns:
      System -> phrase -> `phrase_regions.PHRASE_FIGURES`.
    """
    assert entities.captions.pictures is not None, "phrases were read with their pictures"
    of_picture: dict[str, list[int]] = {}
    for n, phrase in enumerate(phrases):
        of_picture.setdefault(phrase.picture, []).append(n)
    names = list(of_picture)
    which, texts = different_texts(phrases)
    encoded = {system: encode(placed(asker), texts) for system, asker in askers.items()}
    found: dict[str, PerQuery] = {system: {} for system in askers}
    for block in encode_picture_blocks(
        image, entities.captions.pictures, names, batch_size=batch_size, advance=advance
    ):
        of_block = [names[n] for n in block.positions]
        pictures = regions_of(image, entities, of_block, block.vectors, candidates)
        rows = [(n, place) for place, name in enumerate(of_block) for n in of_picture[name]]
        asked = [phrases[n] for n, _ in rows]
        chosen = which[[n for n, _ in rows]]
        for system, vectors in encoded.items():
            own: Any = vectors.vectors[chosen], vectors.mask[chosen]
            ids, golds = [phrase.name for phrase in asked], [phrase.gold for phrase in asked]
            found[system] |= phrase_figures(TokenVectors(*own), ids, [place for _, place in rows], golds, pictures)
    return {system: {phrase.name: per[phrase.name] for phrase in phrases} for system, per in found.items()}


def different_texts(phrases: Sequence[Asked]) -> tuple[Int[np.ndarray, "B"], list[str]]:
    """Every text once, and which of them each phrase is: "a man" stands in many captions."""
    texts = list(dict.fromkeys(phrase.text for phrase in phrases))
    place = {text: n for n, text in enumerate(texts)}
    return np.array([place[phrase.text] for phrase in phrases]), texts


def regions_of(
    image: Tower,
    entities: FlickrEntities,
    names: Sequence[str],
    vectors: TokenVectors,
    candidates: Mapping[str, Float[np.ndarray, "N 4"]],
) -> list[RegionPicture]:
    """The pictures of a block with their boxes."""
    pictures = []
    for row, name in enumerate(names):
        size = entities.regions[name]
        grid, area = grid_of(image, size.height, size.width)
        patches = np.asarray(vectors.vectors[row])[np.asarray(vectors.mask[row])]
        pictures.append(RegionPicture(candidates[name], patches, grid, area))
    return pictures

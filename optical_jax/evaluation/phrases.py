"""Which region of a picture a phrase of its captions means: every box is ranked for every phrase of its picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from optical_jax.commands.picture_towers import TextAndImage, text_of_run, towers_of_model, towers_of_run
from optical_jax.data.images.flickr_entities import Box, FlickrEntities
from optical_jax.errors import ConfigError, DataError
from optical_jax.evaluation.options import PhrasesCommand
from optical_jax.evaluation.phrase_regions import RegionPicture, phrase_figures
from optical_jax.files import own_system, trains_teacher
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


def find_systems(command: PhrasesCommand) -> tuple[dict[str, TextAndImage], dict[str, Any]]:
    """Who is tried, the system itself first, and what it is for the record.

    Raises:
      ConfigError: no such run, checkpoint or pair, or towers that do not agree.
    """
    from optical_jax.runs.load import checkpoint_step as find_step
    from optical_jax.runs.load import is_run, load

    cache_dir = command.cache_dir or None
    if command.model:
        if is_run(Path(command.model)):
            raise ConfigError(f"model={command.model} is a run; give --run {command.model}")
        towers = towers_of_model(command.model, command.pictures_by, cache_dir=cache_dir)
        return {"model": towers}, {"model": command.model, "pictures_by": command.pictures_by}
    run = Path(command.run)
    step = find_step(run, command.checkpoint)
    towers = towers_of_run(run, step, command.pictures_by, cache_dir)
    systems = {own_system(run): towers}
    if trains_teacher(run) and not command.pictures_by:
        systems["untrained"] = towers_of_run(run, "untrained", cache_dir=cache_dir)
    else:
        systems["untrained"] = towers._replace(text=text_of_run(run, "untrained", cache_dir))
    if not trains_teacher(run):
        systems["teacher"] = towers._replace(text=load(run, part="teacher", cache_dir=cache_dir))
    return systems, {"run": str(run), "checkpoint": step, "pictures_by": command.pictures_by}


def summary(
    command: PhrasesCommand,
    entities: FlickrEntities,
    phrases: Sequence[Asked],
    found: Mapping[str, PerQuery],
    origin: Mapping[str, Any],
) -> dict[str, Any]:
    """The content of metrics.json."""
    from optical_jax.data.collections.captions import hashes
    from optical_jax.evaluation.phrase_regions import mean_phrase_figures

    types: dict[str, list[str]] = {}
    for phrase in phrases:
        types.setdefault(phrase.type, []).append(phrase.name)
    system, *others = found
    own = found[system]
    boxes = [Path(command.boxes)] if command.boxes else []
    return {
        "set": entities.captions.name,
        "split": entities.captions.split,
        "candidates": "given" if command.boxes else "drawn",
        "pictures": len({phrase.picture for phrase in phrases}),
        "system": system,
        **origin,
        "figures": mean_phrase_figures(own),
        "references": {name: mean_phrase_figures(found[name]) for name in others},
        "types": {kind: mean_phrase_figures({name: own[name] for name in of}) for kind, of in sorted(types.items())},
        "inputs": hashes([*entities.captions.files, *boxes]),
    }


def write_rows(folder: Path, phrases: Sequence[Asked], found: Mapping[str, PerQuery]) -> None:
    """per_phrase.jsonl. An older metrics.json goes first: a folder that has one is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").unlink(missing_ok=True)
    with (folder / "per_phrase.jsonl").open("w", encoding="utf-8") as file:
        for system, per_phrase in found.items():
            for phrase in phrases:
                what = {"system": system, "phrase": phrase.name, "picture": phrase.picture, "type": phrase.type}
                row = what | {"text": phrase.text} | per_phrase[phrase.name]
                file.write(json.dumps(row, ensure_ascii=False) + "\n")

"""Phrase grounding: rank the candidate boxes of an image for each phrase of its captions; recall and upper bound."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from optical_jax.data.images.flickr_entities import Box, FlickrEntities
from optical_jax.errors import ConfigError, DataError
from optical_jax.evaluation.options import PhrasesCommand
from optical_jax.files import own_system, trains_teacher
from optical_jax.retrieval.metrics import PerQuery
from optical_jax.retrieval.search import Advance
from optical_jax.runs.pair import TextAndImage, text_and_image_of_run, text_of_run, towers_of_model
from optical_jax.towers.images import BATCH, encode_images, grid_of
from optical_jax.towers.tower import Tower, encode, to_device
from optical_jax.types import TokenVectors


class Asked(NamedTuple):
    """A phrase of a caption with its annotated boxes in the image."""

    name: str
    """CAPTION:POSITION of its first word."""
    picture: str
    text: str
    type: str
    gold: np.ndarray
    """Annotated boxes [n, 4]: left, top, right, bottom edges in pixels."""


def phrases_of(entities: FlickrEntities) -> list[Asked]:
    """All phrases with an annotated box.

    Raises:
      DataError: no phrase has one.
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
    """All annotated boxes of an image, without duplicates."""
    every = dict.fromkeys(box for boxes in entities.regions[picture].boxes.values() for box in boxes)
    return as_edges(list(every))


def as_edges(boxes: Sequence[Box]) -> Float[np.ndarray, "n 4"]:
    """Convert boxes [n, 4] from inclusive pixel coordinates to edge coordinates."""
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
    """Phrase grounding metrics of every phrase, for several text towers. Images are encoded once, in blocks.

    Args:
      askers: system -> its text tower.
      image: image tower that gives a vector per patch.
      entities: the images and their sizes.
      phrases: from `phrases_of`.
      candidates: image id -> boxes to rank.
      batch_size, advance: as of `encode_images`.

    Returns:
      System -> phrase -> `phrase_regions.PHRASE_METRICS`.
    """
    assert entities.captions.pictures is not None, "phrases were read with their images"
    of_picture: dict[str, list[int]] = {}
    for n, phrase in enumerate(phrases):
        of_picture.setdefault(phrase.picture, []).append(n)
    names = list(of_picture)
    which, texts = different_texts(phrases)
    encoded = {system: encode(to_device(asker), texts) for system, asker in askers.items()}
    found: dict[str, PerQuery] = {system: {} for system in askers}
    for block in encode_images(image, entities.captions.pictures, names, batch_size=batch_size, advance=advance):
        of_block = [names[n] for n in block.positions]
        pictures = regions_of(image, entities, of_block, block.vectors, candidates)
        rows = [(n, place) for place, name in enumerate(of_block) for n in of_picture[name]]
        asked = [phrases[n] for n, _ in rows]
        chosen = which[[n for n, _ in rows]]
        for system, vectors in encoded.items():
            own: Any = vectors.vectors[chosen], vectors.mask[chosen]
            ids, golds = [phrase.name for phrase in asked], [phrase.gold for phrase in asked]
            found[system] |= phrase_metrics(TokenVectors(*own), ids, [place for _, place in rows], golds, pictures)
    return {system: {phrase.name: per[phrase.name] for phrase in phrases} for system, per in found.items()}


def different_texts(phrases: Sequence[Asked]) -> tuple[Int[np.ndarray, "B"], list[str]]:
    """Deduplicate phrase texts: index of each phrase's text [B], and the distinct texts ("a man" occurs often)."""
    texts = list(dict.fromkeys(phrase.text for phrase in phrases))
    place = {text: n for n, text in enumerate(texts)}
    return np.array([place[phrase.text] for phrase in phrases]), texts


def regions_of(
    image: Tower,
    entities: FlickrEntities,
    names: Sequence[str],
    vectors: TokenVectors,
    candidates: Mapping[str, Float[np.ndarray, "N 4"]],
) -> list[RegionImage]:
    """Images of a block with their patch vectors and candidate boxes."""
    pictures = []
    for row, name in enumerate(names):
        size = entities.regions[name]
        grid, area = grid_of(image, size.height, size.width)
        patches = np.asarray(vectors.vectors[row])[np.asarray(vectors.mask[row])]
        pictures.append(RegionImage(candidates[name], patches, grid, area))
    return pictures


def find_systems(command: PhrasesCommand) -> tuple[dict[str, TextAndImage], dict[str, Any]]:
    """Load the evaluated system (first) and its references, and describe its origin for metrics.json.

    Raises:
      ConfigError: no such run, checkpoint or dual encoder, or incompatible towers.
    """
    from optical_jax.runs.load import checkpoint_step, is_run, load

    cache_dir = command.cache_dir or None
    if command.model:
        if is_run(Path(command.model)):
            raise ConfigError(f"model={command.model} is a run; give --run {command.model}")
        towers = towers_of_model(command.model, command.pictures_by, cache_dir=cache_dir)
        return {"model": towers}, {"model": command.model, "pictures_by": command.pictures_by}
    run = Path(command.run)
    step = checkpoint_step(run, command.checkpoint)
    towers = text_and_image_of_run(run, step, command.pictures_by, cache_dir)
    systems = {own_system(run): towers}
    if trains_teacher(run) and not command.pictures_by:
        systems["untrained"] = text_and_image_of_run(run, "untrained", cache_dir=cache_dir)
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
        "figures": mean_phrase_metrics(own),
        "references": {name: mean_phrase_metrics(found[name]) for name in others},
        "types": {kind: mean_phrase_metrics({name: own[name] for name in of}) for kind, of in sorted(types.items())},
        "inputs": hashes([*entities.captions.files, *boxes]),
    }


def write_rows(folder: Path, phrases: Sequence[Asked], found: Mapping[str, PerQuery]) -> None:
    """Write per_phrase.jsonl. An older metrics.json is deleted first: a folder that has one is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").unlink(missing_ok=True)
    with (folder / "per_phrase.jsonl").open("w", encoding="utf-8") as file:
        for system, per_phrase in found.items():
            for phrase in phrases:
                what = {"system": system, "phrase": phrase.name, "picture": phrase.picture, "type": phrase.type}
                row = what | {"text": phrase.text} | per_phrase[phrase.name]
                file.write(json.dumps(row, ensure_ascii=False) + "\n")


DEPTHS = (1, 5, 10)
PROTOCOLS = ("any", "merged")
"""Protocols for phrases with several gold boxes: a candidate must match any of them, or the smallest box that encloses
them all (merged)."""
PHRASE_METRICS = tuple(f"{protocol} {name}" for protocol in PROTOCOLS for name in ("R@1", "R@5", "R@10", "bound"))
"""Metrics of a phrase, 0 or 1 each; "bound" is the upper bound of recall: whether any candidate is correct."""


@dataclass(frozen=True)
class RegionImage:
    """Patch vectors of an image, and the candidate boxes ranked for its phrases."""

    boxes: Float[np.ndarray, "N 4"]
    patches: Float[np.ndarray, "rows*cols E"]
    """In row-major order."""
    grid: tuple[int, int]
    """Rows and columns of the patch grid."""
    area: tuple[float, float, float, float]
    """Box that the patch grid covers: the entire image, or the part left after cropping."""


def phrase_metrics(
    phrases: TokenVectors,
    ids: Sequence[str],
    picture_of: Sequence[int],
    gold: Sequence[Float[np.ndarray, "_ 4"]],
    pictures: Sequence[RegionImage],
    threshold: float = 0.5,
) -> PerQuery:
    """Rank the boxes of every image for its phrases: Recall@1, 5 and 10 and its upper bound.

    A box's vector is the mean of the patches it covers, weighted by the covered share and normalised to unit length.
    Its score is MaxSim, which with one vector per box ranks like the cosine of mean vectors. Boxes that cover no patch
    come last; ties keep the order of the boxes.

    Args:
      phrases: vectors [B, Q, E] of unit length.
      ids: phrase ids.
      picture_of: position in `pictures` of each phrase.
      gold: gold boxes of each phrase, at least one.
      pictures: candidate boxes and patch vectors.
      threshold: least intersection over union of a correct candidate.

    Returns:
      Phrase id -> `PHRASE_METRICS`, in the form that paired tests take (`compare_runs(a, b, metrics=PHRASE_METRICS)`).

    Raises:
      ValueError: a phrase without a gold box, or arguments of different lengths.

    Sources: Plummer et al. (Flickr30k Entities, IJCV 2017); Kamath et al. (MDETR, ICCV 2021) for the two protocols.
    """
    if not len(phrases.mask) == len(ids) == len(picture_of) == len(gold):
        raise ValueError(f"{len(phrases.mask)} phrases, {len(ids)} ids, {len(picture_of)} pictures, {len(gold)} golds")
    without = [name for name, boxes in zip(ids, gold, strict=True) if not len(boxes)]
    if without:
        raise ValueError(f"phrase {without[0]} has no gold box; leave it out")
    # With one vector per box, MaxSim is the sum of the token cosines.
    queries = np.where(np.asarray(phrases.mask)[:, :, None], np.asarray(phrases.vectors, np.float32), 0.0).sum(axis=1)
    of = np.asarray(picture_of)
    found: PerQuery = {}
    for n in np.unique(of).tolist():
        regions, covered = region_vectors(pictures[n])
        members = np.flatnonzero(of == n)
        scores = np.where(covered, queries[members] @ regions.T, -np.inf)  # [phrases, N]
        order = np.argsort(-scores, axis=1, kind="stable")
        for phrase, ranked in zip(members.tolist(), order, strict=True):
            boxes = np.asarray(gold[phrase], np.float64)
            merged = np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])[None]
            figures: dict[str, float] = {}
            for protocol, targets in zip(PROTOCOLS, (boxes, merged), strict=True):
                right: Any = (overlap(pictures[n].boxes, targets) >= threshold).any(axis=1)
                right = right[ranked]
                figures |= {f"{protocol} R@{k}": float(right[:k].any()) for k in DEPTHS}
                figures[f"{protocol} bound"] = float(right.any())
            found[ids[phrase]] = figures
    return {name: found[name] for name in ids}


def region_vectors(picture: RegionImage) -> tuple[Float[np.ndarray, "N E"], Bool[np.ndarray, "N"]]:
    """Unit vectors of an image's boxes, and whether each covers a patch; the vector of one that does not is zero."""
    rows, cols = picture.grid
    if len(picture.patches) != rows * cols:
        raise ValueError(f"{len(picture.patches)} patch vectors do not fill a grid of {rows} x {cols}")
    weights = patch_weights(picture.boxes, picture.grid, picture.area)  # [N, rows*cols]
    means = weights @ np.asarray(picture.patches, np.float64)  # [N, E]
    norms = np.linalg.norm(means, axis=1, keepdims=True)
    return (means / np.where(norms > 0, norms, 1.0)).astype(np.float32), norms[:, 0] > 0


def patch_weights(
    boxes: Float[np.ndarray, "N 4"], grid: tuple[int, int], area: tuple[float, float, float, float]
) -> Float[np.ndarray, "N P"]:
    """Share of every patch that each box covers, 0 to 1; patches divide `area` evenly."""
    rows, cols = grid
    left, top, right, bottom = area

    def covered(low: np.ndarray, high: np.ndarray, edges: np.ndarray) -> np.ndarray:
        length = np.minimum(high[:, None], edges[1:]) - np.maximum(low[:, None], edges[:-1])
        return np.clip(length, 0.0, None) / np.diff(edges)

    boxes = np.asarray(boxes, np.float64)
    across = covered(boxes[:, 0], boxes[:, 2], np.linspace(left, right, cols + 1))  # [N, cols]
    down = covered(boxes[:, 1], boxes[:, 3], np.linspace(top, bottom, rows + 1))  # [N, rows]
    return np.einsum("NR,NC->NRC", down, across).reshape(len(boxes), rows * cols)


def overlap(a: Float[np.ndarray, "N 4"], b: Float[np.ndarray, "M 4"]) -> Float[np.ndarray, "N M"]:
    """Pairwise intersection over union (IoU) of two sets of boxes; zero between boxes without area."""
    a, b = np.asarray(a, np.float64)[:, None], np.asarray(b, np.float64)[None]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    both = np.clip(sides, 0.0, None).prod(axis=-1)
    either = (a[..., 2:] - a[..., :2]).prod(axis=-1) + (b[..., 2:] - b[..., :2]).prod(axis=-1) - both
    return np.divide(both, either, out=np.zeros_like(both), where=either > 0)


def mean_phrase_metrics(per_phrase: PerQuery) -> dict[str, float]:
    """Mean of each metric over phrases, and their number as "phrases"."""
    means = {name: float(np.mean([each[name] for each in per_phrase.values()])) for name in PHRASE_METRICS}
    return means | {"phrases": len(per_phrase)}

"""Training and dev data of an image-text teacher: image sets, their files, and dev retrieval."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

import numpy as np

from optical_jax.config import IMAGE_DEV_METRICS, ImageDataConfig, expand_path
from optical_jax.data.batches.images import HeldVectors
from optical_jax.data.batches.tokens import FlatTokens
from optical_jax.data.images.captions import NOT_THERE, ImageTextSet, images_of, join_image_sets
from optical_jax.data.images.files import FileImage, refuse_broken
from optical_jax.data.images.sources import read_image_set
from optical_jax.data.text.bitext import text_key
from optical_jax.files import sha256_file
from optical_jax.retrieval.image_metrics import two_way_metrics
from optical_jax.retrieval.image_search import by_position, search_both_ways
from optical_jax.towers.images import encode_images
from optical_jax.towers.pair import TowerPair
from optical_jax.towers.texts import encode_texts
from optical_jax.towers.tower import Tower
from optical_jax.types import ImageTextBatch, Params, TokenVectors

MetricValues = dict[str, dict[str, float]]
"""Name of a set -> metric -> value."""


@dataclass(frozen=True)
class StageData:
    train: ImageTextSet
    """All sets and splits as one."""
    dev: dict[str, ImageTextSet]
    """By name; empty without dev retrieval."""
    inputs: dict[str, dict[str, str]]
    """By kind, path -> sha256 of every file."""
    report: dict[str, Any]
    """Counts of what the files hold, and of the dev split what of it is learned from."""
    seen: list[str]
    """Hexadecimal digests of the training images, of this training and of the image tower's before."""

    def lines(self) -> list[str]:
        """A report for the terminal."""
        found = [
            f"{one['set']}, {one['split']}: {one['pictures']:,} pictures, {one['captions']:,} captions"
            + (f", {one['without_captions']:,} pictures without" if one["without_captions"] else "")
            + "".join(f", {count:,} {reason}" for reason, count in one["left_out"].items())
            for one in self.report["train"]
        ]
        for one in self.report["dev"]:
            asked, seen = ((one[f"{part}pictures"], one[f"{part}captions"]) for part in ("", "seen_"))
            told = "all" if seen == asked else f"{seen[0]:,} and {seen[1]:,}" if any(seen) else "none"
            found.append(
                f"dev: {one['set']}, {asked[0]:,} pictures and {asked[1]:,} captions, {told} of them trained on"
            )
        return found


def read_stage_data(cfg: ImageDataConfig, seen_before: Collection[str] = ()) -> StageData:
    """Read all captions, image locations and image digests.

    Args:
      cfg: which sets and splits.
      seen_before: digests of images that the image tower was trained on before.

    Raises:
      ConfigError, DataError: as `read_image_set`; all images that cannot be decoded are named.
    """
    language, specs = cfg.language, [expand_path(spec, "data.images") for spec in cfg.images]
    found = {(spec, split): read_image_set(spec, split, (language,)) for spec in specs for split in cfg.splits}
    train = list(found.values())
    inputs, dev = {"images": files_of(train)}, {}
    if cfg.dev_split:
        keys = [(spec, cfg.dev_split) for spec in specs]
        try:
            each = [found.get(key) or read_image_set(*key, (language,)) for key in keys]
        except NOT_THERE as error:
            raise type(error)(
                f"data.dev_split={cfg.dev_split}: {error}; or leave it empty, for no dev figures"
            ) from None
        inputs["dev"] = files_of(each)
        for one in each:
            dev[unlike(one.name, dev)] = some_images(one, language, cfg.dev_pictures)
    if cfg.check_pictures:
        every = [images_of(one) for one in (*train, *dev.values())]
        refuse_broken([source for pictures in every for source in pictures.sources.values()], cfg.threads)
    pictures = {digest.hex() for one in train for digest in images_of(one).digests.values()}.union(seen_before)
    captions = {text_key(caption.text) for one in train for caption in one.captions[language].values()}
    report = {
        "train": [counts_of(one, language) for one in train],
        "dev": [
            counts_of(one, language) | {"set": name} | seen_of(one, language, pictures, captions)
            for name, one in dev.items()
        ],
    }
    return StageData(join_image_sets(train), dev, inputs, report, sorted(pictures))


def unlike(name: str, others: Mapping[str, Any]) -> str:
    """A name made unique by a number."""
    return name if name not in others else f"{name} ({len(others) + 1})"


def counts_of(found: ImageTextSet, language: str) -> dict[str, Any]:
    pictures, captioned = len(images_of(found)), len(found.captions_of_images(language))
    return {
        "set": found.name,
        "split": found.split,
        "pictures": pictures,
        "captions": len(found.captions[language]),
        "without_captions": pictures - captioned,
        "left_out": found.left_out,
    }


def seen_of(found: ImageTextSet, language: str, pictures: Collection[str], captions: Collection[str]) -> dict[str, int]:
    """How much of a dev set is in the training set.

    Args:
      pictures: hexadecimal digests of the training images.
      captions: `text_key` of the training captions.
    """
    texts = (caption.text for caption in found.captions[language].values())
    return {
        "seen_pictures": sum(digest.hex() in pictures for digest in images_of(found).digests.values()),
        "seen_captions": sum(text_key(text) in captions for text in texts),
    }


def files_of(sets: Sequence[ImageTextSet]) -> dict[str, str]:
    """Path -> sha256 of every file; images that are a file each get one digest per set."""
    found = {str(file): sha256_file(file) for one in sets for file in one.files}
    for one in sets:
        pictures = images_of(one)
        files = {name: source for name, source in pictures.sources.items() if isinstance(source, FileImage)}
        if files:
            name = f"{next(iter(files.values())).path.parent}: {one.split}, {len(files)} pictures"
            found[name] = sha256(b"".join(pictures.digests[each] for each in files)).hexdigest()
    return found


def some_images(found: ImageTextSet, language: str, most: int) -> ImageTextSet:
    """At most `most` images of a set, evenly spaced, with their captions."""
    pictures = images_of(found)
    ids = list(pictures)
    if len(ids) <= most:
        return found
    kept = {ids[n * len(ids) // most] for n in range(most)}
    captions = {name: one for name, one in found.captions[language].items() if one.picture in kept}
    return replace(found, pictures=pictures.some(kept), captions={language: captions})


# ---- precomputed caption vectors ----------------------------------------------------------------------------------


def hold_texts(text: Tower, captions: Sequence[str], length: int, *, pooled: bool) -> HeldVectors:
    """Precompute the vectors of all captions of a frozen text tower.

    Args:
      text: a frozen tower.
      captions: in the order of `captions_in_order`.
      length: tokens they are cut to; 0 for the tower's own.
      pooled: one unit mean vector a caption instead of token vectors.
    """
    if length:
        head = replace(text.cfg.head, query_length=length)
        text = replace(text, cfg=replace(text.cfg, head=head))
    vectors: list[np.ndarray] = [np.zeros((0, 0), np.float16)] * len(captions)
    # Block by block: whole in float32 they would take twice as much, and their padding.
    for block in encode_texts(text, captions, pooled=pooled):
        found, mask = np.asarray(block.vectors.vectors), np.asarray(block.vectors.mask)
        for n, row, real in zip(block.positions.tolist(), found, mask, strict=True):
            vectors[n] = row[real].astype(np.float16)
    return HeldVectors(vectors)


def held_bytes(pair: TowerPair, captions: FlatTokens) -> int:
    """Bytes that `hold_texts` needs."""
    vectors = len(captions) if one_vector_a_text(pair) else int(captions.lengths.sum())
    return vectors * 2 * pair.text.cfg.vector_width


def as_if_held(batch: ImageTextBatch, pair: TowerPair) -> ImageTextBatch:
    """A batch with placeholder caption vectors of the shapes that `hold_texts` gives, for a dry run."""
    texts, E = batch.texts, pair.text.cfg.vector_width
    assert not isinstance(texts, TokenVectors), "its vectors are there already"
    mask = np.ones((len(batch.picture), 1), bool) if one_vector_a_text(pair) else np.asarray(texts.keep)
    vectors = np.where(mask[:, :, None], np.full(E, E**-0.5, np.float16), np.float16(0))
    return replace(batch, texts=TokenVectors(vectors, mask))  # pyright: ignore[reportArgumentType]


def one_vector_a_text(pair: TowerPair) -> bool:
    return pair.interaction == "pooled" or pair.text.cfg.head.pooling != "none"


# ---- dev metrics -------------------------------------------------------------------------------------------------


def make_dev_metrics(
    dev: Mapping[str, ImageTextSet], pair: TowerPair, language: str
) -> Callable[[Params], MetricValues]:
    """Dev retrieval, text to image and image to text, as a function of both towers' parameters.

    Scored as the loss scores: mean vectors, or tokens and patches.
    """
    pooled = pair.interaction == "pooled"

    def evaluate(params: Params) -> MetricValues:
        text, image = (replace(tower, params=params[part]) for part, tower in pair.towers.items())
        found = {}
        for name, one in dev.items():
            captions, pictures = one.captions[language], images_of(one)
            ids = list(pictures)
            asked = [caption.text for caption in captions.values()]
            texts = by_position(encode_texts(text, asked, pooled=pooled), len(captions))
            images = by_position(encode_images(image, pictures, ids, pooled=pooled), len(ids))
            relevant = {name: [caption.picture] for name, caption in captions.items()}
            figures = two_way_metrics(*(way.per_query for way in search_both_ways(relevant, texts, ids, images)))
            found[name] = {figure: figures[figure] for figure in IMAGE_DEV_METRICS}
        return found

    return evaluate

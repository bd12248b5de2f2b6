"""Captioned images for a student's training: selection of captions and their images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from optical_jax.config import DataConfig, expand_path
from optical_jax.data.images.captions import ImageTextSet, our_code
from optical_jax.data.images.files import Images
from optical_jax.data.images.sources import read_image_set
from optical_jax.data.text.bitext import Bitext, text_key
from optical_jax.data.text.formats import InputFile, fingerprint
from optical_jax.errors import DataError

ALL_IMAGES = ": pictures"
"""Suffix of a set's name for the joint digest of its images."""


@dataclass(frozen=True)
class CaptionedImages:
    """Captions of a run's languages, each with its image."""

    spec: str
    captions: dict[str, list[str]]
    """Language -> texts."""
    picture: dict[str, Int[np.ndarray, "n"]]
    """Language -> index in `ids` of each caption's image."""
    ids: list[str]
    """Ids of images with a caption."""
    pictures: Images
    dropped: dict[str, dict[str, int]]
    """Language -> reason -> number of captions left out."""
    files: tuple[InputFile, ...]
    """Caption files and image archives."""
    left_out: Mapping[str, int]
    """Reason -> rows of the set that give no captioned image, over all these languages."""

    @cached_property
    def digests(self) -> list[bytes]:
        """Digests of the image files, in the order of `ids`."""
        return [self.pictures.digest(identity) for identity in self.ids]

    def inputs(self) -> dict[str, str]:
        """Path -> sha256 of every input file; one joint digest for all images with captions."""
        found = {file.path: file.sha256 for file in self.files}
        return found | {f"{self.spec}{ALL_IMAGES}": sha256(b"".join(self.digests)).hexdigest()}

    def reports(self) -> list[dict[str, Any]]:
        """Caption statistics for bitext.json."""
        return [
            {
                "language": language,
                "captions": len(texts),
                "pictures": len(np.unique(self.picture[language])),
                "dropped": self.dropped[language],
                "left_out_of_all_languages": dict(self.left_out),
                "files": [{"path": file.path, "sha256": file.sha256} for file in self.files],
            }
            for language, texts in self.captions.items()
        ]

    def lines(self) -> list[str]:
        """Printed caption statistics, one line per language, and one of rows that the set leaves out."""
        counts = ", ".join(f"{reason} {count:,}" for reason, count in self.left_out.items())
        left_out = [f"{', '.join(self.captions)} pictures: left out of {self.spec}: {counts}"] if counts else []
        return [
            f"{one['language']} pictures: {one['captions']:,} captions of {one['pictures']:,} pictures"
            + "".join(f", {reason.replace('_', ' ')} {count:,}" for reason, count in one["dropped"].items())
            for one in self.reports()
        ] + left_out


def read_captioned_images(cfg: DataConfig, languages: list[str], dev: Mapping[str, Bitext]) -> CaptionedImages:
    """Read the captions of data.pictures, train split, in a run's languages.

    Captions are dropped, and counted, if they are repeated for an image, or the foreign side of a dev pair; and beyond
    data.max_pairs per language, by a hash of the image, so that languages keep the same ones.

    Raises:
      ConfigError, DataError: as `read_image_set`; no caption of a language is left.
    """
    spec = expand_path(cfg.pictures, "data.pictures")
    found = read_image_set(spec, "train", languages)
    captions, named, dropped = {}, {}, {}
    for language in languages:
        captions[language], named[language], dropped[language] = _of_language(cfg, found, language, dev.get(language))
        if not captions[language]:
            why = ", ".join(f"{reason} {count}" for reason, count in dropped[language].items())
            raise DataError(f"data.pictures={spec}: no {language} caption is left ({why})")
    ids = list(dict.fromkeys(picture for of in named.values() for picture in of))
    place = {identity: n for n, identity in enumerate(ids)}
    picture = {language: np.array([place[one] for one in of]) for language, of in named.items()}
    assert found.pictures is not None, "read with its pictures"
    files = tuple(_fingerprints(found.files))
    return CaptionedImages(spec, captions, picture, ids, found.pictures, dropped, files, found.left_out)


def _of_language(
    cfg: DataConfig, found: ImageTextSet, language: str, dev: Bitext | None
) -> tuple[list[str], list[str], dict[str, int]]:
    """Texts, the image of each, and the number dropped by reason."""
    own = found.captions[language if language in found.captions else our_code(language)]
    kept_out = {text_key(text) for text in dev.foreign} if dev else set()
    dropped, seen = Counter[str](), set[tuple[str, str]]()
    kept = []
    for caption in own.values():
        key = text_key(caption.text)
        if key in kept_out:
            dropped["in_dev"] += 1
        elif (caption.picture, key) in seen:
            dropped["duplicate"] += 1
        else:
            seen.add((caption.picture, key))
            kept.append(caption)
    if cfg.max_pairs and len(kept) > cfg.max_pairs:
        dropped["over_max_pairs"] = len(kept) - cfg.max_pairs
        by_hash = sorted(range(len(kept)), key=lambda n: blake2b(kept[n].picture.encode(), digest_size=16).digest())
        kept = [kept[n] for n in sorted(by_hash[: cfg.max_pairs])]
    return [caption.text for caption in kept], [caption.picture for caption in kept], dict(dropped)


def _fingerprints(files: tuple[Path, ...]) -> list[InputFile]:
    return [fingerprint(path) for path in files if path.is_file()]

"""Bitext from captions (or keywords) of the same images in two languages; images are not read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from optical_jax.config import DataConfig
from optical_jax.data.images.captions import NOT_THERE, ImageTextSet, our_code, read_keywords
from optical_jax.data.images.sources import read_image_set
from optical_jax.data.text.formats import Source
from optical_jax.data.text.pairs import Line
from optical_jax.errors import ConfigError

ENGLISH = "en"
NO_ENGLISH = "no_english_caption"
"""Reason for leaving captions out: their image has none in English."""


@dataclass(frozen=True)
class CaptionSource(Source):
    """An entry of data.bitext that is a set of captioned images."""

    spec: str = ""
    """Set, as for `read_image_set`."""
    split: str = "train"
    alone: bool = False
    """The entry names a split: its dev split is not used, and dev pairs are held out unless data.dev is set."""
    keywords: bool = False
    """Pair keywords instead of captions."""

    @property
    def parallel(self) -> bool:
        return False

    @property
    def name(self) -> str:
        return f"{self.spec} ({'keywords, ' if self.keywords else ''}{self.split})"

    @property
    def files(self) -> tuple[Path, ...]:
        return self.captions.files

    @property
    def left_out(self) -> dict[str, int]:
        with_english, own = self.captions.captions_of_images(ENGLISH), self.captions.captions[self.code]
        missing = sum(caption.picture not in with_english for caption in own.values())
        # The set counts rows over both languages, so the reason names both.
        of_set = {f"{reason} ({ENGLISH}, {self.code})": n for reason, n in self.captions.left_out.items()}
        return of_set | ({NO_ENGLISH: missing} if missing else {})

    @property
    def code(self) -> str:
        """Language code in the set."""
        return self.language if self.language in self.captions.captions else our_code(self.language)

    @cached_property
    def captions(self) -> ImageTextSet:
        """Captions or keywords of both languages, read lazily once.

        Raises:
          ConfigError, DataError: as `read_image_set` or `read_keywords`.
        """
        languages = list(dict.fromkeys([ENGLISH, self.language]))
        if self.keywords:
            return read_keywords(Path(self.spec), self.split, languages)
        return read_image_set(self.spec, self.split, languages, text_only=True)

    def lines(self, cfg: DataConfig, notes: list[str] | None = None) -> Iterator[Line]:
        """A pair for every foreign caption whose image has one in English.

        The k-th caption of an image is paired with its k-th English one, cycling if there are fewer English captions;
        surplus English captions are not used.
        """
        for field in ("score", "document"):
            if value := getattr(cfg, f"{field}_column"):
                raise ConfigError(
                    f"data.{field}_column={value}: captions ({self.spec}) have no {field}s; leave it empty"
                )
        own, english = self.captions.captions[self.code], self.captions.captions[ENGLISH]
        english_of = self.captions.captions_of_images(ENGLISH)
        for picture, captions in self.captions.captions_of_images(self.code).items():
            if there := english_of.get(picture):
                for k, caption in enumerate(captions):
                    text = english[there[k % len(there)]].text
                    yield Line(f"{self.spec}: {self.language} {caption}", text, own[caption].text)

    def dev_siblings(self) -> list[Source]:
        """The set's dev split, unless the entry names a split or a language is missing in it."""
        if self.alone:
            return []
        sibling = replace(self, split="dev")
        try:
            _ = sibling.captions
        except NOT_THERE:
            return []
        return [sibling]

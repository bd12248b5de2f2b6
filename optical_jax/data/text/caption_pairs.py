"""Captions of the same pictures in two languages, or their keywords, as pairs of texts: no picture is looked at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from optical_jax.config import DataConfig
from optical_jax.data.images.captions import NOT_THERE, ImageTextSet, our_code, read_keywords
from optical_jax.data.images.sources import read_image_set
from optical_jax.data.text.formats import Line, Source
from optical_jax.errors import ConfigError

ENGLISH = "en"
NO_ENGLISH = "no_english_caption"
"""Why captions are left out: their picture has none in English."""


@dataclass(frozen=True)
class CaptionSource(Source):
    """An entry of data.bitext that names a set of pictures with captions."""

    spec: str = ""
    """As `read_image_set` takes it."""
    split: str = "train"
    alone: bool = False
    """The split was named: no other one is looked at, and dev pairs are held out of it unless they are named too."""
    keywords: bool = False
    """Not the captions but the keywords beside them make pairs."""

    @property
    def name(self) -> str:
        return f"{self.spec} ({'keywords, ' if self.keywords else ''}{self.split})"

    @property
    def files(self) -> tuple[Path, ...]:
        return self.captions.files

    @property
    def left_out(self) -> dict[str, int]:
        with_english, own = self.captions.captions_of_pictures(ENGLISH), self.captions.captions[self.code]
        missing = sum(caption.picture not in with_english for caption in own.values())
        # The set counts its rows over both languages, and the reason says so.
        of_set = {f"{reason} ({ENGLISH}, {self.code})": n for reason, n in self.captions.left_out.items()}
        return of_set | ({NO_ENGLISH: missing} if missing else {})

    @property
    def code(self) -> str:
        """The language as the set calls it."""
        return self.language if self.language in self.captions.captions else our_code(self.language)

    @cached_property
    def captions(self) -> ImageTextSet:
        """Read once, when they are asked for.

        Raises:
          ConfigError, DataError: as `read_image_set` or `read_keywords`.
        """
        languages = list(dict.fromkeys([ENGLISH, self.language]))
        if self.keywords:
            return read_keywords(Path(self.spec), self.split, languages)
        return read_image_set(self.spec, self.split, languages, text_only=True)

    def lines(self, cfg: DataConfig) -> Iterator[Line]:
        """A pair for every foreign caption whose picture has one in English.

        The k-th caption of a picture goes with its k-th English one; where there are fewer of these they are gone
        through again, and where there are more the last ones are not used.
        """
        if cfg.score_column:
            raise ConfigError(
                f"data.score_column={cfg.score_column}: captions ({self.spec}) have no scores; leave it empty"
            )
        own, english = self.captions.captions[self.code], self.captions.captions[ENGLISH]
        english_of = self.captions.captions_of_pictures(ENGLISH)
        for picture, captions in self.captions.captions_of_pictures(self.code).items():
            if there := english_of.get(picture):
                for k, caption in enumerate(captions):
                    text = english[there[k % len(there)]].text
                    yield Line(f"{self.spec}: {self.language} {caption}", text, own[caption].text)

    def dev_siblings(self) -> list[Source]:
        """The set's dev split, where no split was named and that has both languages."""
        if self.alone:
            return []
        sibling = replace(self, split="dev")
        try:
            _ = sibling.captions
        except NOT_THERE:
            return []
        return [sibling]

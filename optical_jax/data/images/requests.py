"""What is asked of a public set of pictures with captions, and where its folders lie."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from optical_jax.data.files.finding import FileFinder
from optical_jax.data.images.captions import (
    ALIASES,
    CaptionLine,
    ImageTextSet,
    MissingPartError,
    NoPicturesError,
    UnknownPartError,
    gather_set,
)
from optical_jax.data.images.files import PictureFinder, PictureFolders
from optical_jax.errors import DataError

DEEPEST = 3
"""Folders between a root and what is looked for in it."""
OUR_SPLITS = {"dev": "val"}
"""What we call a split, and public sets do."""
FLICKR_FOLDERS = ("flickr30k-images", "flickr30k_images", "images")
"""Where sets that share Flickr30k's pictures have them."""


@dataclass(frozen=True)
class ImageRequest:
    """What is asked of a set."""

    spec: str
    """As the user wrote it."""
    name: str
    files: FileFinder
    split: str
    languages: Sequence[str]
    """None leaves it to the set."""
    text_only: bool

    def split_of(self, known: Sequence[str]) -> str:
        """The split as the set calls it.

        Raises:
          UnknownPartError: it is none of `known`.
        """
        for name in (self.split, OUR_SPLITS.get(self.split, self.split)):
            if name in known:
                return name
        raise UnknownPartError(f"split={self.split}: {self.spec} has {', '.join(known)}")

    def of_split(self, what: str, *patterns: str) -> list[Path]:
        """The files that hold a split, as `FileFinder.some` gives them.

        Raises:
          MissingPartError: there is none.
        """
        try:
            return self.files.some(what, *patterns)
        except DataError as error:
            raise MissingPartError(str(error)) from None

    def languages_of(self, known: Iterable[str]) -> list[str]:
        """The languages, in our codes; all of `known` where none is named.

        Raises:
          UnknownPartError: one is none of `known`.
        """
        there = list(known)
        wanted = [our_code(language) for language in self.languages]
        for language in wanted:
            if language not in there:
                raise UnknownPartError(f"lang={language}: {self.spec} has captions in {', '.join(there)}")
        return wanted or there

    def near(self, *names: str) -> list[Path]:
        """Files and folders of these names, a few folders below the roots, in the order of names and roots."""
        depths = ["/".join(["*"] * depth + [""]) for depth in range(DEEPEST + 1)]
        found = (
            path
            for name in names
            for root in self.files.folders
            for depth in depths
            for path in sorted(root.glob(f"{depth}{name}"))
        )
        return list(dict.fromkeys(found))

    def folder(self, what: str, *names: str) -> Path:
        """The first folder of these names.

        Raises:
          DataError: there is none.
        """
        found = self.folders(*names)
        if not found:
            raise DataError(self.lacks(what, names))
        return found[0]

    def folders(self, *names: str) -> list[Path]:
        return [path for path in self.near(*names) if path.is_dir()]

    def lacks(self, what: str, names: Sequence[str]) -> str:
        return f"{self.spec} lacks {what}: no folder {' or '.join(f'{name}/' for name in names)} in it"

    def pictures(self, *names: str, ending: str = "") -> PictureFinder | None:
        """Knows the pictures in all folders of these names; None where the text alone is asked for.

        Raises:
          NoPicturesError: no such folder.
        """
        if self.text_only:
            return None
        folders = self.folders(*names)
        if not folders:
            raise NoPicturesError(self.lacks("its pictures (the text can be read alone)", names))
        return PictureFolders(folders, ending)

    def gather(
        self,
        split: str,
        lines: Mapping[str, Iterable[CaptionLine]],
        finder: PictureFinder | None,
        files: Sequence[Path],
        *,
        left_out: Mapping[str, int] | None = None,
    ) -> ImageTextSet:
        """The set asked for, out of the languages that there are."""
        wanted = {language: lines[language] for language in self.languages_of(lines)}
        return gather_set(self.name, split, wanted, finder, files, left_out=left_out)


def our_code(language: str) -> str:
    return ALIASES.get(language, language)

"""Image-text sets: images with captions in several languages, and the folder format they can be written in."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from optical_jax.data.characters import is_blank
from optical_jax.data.files.lines import read_json_lines
from optical_jax.data.files.names import image_id, shown_name
from optical_jax.data.files.records import LANGUAGE
from optical_jax.data.files.requests import MissingPartError, SourceRequest, UnknownPartError
from optical_jax.data.images.files import Images, ImageSource
from optical_jax.data.images.finding import ImageFinder, ImageFolders, index_images, without_ending
from optical_jax.errors import ConfigError, DataError

CAPTION_FILE = re.compile(rf"captions\.(?P<lang>{LANGUAGE})\.(?P<split>[^.]+)\.jsonl(?:\.gz)?")
ALIASES = {"fil": "tl", "iw": "he", "jp": "ja"}
"""Language codes of public sets -> those used here."""


class NoImagesError(DataError):
    """A set has captions, but its images are missing on this machine."""


NO_KEYWORDS = "no_keywords"
"""Reason for leaving out a line when keywords are read."""
NOT_THERE = (UnknownPartError, MissingPartError)
"""Errors for a split or language that a set does not have; broken files raise others."""


class Caption(NamedTuple):
    picture: str
    """Its id."""
    text: str


class CaptionLine(NamedTuple):
    """A caption with the file and line it is from."""

    where: str
    """FILE:LINE"""
    picture: str
    text: str
    caption: str = ""
    """Its own id; empty if the file gives none."""


@dataclass(frozen=True)
class ImageTextSet:
    """One split of a set."""

    name: str
    split: str
    pictures: Images | None
    """None if only the text was requested."""
    captions: dict[str, dict[str, Caption]]
    """Language -> caption id -> the image's id, and the text. A caption without an id of its own has that of its image,
    or, if an image has several, `IMAGE#n` with n from 0."""
    files: tuple[Path, ...]
    """Files that were read, without images that are files of their own."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Reason -> number of lines that were left out, in sets that are never complete."""

    def captions_of_images(self, language: str) -> dict[str, list[str]]:
        """Image id -> ids of its captions in that language; images without any are absent."""
        found: dict[str, list[str]] = {}
        for identity, caption in self.captions[language].items():
            found.setdefault(caption.picture, []).append(identity)
        return found


def images_of(found: ImageTextSet) -> Images:
    """The images of a set that was read with them."""
    assert found.pictures is not None, f"{found.name} was read without its images"
    return found.pictures


def join_image_sets(sets: Sequence[ImageTextSet]) -> ImageTextSet:
    """Merge several image-text sets into one, for training on all of them.

    Ids are prefixed with the set's position and split, independent of where its folder is. An image that is the same
    file in several sets is kept once.
    """
    sources: dict[ImageSource, str] = {}
    captions: dict[str, dict[str, Caption]] = {}
    for n, one in enumerate(sets):
        own = f"{n}/{one.split}/"
        found = {} if one.pictures is None else one.pictures.sources
        identity = {picture: sources.setdefault(source, own + picture) for picture, source in found.items()}
        for language, of_language in one.captions.items():
            captions.setdefault(language, {}).update(
                (own + caption, Caption(identity.get(picture, own + picture), text))
                for caption, (picture, text) in of_language.items()
            )
    pictures = None if any(one.pictures is None for one in sets) else Images({i: s for s, i in sources.items()})
    files = dict.fromkeys(file for one in sets for file in one.files)
    names = [dict.fromkeys(getattr(one, name) for one in sets) for name in ("name", "split")]
    return ImageTextSet(", ".join(names[0]), ", ".join(names[1]), pictures, captions, tuple(files))


def our_code(language: str) -> str:
    """A language code of a public set as it is written here: jp is ja."""
    return ALIASES.get(language, language)


# ---- checks ------------------------------------------------------------------------------------------------------


def gather_captions(lines: Iterable[CaptionLine], name: str) -> tuple[dict[str, Caption], dict[str, str]]:
    """The captions of one language by id, and for every image, by its name in the file, where it is named first.

    Ids are as `image_id` makes them of these names: without white space, which TREC run files cannot hold.

    Args:
      lines: in the order of the file.
      name: of the file, for messages.

    Raises:
      DataError: no caption; an id is empty or a duplicate; a text is empty.
    """
    found: list[CaptionLine] = []
    first: dict[str, str] = {}
    given: dict[str, str] = {}
    for line in lines:
        text = " ".join(unicodedata.normalize("NFC", line.text).split())
        if is_blank(text):
            raise DataError(f"{line.where}: image {line.picture!r} has an empty caption; remove the line")
        for kind, identity in (("image", line.picture), ("caption", line.caption or line.picture)):
            if not identity.strip():
                raise DataError(f"{line.where}: {kind} id {identity!r} is empty; name it")
        if line.caption and given.setdefault(line.caption, line.where) != line.where:
            raise DataError(f"{line.where}: caption id {line.caption!r} is already in {given[line.caption]}")
        first.setdefault(line.picture, line.where)
        found.append(line._replace(text=text))
    if not found:
        raise DataError(f"{name} is empty; it must hold a caption a line")
    captions: dict[str, Caption] = {}
    several, number = Counter(line.picture for line in found), Counter[str]()
    for line in found:
        picture = image_id(line.picture)
        identity = image_id(line.caption) if line.caption else picture
        if not line.caption and several[line.picture] > 1:
            identity = f"{picture}#{number[line.picture]}"
            number[line.picture] += 1
        if identity in captions:
            raise DataError(
                f"{line.where}: caption id {identity!r} is a duplicate; give every caption its own caption_id"
            )
        captions[identity] = Caption(picture, line.text)
    return captions, first


def gather_set(
    name: str,
    split: str,
    lines: Mapping[str, Iterable[CaptionLine]],
    finder: ImageFinder | None,
    files: Sequence[Path],
    *,
    others: Iterable[str] = (),
    left_out: Mapping[str, int] | None = None,
) -> ImageTextSet:
    """Make an image-text set of captions and the images they name.

    Args:
      name, split, files, left_out: as in `ImageTextSet`.
      lines: language -> captions.
      finder: finds image files; None for the text alone.
      others: names of further image files of the set, with or without captions.

    Raises:
      DataError: as `gather_captions`; a caption's image is missing, has two ids, or shares its id with another.
    """
    captions, named = {}, {}
    for language, of_language in lines.items():
        captions[language], first = gather_captions(of_language, f"{name}: {language}")
        named = {**first, **named}
    pictures = None if finder is None else Images(_sources(named, finder, others))
    return ImageTextSet(name, split, pictures, captions, tuple(files), dict(left_out or {}))


def gather_request(
    ask: SourceRequest,
    split: str,
    lines: Mapping[str, Iterable[CaptionLine]],
    finder: ImageFinder | None,
    files: Sequence[Path],
    *,
    left_out: Mapping[str, int] | None = None,
) -> ImageTextSet:
    """`gather_set` of the requested languages.

    Raises:
      UnknownPartError: a requested language has no `lines`.
      DataError: as `gather_set`.
    """
    requested = {language: lines[language] for language in ask.languages_of(lines)}
    return gather_set(ask.name, split, requested, finder, files, left_out=left_out)


def find_images(ask: SourceRequest, *folders: str, ending: str = "") -> ImageFinder | None:
    """The images in all folders of these names; None if only the text is requested.

    Raises:
      NoImagesError: no such folder.
    """
    if ask.text_only:
        return None
    try:
        return ImageFolders(ask.files.subfolders("its images (the text can be read alone)", *folders), ending)
    except DataError as error:
        raise NoImagesError(str(error)) from None


def _sources(named: Mapping[str, str], finder: ImageFinder, others: Iterable[str]) -> dict[str, ImageSource]:
    """Image id -> source. `named` has the names of images in captions, and where each is named first."""
    identity_of: dict[str, str] = {}
    for identity, where in named.items():
        file = finder.find(identity)
        if file is None:
            near = finder.near(identity)
            remedy = near or "add it, or remove the caption"
            raise DataError(f"{where}: image {identity!r} is not in {finder.where}; {remedy}")
        other = identity_of.setdefault(file, identity)
        if other != identity:
            raise DataError(f"{where}: image {identity!r} has the id {other!r} in {named[other]}; use one id")
    found = {identity: file for file, identity in identity_of.items()}
    for file in others:
        if file not in identity_of:
            identity = without_ending(file)
            if identity in found:
                both = f"{shown_name(found[identity])} and {shown_name(file)} are both {identity!r}"
                raise DataError(f"{finder.where}: {both}; rename or remove one")
            found[identity] = file
    return {image_id(identity): finder.source(file) for identity, file in found.items()}


# ---- the folder format -------------------------------------------------------------------------------------------


def caption_files(folder: Path) -> dict[str, dict[str, Path]]:
    """Split -> language -> caption file of a folder in our format; plain files before .gz."""
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.glob("captions.*.jsonl*")):
        match = CAPTION_FILE.fullmatch(path.name)
        if match and path.is_file():
            found.setdefault(match["split"], {}).setdefault(match["lang"], path)
    return found


def read_image_folder(
    folder: Path, split: str, languages: Sequence[str] = (), *, text_only: bool = False
) -> ImageTextSet:
    """Read an image-text set in our folder format.

    ``captions.LANG.SPLIT.jsonl[.gz]`` with `_id` (of the image), `text` and optionally `caption_id` and `keywords`
    (which `read_keywords` reads); images in
    ``images.SPLIT.tar``, ``images.SPLIT.npz`` (`ids`, `images`), ``images.SPLIT/`` or, for all splits, ``images/``.

    Args:
      folder: with these files.
      split: such as train or dev.
      languages: to read; empty for all.
      text_only: do not read images, which may be missing.

    Raises:
      DataError: a file is empty, broken or contradictory; a caption's image is missing.
      MissingPartError: no captions of that split, or in one of the languages.
      NoImagesError: there are no images at all.
    """
    paths = _caption_paths(folder, split, languages)
    lines = {language: _caption_lines(path) for language, path in paths.items()}
    name, files = folder.resolve().name, list(paths.values())
    if text_only:
        return gather_set(name, split, lines, None, files)
    container = _container(folder, split)
    index = index_images(container)
    return gather_set(
        name,
        split,
        lines,
        index,
        files if container.is_dir() else [*files, container],
        # Only images of this split alone, so that all languages are searched in the same images.
        others=() if container.name == "images" else index.sources,
    )


def refuse_misnamed(folder: Path) -> None:
    """Refuse caption files whose names would be ignored.

    Raises:
      DataError: a name without language or split.
    """
    for path in sorted(folder.glob("captions.*.jsonl*")):
        if not CAPTION_FILE.fullmatch(path.name):
            raise DataError(f"{path}: call it captions.LANG.SPLIT.jsonl, such as captions.sw.dev.jsonl (or .jsonl.gz)")


def read_keywords(folder: Path, split: str, languages: Sequence[str] = ()) -> ImageTextSet:
    """Read the `keywords` of captions in our folder format: one text per line, joined by commas.

    Keywords of different languages do not correspond: their number and order differ. Lines without keywords are left
    out and counted.

    Args:
      folder, split, languages: as in `read_image_folder`; no image is read.

    Raises:
      ConfigError: not a folder in our format.
      DataError: as `read_image_folder`; or keywords are not texts.
      MissingPartError: as `read_image_folder`; or no line has keywords.
    """
    if not caption_files(folder):
        raise ConfigError(
            f"keywords:{folder}: has no captions.<lang>.<split>.jsonl[.gz]; other formats have no keywords"
        )
    paths = _caption_paths(folder, split, languages)
    left_out: Counter[str] = Counter()
    lines = {language: list(_keyword_lines(path, left_out)) for language, path in paths.items()}
    if empty := [path for language, path in paths.items() if not lines[language]]:
        raise MissingPartError(f'{empty[0]} has no keywords; a line has them as "keywords": ["...", "..."]')
    return gather_set(folder.resolve().name, split, lines, None, list(paths.values()), left_out=left_out)


def _caption_paths(folder: Path, split: str, languages: Sequence[str]) -> dict[str, Path]:
    """Language -> file."""
    refuse_misnamed(folder)
    splits = caption_files(folder)
    if split not in splits:
        others = ", ".join(sorted(splits)) or "none"
        raise MissingPartError(
            f"{folder} has no captions.<lang>.{split}.jsonl[.gz]; its splits: {others}; use one of them"
        )
    there = splits[split]
    if missing := [language for language in languages if language not in there]:
        raise MissingPartError(
            f"{folder} has no captions.{missing[0]}.{split}.jsonl[.gz]; its languages: {', '.join(there)}"
        )
    return {language: there[language] for language in languages or there}


def _container(folder: Path, split: str) -> Path:
    names = [f"images.{split}.tar", f"images.{split}.npz", f"images.{split}"]
    found = [folder / name for name in names if (folder / name).exists()]
    if len(found) > 1:
        raise DataError(f"{folder} has both {found[0].name} and {found[1].name}; remove one")
    if not found and (folder / "images").is_dir():
        found = [folder / "images"]
    if not found:
        raise NoImagesError(
            f"{folder} has no images: no {', '.join(names)} and no images; add them (the text can be read alone)"
        )
    return found[0]


def _caption_lines(path: Path) -> Iterator[CaptionLine]:
    for where, record in _records(path):
        yield _caption_line(where, record, record.get("text"))


def _keyword_lines(path: Path, left_out: Counter[str]) -> Iterator[CaptionLine]:
    for where, record in _records(path):
        keywords = record.get("keywords") or []
        if type(keywords) is not list or not all(isinstance(keyword, str) for keyword in keywords):
            raise DataError(f'{where}: keywords are not texts; they must be ["...", "..."]')
        if keywords:
            yield _caption_line(where, record, ", ".join(keywords))
        else:
            left_out[NO_KEYWORDS] += 1


def _records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    number = 0
    for number, record in read_json_lines(path):
        yield f"{path}:{number}", record if type(record) is dict else {}
    if not number:
        raise DataError(f"{path} is empty; it must hold a caption a line")


def _caption_line(where: str, record: Mapping[str, Any], text: object) -> CaptionLine:
    texts = [value for value in (record.get("_id"), text, record.get("caption_id", "")) if isinstance(value, str)]
    if len(texts) != 3:
        raise DataError(f'{where}: not a caption; a line must be {{"_id": "...", "text": "..."}}')
    return CaptionLine(where, *texts)

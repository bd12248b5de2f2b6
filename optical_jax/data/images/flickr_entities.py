"""Flickr30k Entities: phrases in captions with bounding boxes in the image (Plummer et al., IJCV 2017).

    Sentences/ID.txt     five captions, a line each: ``[/EN#CHAIN/TYPE/TYPE Two young guys] look at ...``
    Annotations/ID.xml   <object>: <name>CHAIN</name>, and <bndbox> or <scene>, <nobndbox>
    train.txt val.txt test.txt   ids, a line each
    flickr30k-images/ID.jpg

As the README and the Python reader of github.com/BryanPlummer/flickr30k_entities describe them; the files themselves
could not be had.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from optical_jax.data.files.lines import read_lines
from optical_jax.data.files.names import image_id
from optical_jax.data.files.requests import MissingPartError, SourceRequest
from optical_jax.data.images.captions import CaptionLine, ImageTextSet, find_images, gather_request
from optical_jax.data.images.finding import is_file
from optical_jax.errors import DataError

PHRASE = re.compile(r"\[/EN#(?P<chain>\d+)(?P<types>(?:/[^\s/\[\]]+)+)\s(?P<text>[^\[\]]*)\]")

FLICKR_FOLDERS = ("flickr30k-images", "flickr30k_images", "images")
"""Folder names of Flickr30k's images."""


class Phrase(NamedTuple):
    """A noun phrase of a caption."""

    text: str
    first_word: int
    """Position of its first word in the caption, from 0."""
    chain: str
    """Coreference chain: equal for all phrases of an image that name the same thing; "0" for what is not visible."""
    types: tuple[str, ...]
    """people, clothing, bodyparts, animals, vehicles, instruments, scene, other, notvisual."""


class Box(NamedTuple):
    """Bounding box in pixels, edges inclusive, counted from 0 (the files count from 1)."""

    left: int
    top: int
    right: int
    bottom: int


class Regions(NamedTuple):
    """Bounding boxes of an image by coreference chain."""

    height: int
    width: int
    boxes: dict[str, tuple[Box, ...]]
    """Chain -> its boxes; without chains for the whole scene, or without a box."""


@dataclass(frozen=True)
class FlickrEntities:
    """One split of Flickr30k Entities."""

    captions: ImageTextSet
    phrases: dict[str, tuple[Phrase, ...]]
    """Caption id -> its phrases."""
    regions: dict[str, Regions]
    """Image id -> its boxes."""


def flickr_entities(ask: SourceRequest) -> ImageTextSet:
    """The captions without their markup."""
    return _gather(ask, [line for line, _ in _captions(ask)])


def read_entities(ask: SourceRequest) -> FlickrEntities:
    """Captions, phrases and boxes.

    Raises:
      ConfigError: no such split or language.
      DataError: a file is missing, or a line or an annotation broken; the message says where.
    """
    found = list(_captions(ask))
    captions = _gather(ask, [line for line, _ in found])
    folder = ask.files.subfolders("boxes", "Annotations")[0]
    named = dict.fromkeys(line.picture for line, _ in found)
    return FlickrEntities(
        captions=captions,
        phrases={image_id(line.caption): phrases for line, phrases in found},
        regions={image_id(name): read_regions((folder / name).with_suffix(".xml")) for name in named},
    )


def parse_caption(line: str, where: str) -> tuple[str, tuple[Phrase, ...]]:
    """Parse a caption: its text without markup, words separated by a space, and its phrases.

    Raises:
      DataError: markup is left over.
    """
    words: list[str] = []
    phrases = []
    end = 0
    for match in PHRASE.finditer(line):
        words += _plain(line[end : match.start()], where).split()
        own = match["text"].split()
        phrases.append(Phrase(" ".join(own), len(words), match["chain"], tuple(match["types"].split("/")[1:])))
        words += own
        end = match.end()
    words += _plain(line[end:], where).split()
    return " ".join(words), tuple(phrases)


def read_regions(path: Path) -> Regions:
    """Read the bounding boxes of one image.

    Raises:
      DataError: the file is missing or broken, or a box has no size.
    """
    try:
        root = ElementTree.parse(path).getroot()
        height, width = (_number(root, f"size/{side}") for side in ("height", "width"))
        if min(height, width) < 1:
            raise DataError(f"{path}: an image of {width} x {height} pixels; both must be above 0")
        boxes: dict[str, list[Box]] = {}
        for number, thing in enumerate(root.findall("object")):
            chains = [name.text or "" for name in thing.findall("name")]
            if not all(chains) or not chains:
                raise DataError(f"{path}: object {number} has no name")
            if thing.find("bndbox") is not None:
                sides = ("xmin", "ymin", "xmax", "ymax")
                box = Box(*(_number(thing, f"bndbox/{side}") - 1 for side in sides))
                if box.right < box.left or box.bottom < box.top:
                    raise DataError(f"{path}: the box of object {number} ends before it begins")
                for chain in chains:
                    boxes.setdefault(chain, []).append(box)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ElementTree.ParseError, ValueError) as error:
        raise DataError(f"{path}: not an image annotation ({error})") from None
    return Regions(height, width, {chain: tuple(of_chain) for chain, of_chain in boxes.items()})


def _captions(ask: SourceRequest) -> Iterator[tuple[CaptionLine, tuple[Phrase, ...]]]:
    split = ask.split_of(["train", "val", "test"])
    folder = ask.files.subfolders("captions", "Sentences")[0]
    for where, identity in _ids(ask, split):
        path = folder / f"{identity}.txt"
        if not is_file(path):
            raise DataError(f"{where}: there is no {path}")
        for place, (number, line) in enumerate(read_lines(path)):
            text, phrases = parse_caption(line, f"{path}:{number}")
            name = f"{identity}.jpg"
            yield CaptionLine(f"{path}:{number}", name, text, f"{name}#{place}"), phrases


def _gather(ask: SourceRequest, lines: Sequence[CaptionLine]) -> ImageTextSet:
    split = ask.split_of(["train", "val", "test"])
    return gather_request(ask, split, {"en": lines}, find_images(ask, *FLICKR_FOLDERS), [_list_of_ids(ask, split)])


def _ids(ask: SourceRequest, split: str) -> Iterator[tuple[str, str]]:
    path = _list_of_ids(ask, split)
    for number, line in read_lines(path):
        yield f"{path}:{number}", line.strip()


def _list_of_ids(ask: SourceRequest, split: str) -> Path:
    found = [path for path in ask.files.near(f"{split}.txt") if path.is_file()]
    if not found:
        raise MissingPartError(f"{ask.spec} lacks the ids of {split}: no file {split}.txt in it")
    return found[0]


def _plain(text: str, where: str) -> str:
    if "[/EN#" in text:
        raise DataError(f"{where}: broken markup; a phrase is written [/EN#CHAIN/TYPE WORDS]")
    return text


def _number(element: ElementTree.Element, path: str) -> int:
    text = element.findtext(path)
    if text is None:
        raise ValueError(f"no {path}")
    return int(text)

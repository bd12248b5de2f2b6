"""Readers of public image-text sets in their published file layouts: Flickr30k, COCO, Multi30k, XM3600, ...

An image's id is the name of its file in Flickr30k or COCO, so that sets on the same images can be joined. No set was
available complete; each reader says what its layout was checked against.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from optical_jax.data.files.finding import FileFinder
from optical_jax.data.files.lines import raw_lines, read_json_lines
from optical_jax.data.files.requests import SPLIT_ALIASES, MissingPartError, SourceRequest
from optical_jax.data.images.captions import CaptionLine, ImageTextSet, find_images, gather_request, our_code
from optical_jax.data.images.flickr_entities import FLICKR_FOLDERS, flickr_entities
from optical_jax.data.images.wit import wit
from optical_jax.errors import ConfigError, DataError
from optical_jax.files import read_json

COCO_FOLDERS = ("train2014", "val2014", "images")


# ---- Karpathy's splits -------------------------------------------------------------------------------------------


def flickr30k(ask: SourceRequest) -> ImageTextSet:
    """dataset_flickr30k.json: five English captions per image; train, val, test. Images in flickr30k-images/.

    Keys (images, filename, split, sentences, raw) as in the samples of it that public readers quote.
    """
    return _karpathy(ask, "dataset_flickr30k.json", {"train": ["train"]}, FLICKR_FOLDERS)


def coco(ask: SourceRequest) -> ImageTextSet:
    """dataset_coco.json likewise; train includes restval, as in papers. Images in train2014/ and val2014/."""
    return _karpathy(ask, "dataset_coco.json", {"train": ["train", "restval"]}, COCO_FOLDERS)


def _karpathy(
    ask: SourceRequest, name: str, parts: Mapping[str, Sequence[str]], folders: Sequence[str]
) -> ImageTextSet:
    split = ask.split_of(["train", "val", "test"])
    path = ask.files.one("captions", name)
    try:
        found = read_json(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    images = found.get("images") if isinstance(found, dict) else None
    if not isinstance(images, list):
        raise DataError(f"{path}: not JSON with a list of images; fetch it again")

    def lines() -> Iterator[CaptionLine]:
        for number, image in enumerate(images):
            where = f"{path}: images[{number}]"
            try:
                if image["split"] in parts.get(split, [split]):
                    for sentence in _listed(image["sentences"]):
                        yield _line(where, image["filename"], sentence["raw"])
            except (KeyError, TypeError):
                raise DataError(f"{where}: not an image; it must have filename, split and sentences with raw") from None

    captions = list(lines())
    if not captions:
        raise MissingPartError(f"{path}: no caption of split={split}; use another split, or fetch the file again")
    return gather_request(ask, split, {"en": captions}, find_images(ask, *folders), [path])


# ---- caption lines parallel to a list of image names -------------------------------------------------------------


def multi30k(ask: SourceRequest) -> ImageTextSet:
    """SPLIT.LANG beside a list of Flickr30k names, SPLIT.txt or SPLIT_images.txt, line by line (plain or .gz).

    As in github.com/multi30k/dataset: data/task1/raw/SPLIT.LANG.gz, one caption per image, the same in every language;
    data/task2/raw/SPLIT.1.LANG.gz to SPLIT.5.LANG.gz, five per image, written independently in each language; names in
    image_splits/, those of COCO with ``#number`` behind them (of task 2 the list of train alone was seen). Splits:
    train, val, test_2016_flickr ... Images in flickr30k-images/, or in train2014/ and val2014/.
    """
    split = SPLIT_ALIASES.get(ask.split, ask.split)
    files = ask.of_split("captions", f"raw/{split}.??", f"{split}.??", f"{split}.[1-5].??")
    names = ask.files.one("the names of its images", f"image_splits/{split}.txt", f"{split}.txt", f"{split}_images.txt")
    return _parallel(
        ask, split, names, files, lambda name: name.removesuffix(".gz")[-2:], FLICKR_FOLDERS + COCO_FOLDERS
    )


def xtd10(ask: SourceRequest) -> ImageTextSet:
    """test_1kcaptions_LANG.txt beside test_image_names.txt: 1000 images of COCO, one caption in each of 11 languages.

    As in github.com/adobe-research/Cross-lingual-Test-Dataset-XTD10 (XTD10/, MIC/, STAIR/), where Japanese is jp.
    """
    split = ask.split_of(["test"])
    names = ask.files.one("the names of its images", "test_image_names.txt")
    files = ask.files.some("captions", "test_1kcaptions_*.txt")
    return _parallel(ask, split, names, files, lambda name: name.split(".")[0].split("_")[-1], COCO_FOLDERS)


def _parallel(
    ask: SourceRequest,
    split: str,
    names: Path,
    files: Sequence[Path],
    language_of: Callable[[str], str],
    folders: Sequence[str],
) -> ImageTextSet:
    pictures = [text.split("#")[0].strip() for _, text in _whole_lines(names)]
    by_language: dict[str, list[Path]] = {}
    for path in files:
        by_language.setdefault(our_code(language_of(path.name)), []).append(path)

    def lines(paths: Sequence[Path]) -> Iterator[CaptionLine]:
        for path in paths:
            captions = list(_whole_lines(path))
            if len(captions) != len(pictures):
                raise DataError(f"{path} has {len(captions)} lines and {names} has {len(pictures)}; they must be equal")
            for picture, (where, text) in zip(pictures, captions, strict=True):
                yield CaptionLine(where, picture, text)

    wanted = ask.languages_of(by_language)
    read = [names, *(path for language in wanted for path in by_language[language])]
    captions = {language: lines(by_language[language]) for language in wanted}
    return gather_request(ask, split, captions, find_images(ask, *folders), read)


def _whole_lines(path: Path) -> Iterator[tuple[str, str]]:
    """The place of each line, and its text."""
    for number, text, fault in raw_lines(path):
        if fault:
            raise DataError(f"{path}:{number}: {fault}")
        yield f"{path}:{number}", text


# ---- JSON lines --------------------------------------------------------------------------------------------------


def xm3600(ask: SourceRequest) -> ImageTextSet:
    """Crossmodal-3600: captions.jsonl, ``{"image/key": KEY, "sw": {"caption": [...]}, ...}``; images/KEY.jpg.

    36 languages, several captions per image. Keys as public readers of google.github.io/crossmodal-3600 use them; its
    fil is tl here. Other keys such as caption/tokenized are ignored.
    """
    split = ask.split_of(["test"])
    path = ask.files.one("captions", "captions.jsonl")
    lines: dict[str, list[CaptionLine]] = {}
    for number, record in read_json_lines(path):
        where = f"{path}:{number}"
        try:
            for language, of_language in record.items():
                if isinstance(of_language, dict):
                    found = lines.setdefault(our_code(language), [])
                    found += [_line(where, record["image/key"], text) for text in _listed(of_language["caption"])]
        except (KeyError, TypeError, AttributeError):
            raise DataError(
                f"{where}: not an image; a line must have image/key and by language a caption list"
            ) from None
    return gather_request(ask, split, lines, find_images(ask, "images", ending=".jpg"), [path])


def xflickrco(ask: SourceRequest) -> ImageTextSet:
    """xFlickr&CO: LANG/SPLIT.jsonl, ``{"sentences": [...], "id": ..., "img_path": NAME}``; 8 languages.

    As in github.com/e-bug/iglue, datasets/xFlickrCO/annotations. Images of Flickr30k are in flickr30k-images/, of
    COCO in val2014/. Its splits are test, and train_1 to train_1500 with so many images.
    """
    files = {our_code(path.parent.name): path for path in ask.of_split("captions", f"??/{ask.split}.jsonl")}

    def lines(path: Path) -> Iterator[CaptionLine]:
        for number, record in read_json_lines(path):
            where = f"{path}:{number}"
            try:
                for text in _listed(record["sentences"]):
                    yield _line(where, record["img_path"], text)
            except (KeyError, TypeError):
                raise DataError(f"{where}: not an image; a line must have img_path and a list of sentences") from None

    wanted = ask.languages_of(files)
    captions = {language: lines(files[language]) for language in wanted}
    images = find_images(ask, *FLICKR_FOLDERS, *COCO_FOLDERS)
    return gather_request(ask, ask.split, captions, images, [files[language] for language in wanted])


def _listed(value: Any) -> list[Any]:
    """
    Raises:
      TypeError: not a list; a text would be read letter by letter.
    """
    if not isinstance(value, list):
        raise TypeError
    return value


def _line(where: str, picture: Any, text: Any) -> CaptionLine:
    """
    Raises:
      TypeError: one is not a string.
    """
    if not isinstance(picture, str) or not isinstance(text, str):
        raise TypeError
    return CaptionLine(where, picture, text)


# ---- the catalogue -----------------------------------------------------------------------------------------------


class Layout(NamedTuple):
    read: Callable[[SourceRequest], ImageTextSet]
    signs: tuple[str, ...]
    """File names that only this layout has."""


MULTI30K_SIGNS = tuple(f"{split}.{end}" for split in ("train", "val", "test_2016_flickr") for end in ("en", "en.gz"))
LAYOUTS: dict[str, Layout] = {
    "coco": Layout(coco, ("dataset_coco.json",)),
    "flickr30k": Layout(flickr30k, ("dataset_flickr30k.json",)),
    "flickr30k_entities": Layout(flickr_entities, ("Sentences",)),
    "multi30k": Layout(multi30k, (*MULTI30K_SIGNS, "train.1.en", "train.1.en.gz")),
    "wit": Layout(wit, ("wit_v1.*.tsv", "wit_v1.*.tsv.gz")),
    "xflickrco": Layout(xflickrco, ("[a-z][a-z]/test.jsonl",)),
    "xm3600": Layout(xm3600, ("captions.jsonl",)),
    "xtd10": Layout(xtd10, ("test_image_names.txt",)),
}


def detect_layout(files: FileFinder) -> str:
    """Detect the layout of a folder by its files.

    Raises:
      ConfigError: no layout matches, or several do.
    """
    found = layouts_seen(files)
    if len(found) != 1:
        what = f"looks like {' and '.join(found)}" if found else "has no known layout"
        raise ConfigError(
            f"images={files.spec}: {what}; write NAME:FOLDER ({', '.join(LAYOUTS)}), or captions.LANG.SPLIT.jsonl in it"
        )
    return found[0]


def layouts_seen(files: FileFinder) -> list[str]:
    """The names of all layouts that match a file in the folder."""
    return [name for name, layout in LAYOUTS.items() if files.near(*layout.signs)]

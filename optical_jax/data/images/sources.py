"""Open an image-text set: a folder in our format, or NAME:FOLDER in a public layout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from optical_jax.data.files.finding import FileFinder, existing
from optical_jax.data.files.names import image_id
from optical_jax.data.files.requests import SourceRequest, parse_spec
from optical_jax.data.images.captions import ImageTextSet, caption_files, our_code, read_image_folder, refuse_misnamed
from optical_jax.data.images.files import Images
from optical_jax.data.images.finding import index_images
from optical_jax.data.images.flickr_entities import FlickrEntities, read_entities
from optical_jax.data.images.layouts import LAYOUTS, detect_layout, layouts_seen
from optical_jax.errors import ConfigError, DataError

ENTITIES = "flickr30k_entities"


def read_image_set(
    spec: str, split: str = "dev", languages: Sequence[str] = (), *, text_only: bool = False
) -> ImageTextSet:
    """Read the captions of an image-text set, and find its images.

    Args:
      spec: a folder in our format or a public layout, detected by its files; or ``NAME:FOLDER``, NAME one of
        `layouts.LAYOUTS`, FOLDER several joined by commas if captions and images are in different folders.
      split: as the set calls it; dev also means val.
      languages: to read; empty for all.
      text_only: do not read images, which may be missing.

    Raises:
      ConfigError: no such name.
      UnknownPartError, MissingPartError: the set does not have that language or split, or its files are missing.
      DataError: a folder, a file or an image is missing or broken; the message says where.
    """
    folder = Path(spec)
    if folder.is_dir() and caption_files(folder):
        return read_image_folder(folder, split, languages, text_only=text_only)
    ask = _request(spec, split, languages, text_only)
    return LAYOUTS[ask.name].read(ask)


def is_image_set(spec: str) -> bool:
    """True for an image-text set, with or without its image files; otherwise it may be a text collection.

    Raises:
      DataError: there are caption files with invalid names.
    """
    folder = Path(spec)
    if not folder.is_dir():
        return parse_spec(spec)[0] in LAYOUTS
    if caption_files(folder):
        return True
    if existing(folder, "corpus"):
        return False
    seen = bool(layouts_seen(FileFinder(spec, [spec])))
    if not seen:
        refuse_misnamed(folder)
    return seen


def read_images(spec: str, split: str = "dev") -> Images:
    """Images to search: all in a folder, a tar archive or an npz file; or those of one split of an image-text set.

    Raises:
      ConfigError, DataError: as `read_image_set`; or there is no image.
    """
    if is_image_set(spec):
        found = read_image_set(spec, split).pictures
        assert found is not None, "text_only is false"
        return found
    if not Path(spec).exists():
        raise DataError(f"{spec}: no such folder or file; name images in a folder, a tar archive or an npz file")
    return Images({image_id(name): source for name, source in index_images(Path(spec)).sources.items()})


def read_flickr_entities(spec: str, split: str = "val", *, text_only: bool = False) -> FlickrEntities:
    """Flickr30k Entities: captions, phrases and their boxes; args and errors as `read_image_set`."""
    if caption_files(Path(spec)):
        raise ConfigError(f"images={spec}: has captions without phrases and boxes; {ENTITIES}:FOLDER has them")
    ask = _request(spec, split, (), text_only)
    if ask.name != ENTITIES:
        raise ConfigError(f"images={spec}: {ask.name} has no boxes; {ENTITIES}:FOLDER has")
    return read_entities(ask)


def _request(spec: str, split: str, languages: Sequence[str], text_only: bool) -> SourceRequest:
    name, folders = parse_spec(spec)
    if name and name not in LAYOUTS:
        raise ConfigError(f"images={spec}: no set is called {name}; there are {', '.join(LAYOUTS)}")
    for folder in folders:
        if not Path(folder).is_dir():
            raise DataError(f"images={spec}: {folder} is not a folder; name the folder that holds the set's files")
    files, codes = FileFinder(spec, folders), [our_code(language) for language in languages]
    return SourceRequest(spec, name or detect_layout(files), files, split, codes, kind="captions", text_only=text_only)

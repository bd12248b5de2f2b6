"""Dual encoders of text and images in a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from optical_jax.errors import ConfigError
from optical_jax.files import PAIR, SEEN_PICTURES, trains_pair, trains_teacher
from optical_jax.models.formats.pretrained import OWN_LOGITS, find_folder, parts_of, read_logits
from optical_jax.runs.checkpoint import load_params
from optical_jax.runs.load import is_run
from optical_jax.towers.pair import load_pair, logits_of, read_if_there

if TYPE_CHECKING:
    from optical_jax.models.formats.hf_heads import Pooling
    from optical_jax.towers.pair import TowerPair
    from optical_jax.towers.tower import Tower


def trained_pair(run: Path, checkpoint: int) -> TowerPair:
    """What the run of an image-text teacher had made of its towers at a step.

    Raises:
      ConfigError: no such checkpoint.
    """
    start, (params, _) = load_pair(run / "model"), load_params(run, checkpoint)
    text, image = (replace(tower, params={"head": {}, **params[part]}) for part, tower in start.towers.items())
    return replace(start, text=text, image=image, logits=logits_of(params, start.logits))


def logits_at(path: str, cache_dir: str | None = None) -> dict[str, float]:
    """The logits of a pair, in a run, a folder or on the hub; none where there is one tower."""
    if trains_pair(Path(path)):
        return logits_of(load_params(Path(path))[0], OWN_LOGITS)
    return {name: float(value.item()) for name, value in read_logits(path, cache_dir).items()}


def how_compared(path: str, cache_dir: str | None = None) -> dict[str, Any] | None:
    """What the pair.json of a run, folder or hub name says; None where there is none, as in a pair of others."""
    return read_if_there(pair_folder(path, cache_dir) / PAIR)


def pictures_seen(path: str, cache_dir: str | None = None) -> list[str] | None:
    """Digests of the pictures that the tower of pictures in a run, folder or hub name is known to have learned from.

    In hexadecimal; None where nothing tells, as of a pair of others.
    """
    return read_if_there(pair_folder(path, cache_dir) / SEEN_PICTURES)


def pair_folder(path: str, cache_dir: str | None) -> Path:
    """Where a run, folder or hub name says what its pair is: a student's run of the one that taught it."""
    run = Path(path)
    if is_run(run):
        return run / ("model" if trains_teacher(run) else "teacher")
    return find_folder(path, cache_dir)


def reads_pictures(path: str, cache_dir: str | None = None) -> bool:
    """Whether a run, folder or hub name holds a tower of pictures beside one of texts."""
    return trains_pair(Path(path)) if is_run(Path(path)) else parts_of(path, cache_dir) == ("text", "image")


class TextAndImage(NamedTuple):
    """Towers whose vectors are compared."""

    text: Tower
    image: Tower
    by_means: bool
    """Mean vectors are what their pair was trained to compare, or all that one of them gives."""


def text_and_image_of_run(
    run: Path, checkpoint: str | int, pictures_by: str = "", cache_dir: str | None = None
) -> TextAndImage:
    """What a run trains, and the tower of pictures that it was trained with or that `pictures_by` names.

    Args:
      run: of a student, or of an image-text teacher.
      checkpoint: as of `towers.load`.
      pictures_by: folder or hub name of a pair, or the run of an image-text teacher.

    Raises:
      ConfigError: no such checkpoint or pair, no tower of pictures, or towers that do not agree.
    """
    from optical_jax.runs.load import load

    text = text_of_run(run, checkpoint, cache_dir)
    if pictures_by:
        return together(text, load_part(pictures_by, "image", cache_dir), pictures_by, cache_dir)
    if not trains_teacher(run) and not (run / "teacher" / "image").is_dir():
        raise ConfigError(
            f"run={run}: its teacher came without a tower of pictures; name the pair whose tower reads them with "
            "--pictures-by"
        )
    image = load(run, "document", checkpoint, part="image", cache_dir=cache_dir)
    return together(text, image, str(run), cache_dir)


def text_of_run(run: Path, checkpoint: str | int, cache_dir: str | None = None) -> Tower:
    """The tower of texts that a run trains."""
    from optical_jax.runs.load import load, sides_of

    if trains_teacher(run):
        return load(run, "query", checkpoint, part="text", cache_dir=cache_dir)
    return load(run, sides_of(run)[0], checkpoint, part="student", cache_dir=cache_dir)


def towers_of_model(
    model: str, pictures_by: str = "", pooling: Pooling = "auto", cache_dir: str | None = None
) -> TextAndImage:
    """Both towers of a pair; or any model of texts, and the tower of pictures that `pictures_by` names.

    Raises:
      ConfigError: as `text_and_image_of_run`.
    """
    source = pictures_by or model
    text = load_part(model, "text", cache_dir, pooling)
    image = load_part(source, "image", cache_dir, "auto" if pictures_by else pooling)
    return together(text, image, source, cache_dir)


def load_part(path: str, part: Literal["text", "image"], cache_dir: str | None, pooling: Pooling = "auto") -> Tower:
    from optical_jax.runs.load import is_run, load

    side = "query" if part == "text" else "document"
    if is_run(Path(path)):
        return load(path, side, part=part, cache_dir=cache_dir)
    return load(path, side, part=part, pooling=pooling, cache_dir=cache_dir)


def together(text: Tower, image: Tower, source: str, cache_dir: str | None) -> TextAndImage:
    """Both, if they can be compared; `source` is the run, folder or hub name that has the tower of pictures.

    Raises:
      ConfigError: vectors of different widths, or no recipe for pictures.
    """
    from optical_jax.runs.pair import how_compared
    from optical_jax.towers.images import recipe_of

    if text.cfg.vector_width != image.cfg.vector_width:
        raise ConfigError(
            f"texts have vectors of width {text.cfg.vector_width}, and pictures by {source} of width "
            f"{image.cfg.vector_width}; name the pair that the texts were taught by"
        )
    recipe_of(image)
    means = (how_compared(source, cache_dir) or {}).get("interaction") == "pooled"
    return TextAndImage(text, image, means or any(one.cfg.head.pooling != "none" for one in (text, image)))


def by_patches(image: Tower) -> Tower:
    """The tower with a vector a patch, whatever it gives of a whole picture."""
    return replace(image, cfg=replace(image.cfg, head=replace(image.cfg.head, pooling="none")))

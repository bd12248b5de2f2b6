"""Dual encoders of text and images in a run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from optical_jax.errors import ConfigError
from optical_jax.files import PAIR, SEEN_IMAGES, read_if_present, trains_pair, trains_teacher
from optical_jax.models.formats.hf_heads import Pooling
from optical_jax.models.formats.pair_configs import Part as ModelPart
from optical_jax.models.formats.pretrained import OWN_LOGITS, Model, open_model
from optical_jax.runs.checkpoint import load_params
from optical_jax.runs.load import is_run, load, sides_of
from optical_jax.towers.folder import load_tower
from optical_jax.towers.pair import TowerPair, load_pair, logits_of
from optical_jax.towers.tower import Side, Tower


def trained_pair(run: Path, checkpoint: int) -> TowerPair:
    """Dual encoder of an image-text teacher's run at a checkpoint.

    Raises:
      ConfigError: no such checkpoint.
    """
    start, (params, _) = load_pair(run / "model"), load_params(run, checkpoint)
    text, image = (replace(tower, params={"head": {}, **params[part]}) for part, tower in start.towers.items())
    return replace(start, text=text, image=image, logits=logits_of(params, start.logits))


@dataclass(frozen=True)
class Source:
    """A run, folder or hub name with a text tower, an image tower or both: found once, its files opened once."""

    path: str
    cache_dir: str | None
    model: Model | None
    """None for a run."""

    def tower(self, part: ModelPart, pooling: Pooling = "auto") -> Tower:
        """The text tower as an encoder of queries, or the image tower as one of documents.

        Args:
          part: "text" or "image".
          pooling: as of `load`; of a run's towers it is known.
        """
        side: Side = "query" if part == "text" else "document"
        if self.model is None:
            return load(self.path, side, part=part, cache_dir=self.cache_dir)
        return load_tower(self.model, side, pooling, part)

    @property
    def is_pair(self) -> bool:
        """True if there are a text tower and an image tower; of runs, for that of an image-text teacher."""
        return trains_pair(Path(self.path)) if self.model is None else self.model.parts == ("text", "image")

    @property
    def metadata(self) -> dict[str, Any] | None:
        """Contents of pair.json, of a student's run that of its teacher; None for third-party models."""
        return read_if_present(self._run_pair / PAIR) if self.model is None else self.model.metadata

    @property
    def seen_images(self) -> list[str] | None:
        """Digests, in hexadecimal, of the images that the image tower is known to be trained on; None if unknown."""
        return read_if_present(self._run_pair / SEEN_IMAGES) if self.model is None else self.model.seen_images

    def logits(self) -> dict[str, float]:
        """logit_scale and perhaps logit_bias of a pair; empty for a single tower."""
        if self.model is not None:
            return {name: float(value.item()) for name, value in self.model.logits().items()}
        return logits_of(load_params(Path(self.path))[0], OWN_LOGITS) if self.is_pair else {}

    @property
    def _run_pair(self) -> Path:
        run = Path(self.path)
        return run / ("model" if trains_teacher(run) else "teacher")


def open_source(path: str, cache_dir: str | None = None) -> Source:
    """Find a run, folder or hub name; nothing of it is read yet.

    Raises:
      ConfigError: there is none.
    """
    return Source(path, cache_dir, None if is_run(Path(path)) else open_model(path, cache_dir))


class TextAndImage(NamedTuple):
    """A text tower and an image tower to compare."""

    text: Tower
    image: Tower
    by_means: bool
    """True to compare mean vectors: their pair was trained so, or one of them gives no others."""


def text_and_image_of_run(
    run: Path, checkpoint: str | int, pictures_by: str = "", cache_dir: str | None = None
) -> TextAndImage:
    """The text tower that a run trains, and the image tower of its teacher or of `pictures_by`.

    Args:
      run: of a student, or of an image-text teacher.
      checkpoint: as of `load`.
      pictures_by: folder or hub name of a dual encoder, or the run of an image-text teacher.

    Raises:
      ConfigError: no such checkpoint or dual encoder, no image tower, or towers of different widths.
    """
    text = text_of_run(run, checkpoint, cache_dir)
    if pictures_by:
        source = open_source(pictures_by, cache_dir)
        return together(text, source.tower("image"), source)
    if not trains_teacher(run) and not (run / "teacher" / "image").is_dir():
        raise ConfigError(
            f"run={run}: its teacher has no image tower; name a dual encoder that has one with --pictures-by"
        )
    image = load(run, "document", checkpoint, part="image", cache_dir=cache_dir)
    return together(text, image, open_source(str(run), cache_dir))


def text_of_run(run: Path, checkpoint: str | int, cache_dir: str | None = None) -> Tower:
    """The text tower that a run trains."""
    if trains_teacher(run):
        return load(run, "query", checkpoint, part="text", cache_dir=cache_dir)
    return load(run, sides_of(run)[0], checkpoint, part="student", cache_dir=cache_dir)


def towers_of_model(
    model: str, pictures_by: str = "", pooling: Pooling = "auto", cache_dir: str | None = None
) -> TextAndImage:
    """Both towers of a dual encoder; or any text model with the image tower of `pictures_by`.

    Raises:
      ConfigError: as `text_and_image_of_run`.
    """
    own = open_source(model, cache_dir)
    source = open_source(pictures_by, cache_dir) if pictures_by else own
    return together(own.tower("text", pooling), source.tower("image", "auto" if pictures_by else pooling), source)


def together(text: Tower, image: Tower, source: Source) -> TextAndImage:
    """Both, if they can be compared; `source` is where the image tower comes from.

    Raises:
      ConfigError: vectors of different widths, or no image preprocessing.
    """
    from optical_jax.towers.images import recipe_of

    if text.cfg.vector_width != image.cfg.vector_width:
        raise ConfigError(
            f"text vectors have width {text.cfg.vector_width}, and image vectors by {source.path} have width "
            f"{image.cfg.vector_width}; name the dual encoder that the text tower was trained with"
        )
    recipe_of(image)
    means = (source.metadata or {}).get("interaction") == "pooled"
    return TextAndImage(text, image, means or any(one.cfg.head.pooling != "none" for one in (text, image)))


def by_patches(image: Tower) -> Tower:
    """The image tower without pooling: one vector per patch."""
    return replace(image, cfg=replace(image.cfg, head=replace(image.cfg.head, pooling="none")))

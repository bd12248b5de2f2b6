"""The tower of pictures that goes with a student's teacher: in its pair's folder, or in a run's own copy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from optical_jax.config import TeacherConfig, expand_path
from optical_jax.data.pixels import PictureRecipe, read_recipe
from optical_jax.files import REFERENCE
from optical_jax.image_config import ImageTowerConfig
from optical_jax.models.pretrained import find_folder, load_pretrained
from optical_jax.towers import Tower
from optical_jax.types import Params


@dataclass(frozen=True)
class PictureTeacher:
    """Who tells what is in a picture, and how pictures become its pixels."""

    params: Params
    cfg: ImageTowerConfig
    recipe: PictureRecipe

    @property
    def tower(self) -> Tower:
        return Tower(self.params, self.cfg, side="document")

    @property
    def length(self) -> int:
        """Vectors of a picture."""
        if self.cfg.head.pooling != "none":
            return 1
        height, width = self.recipe.size
        return (height // self.cfg.encoder.patch_size) * (width // self.cfg.encoder.patch_size)


def load_picture_teacher(cfg: TeacherConfig, run: Path | None = None, cache_dir: str = "") -> PictureTeacher:
    """The tower of pictures of `cfg.path`, a pair; or the copy of it that a run has.

    Raises:
      ConfigError: the teacher has no tower of pictures, or says nothing of how they become pixels.
    """
    folder = run / "teacher" / "image" if run is not None else Path()
    # A run may keep no more of it than where it lies.
    if run is None or not folder.is_dir() or (folder / REFERENCE).is_file():
        folder = find_folder(expand_path(cfg.path, "teacher.path"), cache_dir or None)
    # A pair of ours has a folder a tower.
    folder = folder / "image" if (folder / "image").is_dir() else folder
    found = load_pretrained(str(folder), pooling=cfg.pooling, part="image", cache_dir=cache_dir or None)
    assert isinstance(found.cfg, ImageTowerConfig), "asked for the part that reads pictures"
    tower = replace(found.cfg, encoder=replace(found.cfg.encoder, dtype=cfg.dtype))
    return PictureTeacher(found.params, tower, read_recipe(folder))

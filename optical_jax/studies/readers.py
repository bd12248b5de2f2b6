"""Who reads the pictures of a study's collections: the tower of the runs' teacher, or that of a pair by name."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from optical_jax.config import expand_path
from optical_jax.data.collections.captions import hashes
from optical_jax.data.images.captions import ImageTextSet
from optical_jax.errors import ConfigError
from optical_jax.files import trains_pair
from optical_jax.models.formats.pretrained import find_folder, open_model
from optical_jax.runs.load import IMAGE_TEACHER, is_run, model_files
from optical_jax.studies.design import Study
from optical_jax.studies.tables import source_of


def check_readers(study: Study, collection: str) -> None:
    """Refuse a set whose pictures no tower would read, before hours of training.

    Raises:
      ConfigError: names the collection, and who was to read it.
    """
    if pair := source_of(collection).pair:
        readers = {pair}
    else:
        configs = [config for arm in study.arms for config in arm.trials.values()]
        readers = {expand_path(config.teacher.path, "teacher.path") for config in configs}
    for reader in sorted(readers):
        if not reads_images(reader):
            raise ConfigError(
                f"collections: {collection}: {reader} has no tower of pictures; write SET by PAIR, which is the run of "
                "an image_teacher, or a folder or hub name with both towers"
            )


def reads_images(path: str) -> bool:
    """True for the run of an image-text teacher or of its student, and for a folder or hub name with both towers."""
    run = Path(path)
    return trains_pair(run) or (run / IMAGE_TEACHER).is_dir() if is_run(run) else "image" in open_model(path).parts


def image_inputs(found: ImageTextSet, pair: str) -> dict[str, str]:
    """Name -> sha256 of all that decides what is found: captions, pictures, and the weights of a pair by name."""
    assert found.pictures is not None, "read with its pictures"
    inputs = hashes(found.files) | {"pictures": found.pictures.sha256}
    if pair:
        # Without the pair's own name: another pair in its place is another input.
        folder = Path(pair) if is_run(Path(pair)) else find_folder(pair, None)
        # One name for all: files of another checkpoint have names of their own.
        files = json.dumps(model_files(folder), sort_keys=True)
        inputs["pair"] = hashlib.sha256(files.encode()).hexdigest()
    return inputs

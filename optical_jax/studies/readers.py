"""Image towers of a study's collections: of the runs' teacher, or of a dual encoder named by the collection."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from optical_jax.config import expand_path
from optical_jax.data.collections.captions import hashes
from optical_jax.data.images.captions import ImageTextSet
from optical_jax.errors import ConfigError
from optical_jax.files import trains_pair
from optical_jax.models.formats.finding import find_folder
from optical_jax.models.formats.pretrained import open_model
from optical_jax.runs.load import IMAGE_TEACHER, is_run, model_files
from optical_jax.studies.design import Study
from optical_jax.studies.tables import source_of


def check_readers(study: Study, collection: str) -> None:
    """Check before training that an image tower exists for a set of images.

    Raises:
      ConfigError: names the collection, and the model without an image tower.
    """
    if pair := source_of(collection).pair:
        readers = {pair}
    else:
        configs = [config for arm in study.arms for config in arm.trials.values()]
        readers = {expand_path(config.teacher.path, "teacher.path") for config in configs}
    for reader in sorted(readers):
        if not reads_images(reader):
            raise ConfigError(
                f"collections: {collection}: {reader} has no image tower; use SET by PAIR, where PAIR is the run of an "
                "image_teacher, or a folder or hub name with both towers"
            )


def reads_images(path: str) -> bool:
    """Whether a model has an image tower: run of an image-text teacher or of its student, or a dual encoder."""
    run = Path(path)
    return trains_pair(run) or (run / IMAGE_TEACHER).is_dir() if is_run(run) else "image" in open_model(path).parts


def image_inputs(found: ImageTextSet, pair: str) -> dict[str, str]:
    """Hashes of the inputs of an image evaluation: captions, images, and the weights of a named dual encoder."""
    assert found.pictures is not None, "read with its images"
    inputs = hashes(found.files) | {"pictures": found.pictures.sha256}
    if pair:
        # Keyed by "pair", not by its name: replacing the dual encoder must change the hash.
        folder = Path(pair) if is_run(Path(pair)) else find_folder(pair, None)
        # One hash for all files: another checkpoint may have other file names.
        files = json.dumps(model_files(folder), sort_keys=True)
        inputs["pair"] = hashlib.sha256(files.encode()).hexdigest()
    return inputs

"""Checks that the files, runs and models that flags name are there, before JAX and other heavy libraries are imported.

What the files hold is checked by their readers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from optical_jax.config import Config, ImageStageConfig, TeacherStageConfig, expand_path
from optical_jax.data.files.finding import HUB_NAME, not_a_file
from optical_jax.data.files.requests import parse_spec
from optical_jax.data.text.entries import NO_BITEXT, parse_entry
from optical_jax.errors import ConfigError, DataError
from optical_jax.evaluation.options import parse_translations
from optical_jax.models.formats.finding import find_folder
from optical_jax.runs.finding import OR_A_MODEL, check_run, is_run

if TYPE_CHECKING:
    from optical_jax.evaluation.options import EvalCommand, PhrasesCommand
    from optical_jax.index.options import SearchCommand
    from optical_jax.training.teacher.options import MineCommand

IR_DATASETS = "ir_datasets:"
A_SET = "name the folder of captioned images, or NAME:FOLDER"


def check_file(path: str | Path, field: str) -> None:
    """
    Raises:
      DataError: no such file.
    """
    if not Path(path).is_file():
        raise DataError(f"{field}={path}: {not_a_file(Path(path))}; name one that exists")


def check_path(path: str, field: str) -> None:
    """
    Raises:
      DataError: neither a file nor a folder.
    """
    if not Path(path).exists():
        raise DataError(f"{field}={path}: no such file or folder; name one that exists")


def check_set(spec: str, field: str, remedy: str) -> None:
    """Check the folders of a collection or an image set: FOLDER, NAME:FOLDER[,FOLDER], or ir_datasets:ID.

    Raises:
      DataError: a folder is missing. That of a named set may be one of the hub's.
    """
    if spec.startswith(IR_DATASETS):
        return
    name, folders = parse_spec(spec)
    for folder in folders:
        if not Path(folder).exists() and not (name and HUB_NAME.fullmatch(folder)):
            raise DataError(f"{field}={spec}: {folder} does not exist; {remedy}")


def check_model(path: str, field: str, cache_dir: str) -> None:
    """Check that a model or run is there; one of the hub is downloaded.

    Raises:
      ConfigError: no such folder or hub name.
    """
    if path and not is_run(Path(path)):
        find_folder(path, cache_dir or None, field)


def check_run_or_model(command: EvalCommand | SearchCommand | PhrasesCommand) -> None:
    """
    Raises:
      ConfigError: no such run, model, or model of --pictures-by.
    """
    if command.run:
        check_run(command.run, OR_A_MODEL)
    for field in ("model", "pictures_by"):
        check_model(getattr(command, field), field, command.cache_dir)


# Of trainings. Those of a run that exists are not checked: it has its models, and a finished one needs no data.


def check_student(cfg: Config) -> None:
    """
    Raises:
      ConfigError, DataError: bitext, images or a model is missing.
    """
    if cfg.run and is_run(Path(cfg.run)):
        return
    if not cfg.data.bitext:
        raise ConfigError(NO_BITEXT)
    for name in ("bitext", "dev", "lexicon"):
        for entry in getattr(cfg.data, name):
            parse_entry(entry, f"data.{name}")
    if cfg.data.pictures:
        check_set(expand_path(cfg.data.pictures, "data.pictures"), "data.pictures", A_SET)
    check_model(expand_path(cfg.teacher.path, "teacher.path"), "teacher.path", cfg.cache_dir)
    check_model(expand_path(cfg.student.path, "student.path"), "student.path", cfg.cache_dir)


def check_teacher(cfg: TeacherStageConfig) -> None:
    """
    Raises:
      ConfigError, DataError: judgements, a collection or the encoder is missing.
    """
    if cfg.run and is_run(Path(cfg.run)):
        return
    check_judgements(cfg.data.train, cfg.data.collection, cfg.data.queries, "data.")
    if cfg.data.dev:
        check_path(expand_path(cfg.data.dev, "data.dev"), "data.dev")
    check_model(expand_path(cfg.encoder.path, "encoder.path"), "encoder.path", cfg.cache_dir)


def check_judgements(train: Sequence[str], collection: str, queries: str, prefix: str) -> None:
    """
    Raises:
      DataError: a file is missing.
    """
    for path in train:
        check_file(expand_path(path, f"{prefix}train"), f"{prefix}train")
    for field, path in (("collection", collection), ("queries", queries)):
        if path:
            check_path(expand_path(path, prefix + field), prefix + field)


def check_image_teacher(cfg: ImageStageConfig) -> None:
    """
    Raises:
      ConfigError, DataError: images or a tower is missing.
    """
    if cfg.run and is_run(Path(cfg.run)):
        return
    for spec in cfg.data.images:
        check_set(expand_path(spec, "data.images"), "data.images", A_SET)
    check_model(expand_path(cfg.text.path, "text.path"), "text.path", cfg.cache_dir)
    check_model(expand_path(cfg.image.path, "image.path"), "image.path", cfg.cache_dir)


# Of other commands.


def check_evaluation(command: EvalCommand) -> None:
    """
    Raises:
      ConfigError, DataError: a run, a model, the collection or a file of translations is missing.
    """
    for run in command.compare:
        check_run(run)
    check_run_or_model(command)
    check_set(command.collection, "collection", "name a folder with corpus.jsonl, queries.* and qrels/, or NAME:FOLDER")
    for language, path in parse_translations(command.translations).items():
        check_file(path, f"translations={language}")


def check_search(command: SearchCommand) -> None:
    """
    Raises:
      ConfigError, DataError: a run, a model or what is searched is missing.
    """
    check_run_or_model(command)
    # Lines of --docs are read before anything heavy is imported.
    if command.images:
        check_set(command.images, "images", "name images in a folder, a tar archive or an npz file")


def check_phrases(command: PhrasesCommand) -> None:
    """
    Raises:
      ConfigError, DataError: a run, a model, the images or a file of boxes is missing.
    """
    check_run_or_model(command)
    check_set(command.images, "images", "name the folder of Flickr30k Entities")
    if command.boxes:
        check_file(command.boxes, "boxes")


def check_mining(command: MineCommand) -> None:
    """
    Raises:
      ConfigError, DataError: judgements, a collection or the model is missing.
    """
    check_judgements(command.train, command.collection, command.queries, "")
    if command.by != "bm25":
        check_model(command.by, "by", command.cache_dir)

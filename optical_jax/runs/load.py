"""Load any tower: from a run, a checkpoint folder or a hub name."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from optical_jax.config import ImageTowerConfig, to_json
from optical_jax.errors import ConfigError
from optical_jax.files import (
    OWN_CONFIG,
    REFERENCE,
    TOKENIZER_FILES,
    read_json,
    sha256_file,
    trains_pair,
    trains_teacher,
    write_json,
)
from optical_jax.models.formats.finding import find_folder
from optical_jax.models.formats.pair_configs import part_of
from optical_jax.models.formats.pretrained import open_model
from optical_jax.models.formats.tower_json import tower_config
from optical_jax.runs.checkpoint import find_step
from optical_jax.runs.finding import OR_A_MODEL, check_run, is_run
from optical_jax.towers.folder import load_tower
from optical_jax.towers.tower import Side, Tower, sides_alike

if TYPE_CHECKING:
    from optical_jax.towers.folder import Part, Pooling
    from optical_jax.towers.tower import Tower


def checkpoint_step(run: Path, checkpoint: str) -> int:
    """Step of the checkpoint that a `--checkpoint` flag names: "last", "best" (by dev metric) or a step.

    Raises:
      ConfigError: not a run, or no such checkpoint.
    """
    check_run(run, OR_A_MODEL)
    which: Any = int(checkpoint) if checkpoint.isdecimal() else checkpoint
    return find_step(run, which)


def load(
    path: str | Path,
    side: Side = "query",
    checkpoint: str | int = "last",
    *,
    part: Part = "auto",
    pooling: Pooling = "none",
    cache_dir: str | None = None,
) -> Tower:
    """Load a tower from a run folder, a model folder, or the Hugging Face hub.

    Args:
      path: a run folder, a model folder (Hugging Face, Stanford ColBERT, PyLate, Sentence Transformers, or exported by
        optical_jax), an .npz file of big_vision, or a hub name. Models and runs of teachers give the same tower for
        both sides; CLIP and SigLIP give their text tower for queries and their image tower for documents.
      side: "query" or "document".
      part: of a dual encoder or the run of an image-text teacher, "text" or "image", whatever the side. Of a student's
        run: "auto" gives the student for queries and the teacher for documents, or with student.sides=documents the
        teacher for queries and the student for documents. "student" for documents, if it was trained on both sides, is
        for documents in its own language; "image" is the image tower that came with the teacher; "text" is "auto".
      checkpoint: of a run: "last", "best" by dev metric, a step, or "untrained" (before the first step).
      pooling: of third-party models: "none" gives one vector per token whatever their files say, "auto" does as they
        say, "mean" and "cls" give one per text. Runs and exports are read as they were written.
      cache_dir: folder for downloads from the hub; None leaves it to HF_HOME.

    Returns:
      The tower, with parameters on the host in float32.

    Raises:
      ConfigError: nothing there, no weights, no such checkpoint, something a tower cannot express, or a side that the
        run's student was not trained for.

    >>> tower = load("runs/swahili", checkpoint="best")  # doctest: +SKIP
    >>> teacher = load("runs/swahili", side="document")  # doctest: +SKIP
    """
    if side not in get_args(Side):
        raise ConfigError(f"side={side!r} is not one of {', '.join(get_args(Side))}")
    if is_run(Path(path)):
        return load_from_run(Path(path), side, checkpoint, part, cache_dir)
    if part in ("student", "teacher"):
        raise ConfigError(f"{path} is not a run, so it has no {part}; leave part={part!r} out")
    if checkpoint != "last":
        raise ConfigError(f"{path} is not a run, so it has no checkpoint {checkpoint}; leave the checkpoint out")
    return load_tower(open_model(path, cache_dir), side, pooling, part)


def sides_of(run: Path) -> tuple[Side, ...]:
    """Sides that a run's student was trained for; in runs older than the setting, queries."""
    named = read_json(run / "config.json").get("student", {}).get("sides", "queries")
    known: dict[str, tuple[Side, ...]] = {"queries": ("query",), "documents": ("document",)}
    return known.get(named, get_args(Side))


def towers_of_run(
    run: Path, checkpoint: str | int = "last", documents: Part = "auto", cache_dir: str | None = None
) -> tuple[Tower, Tower]:
    """Query encoder and document encoder of a run.

    Args:
      documents: document encoder: "teacher", for English; "student", for its own language; "auto" is the teacher,
        unless the student was trained for documents only. The query encoder is the student, or, if it was not trained
        for queries, the teacher, in English.

    Raises:
      ConfigError: as `load`.
    """
    if trains_pair(run):
        # Texts on both sides, for which an image-text teacher has one tower.
        text = load(run, "query", checkpoint, part="text", cache_dir=cache_dir)
        return text, dataclasses.replace(text, side="document")
    learned = sides_of(run)
    if documents == "auto":
        documents = "student" if learned == ("document",) else "teacher"
    query_part: Part = "student" if documents == "teacher" or "query" in learned else "teacher"
    return (
        load(run, "query", checkpoint, part=query_part, cache_dir=cache_dir),
        load(run, "document", checkpoint, part=documents, cache_dir=cache_dir),
    )


def load_from_run(run: Path, side: Side, checkpoint: str | int, part: Part, cache_dir: str | None) -> Tower:
    if trains_teacher(run):
        read: Part = part if part in ("text", "image") else "auto"
        return at_checkpoint(load_tower(open_model(run / "model"), side, part=read), run, checkpoint)
    learned = sides_of(run)
    part = "auto" if part == "text" else part
    if part in ("teacher", "image") or (part == "auto" and side != learned[0]):
        folder = part_folder(run, IMAGE_TEACHER if part == "image" else "teacher")
        if (folder / REFERENCE).is_file():
            return dataclasses.replace(load_reference(folder, cache_dir), side=side)
        return load_tower(open_model(folder), side)
    student = load_tower(open_model(part_folder(run, "student")), side)
    if side not in learned and not sides_alike(student.cfg.head):
        raise ConfigError(
            f"run {run}: its student was trained to encode as a {learned[0]} only, not as a {side}; train one with "
            "--student.sides both"
        )
    return at_checkpoint(student, run, checkpoint)


def at_checkpoint(start: Tower, run: Path, checkpoint: str | int) -> Tower:
    """The tower `start` of a run with the parameters of a checkpoint."""
    from optical_jax.runs.checkpoint import load_params

    if checkpoint == "untrained":
        return start
    which: Any = int(checkpoint) if str(checkpoint).isdecimal() else checkpoint
    params, _ = load_params(run, which)
    if trains_pair(run):
        params = params["image" if isinstance(start.cfg, ImageTowerConfig) else "text"]
    # A head without parameters is an empty dict, which a checkpoint may leave out.
    return dataclasses.replace(start, params={"head": {}, **params})


IMAGE_TEACHER = "teacher/image"
"""In a student's run: the image tower of the dual encoder that its teacher comes from."""


def part_folder(run: Path, name: str) -> Path:
    if not (run / name).is_dir():
        mend = "use a dual encoder as the teacher" if name == IMAGE_TEACHER else "train it first"
        raise ConfigError(f"run {run} has no {name}/ folder; copy the whole run, or {mend}")
    return run / name


def model_files(folder: Path) -> dict[str, str]:
    """SHA-256 of a model's weights and tokenizer files, by name, in the folder and below.

    For an .npz file, that file and the tokenizer beside it; for a run also its last checkpoint.
    """
    if folder.is_file():
        beside = [folder.parent / name for name in TOKENIZER_FILES if (folder.parent / name).is_file()]
        return {file.name: sha256_file(file) for file in sorted([folder, *beside])}
    found = [file for name in ("*.safetensors", *TOKENIZER_FILES) for file in folder.rglob(name)]
    if is_run(folder):
        params = folder / "checkpoints" / str(find_step(folder)) / "params"
        found += [file for file in params.rglob("*") if file.is_file()]
    return {str(file.relative_to(folder)): sha256_file(file) for file in sorted(found)}


def save_reference(tower: Tower, path: str, folder: Path, cache_dir: str | None) -> None:
    """Write a reference to a tower in place of a copy: path, SHA-256 of its files, and config."""
    source = find_folder(path, cache_dir)
    folder.mkdir(parents=True)
    write_json(folder / OWN_CONFIG, to_json(tower.cfg))
    local = str(source.absolute()) if Path(path).exists() else path
    # Last: a folder without it is not yet a reference.
    write_json(folder / REFERENCE, {"path": local, "sha256": model_files(source)})


def load_reference(folder: Path, cache_dir: str | None) -> Tower:
    """Load the tower that a run refers to.

    Raises:
      ConfigError: it is gone, or its weights have changed.
    """
    reference = read_json(folder / REFERENCE)
    source = find_folder(reference["path"], cache_dir)
    if model_files(source) != reference["sha256"]:
        raise ConfigError(
            f"{source} holds other weights than the teacher that {folder} refers to; "
            "restore them, or train with checkpoint.copy_teacher"
        )
    cfg = tower_config(read_json(folder / OWN_CONFIG), str(folder / OWN_CONFIG))
    return replace(load(source, part=part_of(cfg), cache_dir=cache_dir), cfg=cfg, side="document")

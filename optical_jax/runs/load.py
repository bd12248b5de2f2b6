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
from optical_jax.models.formats.pair_configs import part_of
from optical_jax.models.formats.pretrained import find_folder
from optical_jax.models.formats.tower_json import tower_config
from optical_jax.runs.checkpoint import find_step
from optical_jax.towers.folder import load_from_folder
from optical_jax.towers.tower import Side, Tower, sides_alike

if TYPE_CHECKING:
    from optical_jax.towers.folder import Part, Pooling
    from optical_jax.towers.tower import Tower


def checkpoint_step(run: Path, checkpoint: str) -> int:
    """The step that "last", "best" or a number stands for.

    Raises:
      ConfigError: no such run, or no such checkpoint.
    """

    if not is_run(run):
        raise ConfigError(f"run={run} is no run folder; name a folder that train.py wrote, or give --model")
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
    """A tower from a run folder, a folder of weights, or a hub name.

    Args:
      path: a run folder, or any other folder (Hugging Face, Stanford ColBERT, PyLate, Sentence Transformers, an export
        of ours), an .npz file of big_vision, or a hub name. These give the same tower for both sides, as a teacher's
        training does; but CLIP and SigLIP their tower of texts for queries and that of pictures for documents.
      side: "query" or "document".
      part: of CLIP, SigLIP and pairs of ours "text" or "image", whatever the side; so too of the run of an image-text
        teacher. Of a student's run: "auto" gives its student for queries and its teacher for documents; of a run with
        student.sides=documents its teacher for queries and its student for documents. "student" for documents, where it
        learned both sides, is the one for documents in its own language; "image" is the tower of pictures that came
        with the teacher, and "text" is "auto".
      checkpoint: which one of what a run trains: "last", "best" by dev figure, a step, or "untrained" (before its first
        step).
      pooling: of a folder or hub name from outside: "none" gives a vector a token whatever its files say, "auto" does
        as they say, "mean" and "cls" give one a text. Runs and exports are read as they were written.
      cache_dir: where downloads from the hub go; None leaves it to HF_HOME.

    Returns:
      The tower, its parameters on the host in float32.

    Raises:
      ConfigError: nothing there, no weights, no such checkpoint, something a tower cannot express, or a side that the
        run's student did not learn.

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
    return load_from_folder(path, side, cache_dir, pooling, part)


def sides_of(run: Path) -> tuple[Side, ...]:
    """The sides that a run's student learned; one for queries where the run does not tell, as older ones."""
    named = read_json(run / "config.json").get("student", {}).get("sides", "queries")
    known: dict[str, tuple[Side, ...]] = {"queries": ("query",), "documents": ("document",)}
    return known.get(named, get_args(Side))


def towers_of_run(
    run: Path, checkpoint: str | int = "last", documents: Part = "auto", cache_dir: str | None = None
) -> tuple[Tower, Tower]:
    """Who asks a run's queries, and who encodes its documents.

    Args:
      documents: "teacher", of English ones; "student", of those in its language; "auto" takes the teacher, unless the
        student learned documents alone. The student asks, or where it did not learn to, the teacher, in English.

    Raises:
      ConfigError: as `load`.
    """
    if trains_pair(run):
        # Texts on both sides, of which an image-text teacher's run has one tower.
        text = load(run, "query", checkpoint, part="text", cache_dir=cache_dir)
        return text, dataclasses.replace(text, side="document")
    learned = sides_of(run)
    if documents == "auto":
        documents = "student" if learned == ("document",) else "teacher"
    asker: Part = "student" if documents == "teacher" or "query" in learned else "teacher"
    return (
        load(run, "query", checkpoint, part=asker, cache_dir=cache_dir),
        load(run, "document", checkpoint, part=documents, cache_dir=cache_dir),
    )


def load_from_run(run: Path, side: Side, checkpoint: str | int, part: Part, cache_dir: str | None) -> Tower:

    if trains_teacher(run):
        read: Part = part if part in ("text", "image") else "auto"
        return at_checkpoint(load_from_folder(run / "model", side, cache_dir, part=read), run, checkpoint)
    learned = sides_of(run)
    part = "auto" if part == "text" else part
    if part in ("teacher", "image") or (part == "auto" and side != learned[0]):
        folder = part_folder(run, PICTURE_TEACHER if part == "image" else "teacher")
        if (folder / REFERENCE).is_file():
            return dataclasses.replace(load_reference(folder, cache_dir), side=side)
        return load_from_folder(folder, side, cache_dir)
    student = load_from_folder(part_folder(run, "student"), side, cache_dir)
    if side not in learned and not sides_alike(student.cfg.head):
        raise ConfigError(
            f"run {run}: its student learned to encode as a {learned[0]} alone, not as a {side}; train one with "
            "--student.sides both"
        )
    return at_checkpoint(student, run, checkpoint)


def at_checkpoint(start: Tower, run: Path, checkpoint: str | int) -> Tower:
    """What a run has made of a tower it started from."""
    from optical_jax.runs.checkpoint import load_params

    if checkpoint == "untrained":
        return start
    which: Any = int(checkpoint) if str(checkpoint).isdecimal() else checkpoint
    params, _ = load_params(run, which)
    if trains_pair(run):
        params = params["image" if isinstance(start.cfg, ImageTowerConfig) else "text"]
    # A head without parameters is an empty dict, which a checkpoint may leave out.
    return dataclasses.replace(start, params={"head": {}, **params})


def is_run(path: Path) -> bool:
    """True for a folder that training wrote, from its first seconds on."""
    return (path / "config.json").is_file() and any((path / p).is_dir() for p in ("checkpoints", "student", "model"))


PICTURE_TEACHER = "teacher/image"
"""In a student's run: the tower of pictures that its teacher's vectors of texts agree with."""


def part_folder(run: Path, name: str) -> Path:
    if not (run / name).is_dir():
        mend = "teach by a pair of towers" if name == PICTURE_TEACHER else "train it first"
        raise ConfigError(f"run {run} has no {name}/ folder; copy the whole run, or {mend}")
    return run / name


def model_files(folder: Path) -> dict[str, str]:
    """Name -> sha256 of all that makes a model what it is: weights and tokenizer, in the folder and below.

    Of a model that is one file, that file and the tokenizer beside it; of a run its last checkpoint too.
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
    """Write where a tower's weights lie, which they are, and how the run reads them."""
    source = find_folder(path, cache_dir)
    folder.mkdir(parents=True)
    write_json(folder / OWN_CONFIG, to_json(tower.cfg))
    local = str(source.absolute()) if Path(path).exists() else path
    # Last: a folder without it is not yet a reference.
    write_json(folder / REFERENCE, {"path": local, "sha256": model_files(source)})


def load_reference(folder: Path, cache_dir: str | None) -> Tower:
    """The tower a run refers to.

    Raises:
      ConfigError: it is gone, or its weights are other ones.
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

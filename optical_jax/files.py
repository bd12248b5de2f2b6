"""Names of a run's small files, atomic JSON writes, and checksums."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

OWN_CONFIG = "optical_jax.json"
"""TowerConfig in an exported folder, from which `save_tower`'s tower is read back exactly."""
REFERENCE = "reference.json"
"""In a run's teacher/: path of a teacher that was not copied."""
PAIR = "pair.json"
"""Scoring metadata of a dual encoder: in its folder (beside text/ and image/), and in the teacher/ of a run whose
teacher is one of its towers."""
SEEN_PICTURES = "seen_pictures.json"
"""Digests, in hexadecimal, of training images: of an image tower beside its pair.json, of a student in its run."""
TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "sentencepiece.bpe.model",
    "spiece.model",
    "tokenizer.model",
)
"""A folder without one of these has no tokenizer (transformers would create an empty one from config.json)."""


def sha256_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically: an interrupted write leaves the old file, and of several writers the last one wins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    new.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    new.replace(path)


def trains_teacher(run: Path) -> bool:
    """True for the run of a teacher, whose model/ is a tower for queries and documents, or a dual encoder."""
    return (run / "model").is_dir()


def trains_pair(run: Path) -> bool:
    """True for the run of an image-text teacher, a dual encoder."""
    return (run / "model" / PAIR).is_file()


def own_system(run: Path) -> str:
    """Name of a run's own system in its results."""
    return "model" if trains_teacher(run) else "student"

"""Small files of a run: JSON that is written whole or not at all, and fingerprints of inputs."""

from __future__ import annotations

import hashlib
import json
import os
import unicodedata
from pathlib import Path
from typing import Any

OWN_CONFIG = "optical_jax.json"
"""The TowerConfig in a folder of ours: what `save_tower` wrote is read back from it exactly."""
REFERENCE = "reference.json"
"""In a run's teacher/: where the teacher lies that was not copied."""
PAIR = "pair.json"
"""How two towers' vectors were compared: in the folder of both (text/ and image/), and in the teacher/ of a student's
run that one of them taught."""
SEEN_PICTURES = "seen_pictures.json"
"""Digests, in hexadecimal, of the pictures that towers of pictures learned from: beside their pair.json. In a student's
run itself of those that it was shown."""
TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "sentencepiece.bpe.model",
    "spiece.model",
    "tokenizer.model",
)
"""A folder without one of these has no tokenizer (transformers would make up an empty one from config.json)."""


def sha256_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Whole or not at all: a kill in the middle leaves the old file, and of several writers' the last is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    new.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    new.replace(path)


def trains_teacher(run: Path) -> bool:
    """True for the run of a teacher: what it trains is in model/, a tower for queries and documents, or a pair."""
    return (run / "model").is_dir()


def trains_pair(run: Path) -> bool:
    """True for the run of an image-text teacher: two towers, of texts and of pictures."""
    return (run / "model" / PAIR).is_file()


def own_system(run: Path) -> str:
    """What a run trains, as its results call it."""
    return "model" if trains_teacher(run) else "student"


SLUG_BYTES = 80
"""Of each of the two texts; file systems take names of 255."""


def slug(text: str) -> str:
    """A text as part of a file's name: its letters, marks and digits, of any script; a long one's end is a hash."""
    text = unicodedata.normalize("NFC", text)
    words = "".join(c if unicodedata.category(c)[0] in "LMN" else " " for c in text).split()
    name, digest = "-".join(words), hashlib.sha256(text.encode()).hexdigest()[:8]
    if len(name.encode()) <= SLUG_BYTES:
        return name or digest
    head = name.encode()[: SLUG_BYTES - 9].decode(errors="ignore")
    return f"{head}-{digest}"

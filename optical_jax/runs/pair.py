"""Dual encoders of text and images in a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optical_jax.files import PAIR, SEEN_PICTURES, trains_pair, trains_teacher
from optical_jax.models.formats.pretrained import OWN_LOGITS, find_folder, parts_of, read_logits
from optical_jax.runs.checkpoint import load_params
from optical_jax.runs.load import is_run
from optical_jax.towers.pair import load_tower_pair, logits_of, read_if_there

if TYPE_CHECKING:
    from optical_jax.towers.pair import TowerPair


def trained_pair(run: Path, checkpoint: int) -> TowerPair:
    """What the run of an image-text teacher had made of its towers at a step.

    Raises:
      ConfigError: no such checkpoint.
    """
    start, (params, _) = load_tower_pair(run / "model"), load_params(run, checkpoint)
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

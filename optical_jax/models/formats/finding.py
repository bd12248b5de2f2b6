"""Find the folder of a model, locally or on the Hugging Face hub; nothing heavy is imported."""

from __future__ import annotations

import functools
import re
from importlib.resources import files
from pathlib import Path

from optical_jax.errors import ConfigError

HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "artifact.metadata"]
SHIPPED = "optical_jax/english_teacher"
"""A small English teacher shipped with the package; its model card is in the folder."""
HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w.-]+")


def find_folder(path: str, cache_dir: str | None, field: str = "") -> Path:
    """Local folder of a model: `path` itself, the shipped teacher, or a download from the hub; or an .npz file.

    Args:
      path: a folder, an .npz file or a hub name.
      cache_dir: for downloads; None leaves it to HF_HOME.
      field: the flag or setting that names it, for messages.

    Raises:
      ConfigError: none of these.
    """
    if path == SHIPPED:
        return Path(str(files("optical_jax"))) / "english_teacher"
    folder, named = Path(path), f"{field}={path}" if field else path
    if folder.is_dir():
        # Stanford's trainer writes its newest model here in the folder of an experiment.
        newest = folder / "checkpoints" / "colbert"
        return newest if not (folder / "config.json").exists() and (newest / "config.json").is_file() else folder
    if folder.suffix == ".npz" and folder.is_file():
        return folder
    if folder.exists() or not HUB_NAME.fullmatch(path):
        raise ConfigError(f"{named}: no such folder; name a folder with config.json and model.safetensors, or org/name")
    try:
        return _download(path, cache_dir)
    except (OSError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"{named}: no such folder, and no download from the hub ({reason}); if it is a run, train it first"
        ) from error


@functools.cache
def _download(name: str, cache_dir: str | None) -> Path:
    """Download a model; the hub is asked once, although commands look for their models before they load them."""
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(name, allow_patterns=HUB_FILES, cache_dir=cache_dir))

"""A teacher that is not copied into the run: its path and its weights' sha256 instead, and another file is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from optical_jax.config import to_json
from optical_jax.errors import ConfigError
from optical_jax.files import OWN_CONFIG, REFERENCE, TOKENIZER_FILES, read_json, sha256_file, write_json
from optical_jax.models.formats.pair_configs import part_of
from optical_jax.models.formats.pretrained import find_folder
from optical_jax.models.formats.tower_json import tower_config
from optical_jax.runs.checkpoint import find_step
from optical_jax.runs.load import is_run, load
from optical_jax.towers.tower import Tower


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

"""Replace an earlier export atomically: files that it wrote are replaced, all others stay."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError

from optical_jax.errors import ConfigError, DataError, MachineError
from optical_jax.files import EXPORTED, OWN_CONFIG, PAIR, read_json, sha256_file, text_fault, write_json
from optical_jax.printing import printable

BEFORE_EXPORTED = re.compile(
    r"(?:(?:text|image)/)?(?:(?:config|optical_jax|preprocessor_config|modules|sentence_bert_config|vocab|"
    r"config_sentence_transformers|tokenizer|tokenizer_config|special_tokens_map|added_tokens)\.json|README\.md|"
    r"pair\.json|seen_pictures\.json|model\.safetensors|vocab\.txt|merges\.txt|[\w.]+\.model|"
    r"(?:1_Pooling|[12]_Dense|token_masses)/(?:config\.json|model\.safetensors))"
)
"""What versions without exported_files.json wrote."""


@contextlib.contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """Write a folder atomically: yields an empty one that takes the place of `folder` at the end.

    What an earlier export did not write is kept. A kill leaves the old folder or the new one; between the two renames
    neither, until the next call moves the old one back.

    Raises:
      ConfigError: a new file has the name of one that no export wrote; `folder` is unchanged.
      MachineError: it cannot be written; `folder` is unchanged.
    """
    folder = folder.resolve()
    restore(folder)
    partial = beside(folder, "partial")
    try:
        if partial.exists():
            shutil.rmtree(partial)
        partial.mkdir(parents=True)
        yield partial
        new = sorted(name for name in files_of(partial) if name != EXPORTED)
        write_json(partial / EXPORTED, {name: sha256_file(partial / name) for name in new})
        if folder.exists():
            keep_others(folder, partial)
        try:
            if folder.exists():
                folder.rename(beside(folder, "old"))
            partial.rename(folder)
        finally:
            restore(folder)
    except (OSError, SafetensorError) as error:
        raise MachineError(f"{folder} cannot be written: {error}; free space, or name another folder") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def beside(folder: Path, what: str) -> Path:
    """A hidden path beside a folder, of a length that does not depend on its name."""
    return folder.with_name(f".{hashlib.sha256(os.fsencode(folder.name)).hexdigest()[:16]}.{what}")


def restore(folder: Path) -> None:
    """Finish a replacement: the old folder, moved aside, is removed, or moved back if the new one is missing.

    Raises:
      ConfigError: a kill interrupted it, and since then another folder was put there.
    """
    old, removed = beside(folder, "old"), beside(folder, "removed")
    shutil.rmtree(removed, ignore_errors=True)
    if not old.exists():
        return
    if not folder.exists():
        old.rename(folder)
    elif (folder / EXPORTED).is_file():
        # Under another name, so that a kill leaves no part of it to be moved back.
        old.rename(removed)
        shutil.rmtree(removed, ignore_errors=True)
    else:
        raise ConfigError(f"{old} holds the earlier export of {folder}; move it to another place")


def check_target(folder: Path) -> None:
    """Refuse to overwrite anything but an earlier export.

    Raises:
      ConfigError: `folder` is a file, or holds files and neither optical_jax.json nor pair.json; or a file in it was
        changed since it was exported; or it is the working directory; or its path is not UTF-8.
    """
    if text_fault(str(folder.absolute())):
        raise ConfigError(f"{printable(str(folder.absolute()))} is not valid UTF-8; name another folder")
    restore(folder.resolve())
    empty = folder.is_dir() and not any(folder.iterdir())
    exported = folder.is_dir() and any((folder / name).is_file() for name in (OWN_CONFIG, PAIR))
    if not (empty or exported) and (folder.exists() or folder.is_symlink()):
        raise ConfigError(f"{folder} exists and is not an exported tower; name a new folder")
    if folder.resolve() in (Path.cwd(), *Path.cwd().parents):
        raise ConfigError(f"{folder} is the working directory, which cannot be replaced; name a folder in it")
    if not exported:
        return
    for name, sha256 in exported_files(folder).items():
        if sha256 and (folder / name).is_file() and sha256_file(folder / name) != sha256:
            raise ConfigError(
                f"{folder / name} was changed since it was exported, and would be overwritten; "
                "move it to another folder, or name a new folder"
            )


def exported_files(folder: Path) -> dict[str, str]:
    """The files that an export wrote -> sha256, which is empty for exports of older versions.

    Raises:
      DataError: exported_files.json is malformed.
    """
    file = folder / EXPORTED
    if not file.is_file():
        return {name: "" for name in files_of(folder) if BEFORE_EXPORTED.fullmatch(name)}
    found = read_json(file)
    if not isinstance(found, dict):
        raise DataError(f"{file}: not a JSON object; name a new folder")
    return {str(name): str(sha256) for name, sha256 in found.items()} | {EXPORTED: ""}


def files_of(folder: Path) -> list[str]:
    """Paths of all files and links below a folder, relative to it, with slashes."""
    return [
        (Path(place) / name).relative_to(folder).as_posix()
        for place, folders, names in os.walk(folder)
        for name in [*names, *(one for one in folders if (Path(place) / one).is_symlink())]
    ]


def keep_others(folder: Path, new: Path) -> None:
    """Put what no export wrote into a new folder too: files as hard links, or as copies where there are none."""
    written = exported_files(folder)
    shutil.copymode(folder, new)
    for place, folders, names in os.walk(folder):
        below = new / Path(place).relative_to(folder)
        links = [one for one in folders if (Path(place) / one).is_symlink()]
        others = [
            name for name in [*names, *links] if (Path(place) / name).relative_to(folder).as_posix() not in written
        ]
        # Folders of an earlier export alone, such as that of a projection, go with it.
        if others or not (names or folders):
            make_folders(Path(place), below, folder)
        for name in others:
            if (below / name).exists() or (below / name).is_symlink():
                raise ConfigError(
                    f"{Path(place) / name} was not written by an export, and would be overwritten; "
                    "move it to another folder, or name a new folder"
                )
            try:
                os.link(Path(place) / name, below / name, follow_symlinks=False)
            except OSError:
                shutil.copy2(Path(place) / name, below / name, follow_symlinks=False)


def make_folders(source: Path, target: Path, top: Path) -> None:
    """Make a folder and those above it, with the permissions of the ones they stand for."""
    if target.is_dir():
        return
    if source != top:
        make_folders(source.parent, target.parent, top)
    target.mkdir(exist_ok=True)
    shutil.copystat(source, target)

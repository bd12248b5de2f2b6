"""How the user starts the program: the commands in messages are written so that they work where they are printed."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

SCRIPTS = {"train": "train.py", "eval": "eval.py"}
"""Commands that the repository has a script for."""


def program(command: str) -> str:
    """A command of optical_jax as the user types it.

    `optical_jax eval` if the program was started by that name, `python eval.py` if by a script of the repository,
    else `python -m optical_jax eval`.
    """
    started = Path(sys.argv[0])
    if started.name == "optical_jax":
        return f"{_typed('optical_jax', started)} {command}"
    if started.name in SCRIPTS.values() and command in SCRIPTS:
        return f"{python()} {started.with_name(SCRIPTS[command])}"
    return f"{python()} -m optical_jax {command}"


def typed_command() -> list[str]:
    """The words of the command line as typed, to copy; empty if called from Python code."""
    started = Path(sys.argv[0])
    if started.name in SCRIPTS.values():
        return [python(), *sys.argv]
    if started.parts[-2:] == ("optical_jax", "__main__.py"):
        return [python(), "-m", "optical_jax", *sys.argv[1:]]
    if started.name == "optical_jax":
        return [_typed("optical_jax", started), *sys.argv[1:]]
    return []


def python() -> str:
    """Name or path of the running Python, as a shell finds it: `python` in an active environment."""
    return next(
        (name for name in ("python", "python3") if _typed(name, Path(sys.executable).with_name(name)) == name),
        _from_here(Path(sys.executable)),
    )


def _typed(name: str, file: Path) -> str:
    """`name` if PATH leads to the file, else the file's path."""
    found = shutil.which(name)
    # Not resolved: the Python of an environment is a link to another's.
    return name if found is not None and Path(found).absolute() == file.absolute() else _from_here(file)


def _from_here(file: Path) -> str:
    """Path of a file, relative if it is below the current folder."""
    below = file.is_absolute() and file.is_relative_to(Path.cwd())
    return os.path.relpath(file) if below else str(file)

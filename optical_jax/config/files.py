"""Config files: Python files with get_config()."""

from __future__ import annotations

import difflib
import importlib.util
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from optical_jax.config import Config, ImageStageConfig, TeacherStageConfig
from optical_jax.config.validation import check_types
from optical_jax.errors import ConfigError

Settings = TypeVar("Settings", Config, TeacherStageConfig, ImageStageConfig)
STARTED_BY = {
    "Config": "train.py",
    "TeacherStageConfig": "python -m optical_jax teacher",
    "ImageStageConfig": "python -m optical_jax image_teacher",
}
"""Settings -> the command that takes them."""
MOVED = ("image_config", "image_stage_config", "image_text_config", "loss_config", "teacher_config")
"""Modules of optical_jax that config files imported from before optical_jax.config had everything."""


def load_config_file(path: str, kind: type[Settings]) -> Settings:
    """Load a Python config file: the `kind` that its get_config() returns.

    Raises:
      ConfigError: no such file, no get_config in it, or it fails or returns another type.
    """
    config = call_in_file(path, "get_config", "configs")
    if not isinstance(config, kind):
        other = STARTED_BY.get(type(config).__name__)
        remedy = f"start it with {other}" if other else f"return an optical_jax {kind.__name__}"
        raise ConfigError(f"config={path}: get_config() returned {type(config).__name__}; {remedy}")
    # Before tyro, which only warns of a default of another type.
    check_types(config)
    return config


def call_in_file(path: str, function: str, examples: str, imports: Sequence[str] = (".",)) -> object:
    """Import a Python file and call one of its functions, without arguments.

    Args:
      path: of the file.
      function: its name.
      examples: folder; if the file does not exist, the error lists the config files below it.
      imports: folders, relative to the file's, added to `sys.path` while it runs: `import swahili` in configs/.

    Raises:
      ConfigError: no such file, no such function in it, or it fails.
    """
    file = Path(path)
    if not file.is_file():
        # Files with the same function in the examples and its subfolders.
        others = sorted(
            str(p) for p in Path(examples).rglob("*.py") if f"def {function}(" in p.read_text("utf-8", "replace")
        )
        by_name = {Path(other).stem: other for other in others}
        near = difflib.get_close_matches(file.stem, by_name, n=1, cutoff=0.7)
        there = ", ".join(others) or f"none in {examples}/"
        known = f"did you mean {by_name[near[0]]}?" if near else f"available: {there}"
        raise ConfigError(f"config={path} {'is a folder' if file.is_dir() else 'does not exist'}; {known}")
    spec = importlib.util.spec_from_file_location(f"optical_jax_{function}_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"config={path} is not a Python file; use one that defines {function}()")
    module, before = importlib.util.module_from_spec(spec), list(sys.path)
    sys.path[:0] = [str((file.parent / folder).absolute()) for folder in imports]
    try:
        spec.loader.exec_module(module)
        return getattr(module, function)()
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        here = [frame.lineno for frame in frames if Path(frame.filename) == file.absolute()]
        where = f"{path}:{here[-1]}" if here else path
        if isinstance(error, ModuleNotFoundError) and error.name in {f"optical_jax.{name}" for name in MOVED}:
            raise ConfigError(
                f"config={where}: {error.name} is part of optical_jax.config now; import from there"
            ) from error
        raise ConfigError(f"config={where} cannot be loaded: {type(error).__name__}: {error}") from error
    finally:
        sys.path[:] = before

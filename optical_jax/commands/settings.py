"""From a command line to a Config: a config file gives the values, typed flags override them."""

from __future__ import annotations

import difflib
import importlib.util
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, TypeVar

import tyro

from optical_jax.config import Config, ImageStageConfig, TeacherStageConfig
from optical_jax.config.validation import check_types
from optical_jax.errors import ConfigError

Settings = TypeVar("Settings", Config, TeacherStageConfig, ImageStageConfig)
STARTED_BY = {
    "Config": "train.py",
    "TeacherStageConfig": "python -m optical_jax teacher",
    "ImageStageConfig": "python -m optical_jax image_teacher",
}
"""What takes the settings that a config file gives."""


@dataclass(frozen=True)
class TrainCommand:
    """Teach a student a language from bitext. Flags override the config file.

    The same command again resumes an unfinished run, and prints the result of a finished one.
    """

    config: str = ""
    """Python file with get_config() -> Config, such as configs/swahili.py."""
    dry_run: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Tell parameters, FLOPs, memory and time, compile, and stop."""
    each_language: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """One student a language instead of one for all, one after the other, in RUN/LANG."""
    settings: Annotated[Config, tyro.conf.arg(name="")] = field(default_factory=Config)


@dataclass(frozen=True)
class TeacherCommand:
    """Train an English late-interaction teacher from an encoder and judged passages. Flags override the config file.

    The same command again resumes an unfinished run, and prints the result of a finished one.
    """

    config: str = ""
    """Python file with get_config() -> TeacherStageConfig, such as configs/teacher_afriqa.py."""
    dry_run: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Tell parameters, FLOPs, memory and time, compile, and stop."""
    settings: Annotated[TeacherStageConfig, tyro.conf.arg(name="")] = field(default_factory=TeacherStageConfig)


@dataclass(frozen=True)
class ImageTeacherCommand:
    """Train a tower of pictures and a tower of English texts to agree. Flags override the config file.

    The same command again resumes an unfinished run, and prints the result of a finished one.
    """

    config: str = ""
    """Python file with get_config() -> ImageStageConfig, such as configs/images/teacher.py."""
    dry_run: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Tell parameters, FLOPs, memory and time, compile, and stop."""
    settings: Annotated[ImageStageConfig, tyro.conf.arg(name="")] = field(default_factory=ImageStageConfig)


Command = TypeVar("Command", TrainCommand, TeacherCommand, ImageTeacherCommand)


def parse_command(kind: type[Command], argv: Sequence[str]) -> Command:
    """Read a training's command line. tyro itself answers --help (exit 0) and unknown flags (exit 2).

    Raises:
      ConfigError: the config file is missing or broken, or gives another kind of settings.
    """
    default, path = kind(), _config_argument(argv)
    settings = type(default.settings)
    if path:
        default = replace(default, config=path, settings=load_config_file(path, settings))
    return tyro.cli(kind, args=list(argv), default=default, prog=STARTED_BY[settings.__name__])


def _config_argument(argv: Sequence[str]) -> str:
    """The last value of --config, which must be known before the other flags' defaults are."""
    path = ""
    for i, word in enumerate(argv):
        if word == "--config" and i + 1 < len(argv):
            path = argv[i + 1]
        elif word.startswith("--config="):
            path = word.removeprefix("--config=")
    return path


def load_config_file(path: str, kind: type[Settings]) -> Settings:
    """Run a config file and call its get_config(), which is to return a `kind`.

    Raises:
      ConfigError: no such file, no get_config in it, or it fails or returns another kind.
    """
    config = call_in_file(path, "get_config", "configs")
    if not isinstance(config, kind):
        other = STARTED_BY.get(type(config).__name__)
        remedy = f"start it by {other}" if other else f"return an optical_jax {kind.__name__}"
        raise ConfigError(f"config={path}: get_config() returned {type(config).__name__}; {remedy}")
    # Before tyro, which warns in words of its own of a default that is of another kind.
    check_types(config)
    return config


def call_in_file(path: str, function: str, shelf: str, imports: Sequence[str] = (".",)) -> object:
    """What a function without arguments in a Python file returns.

    Args:
      path: of the file.
      function: its name.
      shelf: folder whose files are told of where there is no such file.
      imports: folders, from the file's own, that it may import from while it runs: `import swahili` in configs/.

    Raises:
      ConfigError: no such file, no such function in it, or it fails.
    """
    file = Path(path)
    if not file.is_file():
        # Those at hand of the same kind: in the folder that was named, and in all below the shelf.
        others = sorted(
            str(p) for p in Path(shelf).rglob("*.py") if f"def {function}(" in p.read_text("utf-8", "replace")
        )
        by_name = {Path(other).stem: other for other in others}
        near = difflib.get_close_matches(file.stem, by_name, n=1, cutoff=0.7)
        there = ", ".join(others) or f"none in {shelf}/"
        known = f"did you mean {by_name[near[0]]}?" if near else f"there are: {there}"
        raise ConfigError(f"config={path} {'is a folder' if file.is_dir() else 'does not exist'}; {known}")
    spec = importlib.util.spec_from_file_location(f"optical_jax_{function}_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"config={path} is no Python file; name one with {function}() in it")
    module, before = importlib.util.module_from_spec(spec), list(sys.path)
    sys.path[:0] = [str((file.parent / folder).absolute()) for folder in imports]
    try:
        spec.loader.exec_module(module)
        return getattr(module, function)()
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        here = [frame.lineno for frame in frames if Path(frame.filename) == file.absolute()]
        where = f"{path}:{here[-1]}" if here else path
        raise ConfigError(f"config={where} cannot be read: {type(error).__name__}: {error}") from error
    finally:
        sys.path[:] = before

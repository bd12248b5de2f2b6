"""Command lines of trainings: values from a recipe or a config file, overridden by flags."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import tyro

from optical_jax.commands.entry import add_xla_flag, refuse_no_flags
from optical_jax.config import Config, ImageStageConfig, TeacherStageConfig
from optical_jax.config.files import STARTED_BY, load_config_file
from optical_jax.invocation import program
from optical_jax.runs.metrics import check_tracker

if TYPE_CHECKING:
    from optical_jax.runs.folder import RunConfig, RunFolder
    from optical_jax.training.task import Prepared


@dataclass(frozen=True)
class TrainCommand:
    """Train a student for a language from bitext. Flags override the recipe or the config file.

    The same command resumes an unfinished run, and prints the result of a finished one.
    """

    config: str = ""
    """Recipe (own_language, linear_map, demo, tiny), or Python file with get_config() -> Config; empty takes
    own_language."""
    dry_run: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Report parameters, FLOPs, memory and time, compile, and stop."""
    each_language: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Train one student per language instead of one for all, in sequence, in RUN/LANG."""
    settings: Annotated[Config, tyro.conf.arg(name="")] = field(default_factory=Config)


@dataclass(frozen=True)
class TeacherCommand:
    """Train an English late-interaction teacher on relevance judgements. Flags override the recipe or the config file.

    The same command resumes an unfinished run, and prints the result of a finished one.
    """

    config: str = ""
    """Recipe (own_teacher), or Python file with get_config() -> TeacherStageConfig."""
    dry_run: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Report parameters, FLOPs, memory and time, compile, and stop."""
    settings: Annotated[TeacherStageConfig, tyro.conf.arg(name="")] = field(default_factory=TeacherStageConfig)


@dataclass(frozen=True)
class ImageTeacherCommand:
    """Train an image tower and an English text tower contrastively (CLIP-style). Flags override recipe or config file.

    The same command resumes an unfinished run, and prints the result of a finished one.
    """

    config: str = ""
    """Recipe (own_images), or Python file with get_config() -> ImageStageConfig."""
    dry_run: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Report parameters, FLOPs, memory and time, compile, and stop."""
    settings: Annotated[ImageStageConfig, tyro.conf.arg(name="")] = field(default_factory=ImageStageConfig)


Command = TypeVar("Command", TrainCommand, TeacherCommand, ImageTeacherCommand)

DEFAULT_RECIPE = {"train": "own_language"}
"""The settings without --config, by command; those of the other trainings are their dataclasses' defaults."""


def parse_command(kind: type[Command], argv: Sequence[str]) -> Command:
    """Parse a training's command line. tyro handles --help (exit 0) and unknown flags (exit 2).

    Raises:
      ConfigError: the recipe or config file is missing, fails, or returns another type of settings.
    """
    default = kind()
    settings = type(default.settings)
    command = STARTED_BY[settings.__name__]
    path = _config_argument(argv) or DEFAULT_RECIPE.get(command, "")
    if path:
        default = replace(default, config=path, settings=load_config_file(path, settings))
    return tyro.cli(kind, args=list(argv), default=default, prog=program(command))


def _config_argument(argv: Sequence[str]) -> str:
    """The last value of --config, which is needed before the defaults of the other flags."""
    path = ""
    for i, word in enumerate(argv):
        if word == "--config" and i + 1 < len(argv):
            path = argv[i + 1]
        elif word.startswith("--config="):
            path = word.removeprefix("--config=")
    return path


def read_command(argv: Sequence[str], kind: type[Command], validate: Callable[..., None], example: str) -> Command:
    """Parse and validate the command line of a training, before anything is read or compiled.

    Args:
      argv: the words after the command's name.
      kind: command class.
      validate: raises ConfigError for settings that are not valid.
      example: a working command line, for the error without flags.

    Raises:
      ConfigError: names the field, its value and the remedy.
    """
    refuse_no_flags(argv, "name a config or data, and a folder for the run", example)
    command = parse_command(kind, argv)
    if not _config_argument(argv) and command.config:
        print(f"settings: the recipe {command.config}; --config takes another", flush=True)
    validate(command.settings, needs_run=not command.dry_run)
    check_tracker(command.settings.training.tracker)
    if command.settings.training.deterministic:
        add_xla_flag("--xla_gpu_deterministic_ops=true")
    return command


def run_training(cfg: RunConfig, prepare: Callable[[Any, RunFolder | None], Prepared], *, dry: bool) -> None:
    """Train in the run folder, or with `dry` print what it would cost."""
    if dry:
        from optical_jax.training.dry_run import dry_run

        dry_run(cfg, prepare(cfg, None))
    else:
        from optical_jax.training.task import train

        train(cfg, prepare)

"""From a command line to a Config: a config file gives the values, typed flags override them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import tyro

from optical_jax.commands.entry import add_xla_flag, refuse_no_flags
from optical_jax.config import Config, ImageStageConfig, TeacherStageConfig
from optical_jax.config.files import STARTED_BY, load_config_file
from optical_jax.runs.metrics import check_tracker

if TYPE_CHECKING:
    from optical_jax.runs.folder import RunConfig, RunFolder
    from optical_jax.training.task import Prepared


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


def read_command(argv: Sequence[str], kind: type[Command], validate: Callable[..., None], example: str) -> Command:
    """The command line of a training, its settings checked; nothing is read or compiled yet.

    Args:
      argv: the words after the command's name.
      kind: of command.
      validate: refuses settings that cannot be.
      example: a command line that works, for who gives none.

    Raises:
      ConfigError: names the field, its value and the remedy.
    """
    refuse_no_flags(argv, "name a config or data, and a folder for the run", example)
    command = parse_command(kind, argv)
    validate(command.settings, needs_run=not command.dry_run)
    check_tracker(command.settings.training.tracker)
    if command.settings.training.deterministic:
        add_xla_flag("--xla_gpu_deterministic_ops=true")
    return command


def run_training(cfg: RunConfig, prepare: Callable[[Any, RunFolder | None], Prepared], *, dry: bool) -> None:
    """Train in the run folder, or with `dry` print what it would cost."""
    from optical_jax.training.dry_run import dry_run
    from optical_jax.training.task import train

    if dry:
        dry_run(cfg, prepare(cfg, None))
    else:
        train(cfg, prepare)

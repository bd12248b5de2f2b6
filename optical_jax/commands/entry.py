"""Entry point of all commands: reports user errors in one line on stderr and returns exit codes."""

from __future__ import annotations

import errno
import logging
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from optical_jax.config.files import configs_folder
from optical_jax.errors import MACHINE_ERRNOS, ConfigError, Interrupted, MachineError, OpticalError
from optical_jax.files import text_fault
from optical_jax.invocation import program, typed_command
from optical_jax.printing import escape_unprintable, printable_lines

PRODUCTS_BY_EIGEN = "--xla_cpu_experimental_ynn_fusion_type=reduce"
"""XLA flag for CPU: matrix products by Eigen instead of YNNPACK, which keeps reductions. A training step takes 5% less
CPU time, encoding 10 to 25% less."""


def add_xla_flag(flag: str) -> None:
    """Add a flag to XLA_FLAGS, unless the user has set it; takes effect if no JAX backend is initialised yet."""
    flags = os.environ.get("XLA_FLAGS", "").split()
    if not any(given.startswith(flag.partition("=")[0] + "=") for given in flags):
        os.environ["XLA_FLAGS"] = " ".join([*flags, flag])


def as_main(run_command: Callable[[list[str]], None]) -> Callable[..., int]:
    """The entry point main(argv=None) of a command: returns its exit code, and takes the process's flags by default."""

    def main(argv: Sequence[str] | None = None) -> int:
        words = list(sys.argv[1:] if argv is None else argv)
        return run_command_line(lambda: run_command(checked_arguments(words)))

    return main


def checked_arguments(words: list[str]) -> list[str]:
    """The arguments of a command, once they and the current folder are valid text: others can be neither saved nor used
    by XLA.

    Raises:
      ConfigError: one is not UTF-8 (Python hands on such bytes as lone surrogates), or the folder was deleted.
    """
    try:
        folder = os.getcwd()
    except FileNotFoundError:
        raise ConfigError("the current folder does not exist any more; change to another one") from None
    if text_fault(folder):
        raise ConfigError(f"the current folder, {shlex.quote(folder)}, is not UTF-8; rename it, or work in another one")
    for number, word in enumerate(words, start=1):
        if text_fault(word):
            raise ConfigError(
                f"argument {number}, {shlex.quote(word)}, is not UTF-8; "
                "set a UTF-8 locale and retype it, or rename the file it names"
            )
    return words


def run_command_line(command: Callable[[], None]) -> int:
    """Run a command and return its exit code; errors that are not the user's keep their traceback."""
    escape_unprintable()
    # Otherwise transformers warns at every start that PyTorch is missing, which is not needed here.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    # XLA's C++ code logs slow compilations as errors; what really fails reaches Python as an exception.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    add_xla_flag(PRODUCTS_BY_EIGEN)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("optical_jax").setLevel(logging.INFO)
    try:
        command()
    except OpticalError as error:
        return _report(error)
    except BrokenPipeError:
        # The reader of the pipe (head, less) closed it. Without this Python reports it again at the final flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return _report(
            Interrupted("stopped by a signal; the same command starts again, a training from its last checkpoint")
        )
    except (NotADirectoryError, FileExistsError, IsADirectoryError) as error:
        what = (
            "is a folder; name a file"
            if isinstance(error, IsADirectoryError)
            else "is a file, or inside one; name a folder"
        )
        return _report(ConfigError(f"{error.filename} {what}"))
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return _report(ConfigError(f"{error.filename}: the name is too long; use a shorter one"))
        if error.errno not in MACHINE_ERRNOS:
            raise
        where = f" ({error.filename})" if error.filename else ""
        return _report(MachineError(f"{error.strerror}{where}; free space or use a writable folder"))
    return 0


def refuse_no_flags(argv: Sequence[str], what: str, example: str) -> None:
    """Refuse a command line without flags, with an example.

    Args:
      argv: the words after the command's name.
      what: what to name.
      example: name of the command, and flags. Files of configs/ are named where they are on this machine.

    Raises:
      ConfigError: there are no flags.
    """
    if argv:
        return
    command, *words = shlex.split(example)
    folder = configs_folder()
    there = [
        str(folder / word.removeprefix("configs/")) if word.startswith("configs/") and not Path(word).exists() else word
        for word in words
    ]
    raise ConfigError(
        f"no flags given; {what}, such as\n  {program(command)} {shlex.join(there)}\n--help lists all flags"
    )


def _report(error: OpticalError) -> int:
    again = shlex.join(typed_command()) if isinstance(error, Interrupted) else ""
    print(f"error: {printable_lines(str(error))}" + (f":\n  {again}" if again else ""), file=sys.stderr)
    return error.exit_code

"""The way out of every command: an error a user can mend becomes one line on stderr and its exit code."""

from __future__ import annotations

import errno
import logging
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from optical_jax.errors import MACHINE_ERRNOS, ConfigError, Interrupted, MachineError, OpticalError

PRODUCTS_BY_EIGEN = "--xla_cpu_experimental_ynn_fusion_type=reduce"
"""On a CPU: products of matrices by Eigen and not by XLA's YNNPACK, which goes on with sums. A training step takes a
twentieth less of the processor's time, encoding a tenth to a quarter."""


def add_xla_flag(flag: str) -> None:
    """Set one of XLA's flags, which are read when the first device is asked for. The user's own value stays."""
    flags = os.environ.get("XLA_FLAGS", "").split()
    if not any(given.startswith(flag.partition("=")[0] + "=") for given in flags):
        os.environ["XLA_FLAGS"] = " ".join([*flags, flag])


def open_door(command: Callable[[], None]) -> int:
    """Run a command and return its exit code; a bug keeps its traceback."""
    # transformers would tell at every start that it found no PyTorch, which nothing here asks for.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    add_xla_flag(PRODUCTS_BY_EIGEN)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("optical_jax").setLevel(logging.INFO)
    try:
        command()
    except OpticalError as error:
        return _tell(error)
    except BrokenPipeError:
        # Who read our output (head, less) has had enough of it. Python would complain once more when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return _tell(
            Interrupted("stopped by a signal; the same command begins again, a training at its last checkpoint")
        )
    except (NotADirectoryError, FileExistsError, IsADirectoryError) as error:
        what = (
            "is a folder; name a file"
            if isinstance(error, IsADirectoryError)
            else "is, or lies in, a file; name a folder"
        )
        return _tell(ConfigError(f"{error.filename} {what}"))
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return _tell(ConfigError(f"{error.filename}: the name is too long; give a shorter one"))
        if error.errno not in MACHINE_ERRNOS:
            raise
        where = f" ({error.filename})" if error.filename else ""
        return _tell(MachineError(f"{error.strerror}{where}; free space or choose a folder that can be written"))
    return 0


def typed_command() -> str:
    """The command as it was typed, to be copied; empty where Python code called instead of a command line."""
    door = Path(sys.argv[0])
    if door.name in ("train.py", "eval.py"):
        words = ["python", str(door)]
    elif door.parts[-2:] == ("optical_jax", "__main__.py"):
        words = ["python", "-m", "optical_jax"]
    elif door.name == "optical_jax":
        words = ["optical_jax"]
    else:
        return ""
    return shlex.join([*words, *sys.argv[1:]])


def refuse_no_flags(argv: Sequence[str], what: str, example: str) -> None:
    """Greet who types a bare command, to see what it does, with one that works.

    Raises:
      ConfigError: there are no flags.
    """
    if not argv:
        raise ConfigError(f"no flags given; {what}, such as\n  {example}\n--help tells them all")


def _tell(error: OpticalError) -> int:
    again = typed_command() if isinstance(error, Interrupted) else ""
    print(f"error: {error}" + (f":\n  {again}" if again else ""), file=sys.stderr)
    return error.exit_code

"""The way out of every command: an error a user can mend becomes one line on stderr and its exit code."""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import Callable

from optical_jax.errors import Interrupted, MachineError, OpticalError

MACHINE_ERRNOS = {errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EPERM, errno.EDQUOT}


def open_door(command: Callable[[], None]) -> int:
    """Run a command and return its exit code; a bug keeps its traceback."""
    # transformers would tell at every start that it found no PyTorch, which nothing here asks for.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
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
    except OSError as error:
        if error.errno not in MACHINE_ERRNOS:
            raise
        where = f" ({error.filename})" if error.filename else ""
        return _tell(MachineError(f"{error.strerror}{where}; free space or choose a folder that can be written"))
    return 0


def _tell(error: OpticalError) -> int:
    print(f"error: {error}", file=sys.stderr)
    return error.exit_code

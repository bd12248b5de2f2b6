"""User errors and their exit codes.

The entry points (train.py, eval.py, ``python -m optical_jax``) report an `OpticalError` in one line on stderr and exit
with its code. Any other exception is a bug and keeps its traceback (exit 1).
"""

import errno


class OpticalError(Exception):
    """Base class of errors that a user can fix; the message is one line: field or file, value, remedy."""

    exit_code = 1


class ConfigError(OpticalError):
    """The command line or config is not valid. Raised before anything compiles."""

    exit_code = 2


class DataError(OpticalError):
    """A bitext or collection is missing, empty, malformed or without judged queries: file, line, reason."""

    exit_code = 3


class NonFiniteLossError(OpticalError):
    """The loss became NaN or infinite; the last good checkpoint is kept."""

    exit_code = 4


class MachineError(OpticalError):
    """The disk is full, a folder read-only, or a run locked by another process."""

    exit_code = 5


class Interrupted(OpticalError):
    """Stopped by SIGINT or SIGTERM after saving a checkpoint. Schedulers requeue on 75 (EX_TEMPFAIL)."""

    exit_code = 75


MACHINE_ERRNOS = {errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EPERM, errno.EDQUOT}

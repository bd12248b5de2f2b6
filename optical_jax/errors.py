"""What can go wrong for a user, and the exit code each kind ends with.

The doors (train.py, eval.py, ``python -m optical_jax``) turn an `OpticalError` into one line on stderr and
its exit code. Anything else is a bug and keeps its traceback (exit 1).
"""

import errno


class OpticalError(Exception):
    """Base of every error a user can mend; the message is one line: field or file, value, remedy."""

    exit_code = 1


class ConfigError(OpticalError):
    """The command or the config is wrong. Raised before anything compiles."""

    exit_code = 2


class DataError(OpticalError):
    """A bitext or a collection is missing, empty, broken or without judged queries: file, line, what."""

    exit_code = 3


class NonFiniteLossError(OpticalError):
    """The loss stopped being a number; the last good checkpoint is kept."""

    exit_code = 4


class MachineError(OpticalError):
    """Disk full, folder read-only, run locked by another process."""

    exit_code = 5


class Interrupted(OpticalError):
    """Stopped by SIGINT or SIGTERM after saving. Schedulers requeue on 75 (EX_TEMPFAIL)."""

    exit_code = 75


MACHINE_ERRNOS = {errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EPERM, errno.EDQUOT}

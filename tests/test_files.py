"""Locks of files and folders, across processes."""

import os
import signal
import subprocess
import sys

import pytest

from optical_jax.errors import MachineError
from optical_jax.files import lock_file, locked


def test_a_folders_lock_is_held_until_it_is_left_or_its_process_is_killed(tmp_path):
    code = (
        "import sys, time, pathlib\nfrom optical_jax.files import locked\n"
        "with locked(pathlib.Path(sys.argv[1]), OSError()):\n    print('locked', flush=True)\n    time.sleep(60)\n"
    )
    refusal = MachineError("come back later")
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        try:
            assert holder.stdout.readline() == "locked\n"
            with pytest.raises(MachineError, match="come back later"), locked(tmp_path, refusal):
                pass
        finally:
            os.kill(holder.pid, signal.SIGKILL)
    for _ in range(2):
        with locked(tmp_path, refusal):
            assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_file_is_locked_by_one_handle(tmp_path):
    with (tmp_path / "file").open("ab") as first, (tmp_path / "file").open("ab") as second:
        assert lock_file(first)
        assert not lock_file(second)
        first.close()
        assert lock_file(second, wait=True)

"""Locks of files and folders, across processes; JSON that others wrote."""

import os
import signal
import subprocess
import sys

import pytest

from optical_jax.errors import DataError, MachineError
from optical_jax.files import lock_file, locked, parse_json, read_json


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


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (r'"cut \ud83d"', r"half a surrogate pair \(\\ud83d\)"),
        (r'{"a": [{"\uDFFF": 0}]}', r"half a surrogate pair \(\\udfff\)"),
        ("[" * 50_000 + "]" * 50_000, "nested too deep"),
        ("-" + "1" * 5000, "too many digits"),
        ("", "Expecting value, column 1"),
        ('{"a": 1,\n"b" 2}', "line 2, column 5"),
    ],
)
def test_json_of_others_that_is_refused(tmp_path, text, what):
    with pytest.raises(ValueError, match=what):
        parse_json(text)
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(DataError, match=rf"config.json: .*{what}"):
        read_json(path)


def test_a_whole_surrogate_pair_is_one_character():
    assert parse_json(r'["\ud83d\ude00", "\\ud83d"]') == ["😀", r"\ud83d"]


def test_a_json_file_that_is_not_utf8(tmp_path):
    (tmp_path / "config.json").write_bytes(b'{"a": "caf\xe9"}')
    with pytest.raises(DataError, match=r"config.json: not UTF-8 \(byte 11\)"):
        read_json(tmp_path / "config.json")

"""Commands in processes of their own, to be stopped and killed in the middle."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jax

from tests import ROOT


@contextlib.contextmanager
def begun(*words: object, devices: int = 0) -> Iterator[subprocess.Popen[str]]:
    """`python WORDS`, which does not outlive a test that fails; with as many devices as this process by default."""
    command = [sys.executable, *map(str, words)]
    environ = os.environ | {"JAX_NUM_CPU_DEVICES": str(devices or jax.device_count())}
    with subprocess.Popen(command, cwd=ROOT, env=environ, stdout=-1, stderr=-1, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_until(reached: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    for _ in range(60_000):
        if reached():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    raise AssertionError("not reached in 300 seconds")


def records(run: Path) -> list[dict]:
    """The whole lines of a run's metrics so far."""
    lines = (run / "metrics.jsonl").read_text().split("\n") if (run / "metrics.jsonl").is_file() else [""]
    return [json.loads(line) for line in lines[:-1]]

"""A reference implementation (PyTorch) in its own process, so that threads and memory do not interfere."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress
from typing import Any

from optical_jax.errors import ConfigError


class PeerProcess:
    """A module run as a process that answers lines of JSON with lines of JSON."""

    def __init__(self, module: str):
        self.process = subprocess.Popen(
            [sys.executable, "-m", module], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, question: Any) -> Any:
        """Send a line and return the answer.

        Raises:
          ConfigError: the process ended, with the reason on its stderr.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        answer = ""
        with suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(question) + "\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        if not answer:
            raise ConfigError("the PyTorch process ended, see above; fix that, or leave out --peer torch")
        return json.loads(answer)

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(timeout=60)
        self.process.stdout.close()

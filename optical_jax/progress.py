"""Progress reports: a bar with rate and ETA on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

PLAIN_LINE_SECONDS = 10.0
"""Without a terminal, smallest interval between progress lines."""


class ProgressReport:
    """Progress of `total` units of work, on stderr. `say` prints a line above the bar.

    With `slow` the rate is shown in seconds per unit, averaged over all units.
    """

    def __init__(self, label: str, total: int, unit: str, *, done: int = 0, slow: bool = False) -> None:
        self._label, self._total, self._unit = label, total, unit
        self._start: float | None = None
        self._first, self._done = done, done
        self._last_line = time.monotonic()
        self._slow = slow
        # The current stderr, which may be redirected to a file while a unit runs.
        self._console = Console(file=sys.stderr, emoji=False)
        self._bar: Progress | None = None
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=None),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeElapsedColumn(),
                TextColumn("eta"),
                TimeRemainingColumn(),
                console=self._console,
                speed_estimate_period=float("inf") if slow else 30.0,
            )
            self._task = self._bar.add_task(label, total=total, completed=done, rate="")

    def __enter__(self) -> ProgressReport:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, count: int = 1) -> None:
        self._done += count
        if self._start is None:
            self._start, self._first = time.monotonic(), self._done
        rate = self.rate()
        if self._bar is not None:
            shown = f"{1 / rate:.0f} s each" if rate and self._slow else f"{rate:.1f} {self._unit}/s" if rate else ""
            self._bar.update(self._task, completed=self._done, rate=shown)
        elif time.monotonic() - self._last_line > PLAIN_LINE_SECONDS:
            shown = f", {rate:.1f}/s, eta {self.eta()}" if rate else ""
            self.say(f"{self._label} {self._done}/{self._total} {self._unit}{shown}")

    def rate(self) -> float:
        """Units per second since the end of the first one, which includes compilation; 0 before the second."""
        return 0.0 if self._start is None else (self._done - self._first) / max(time.monotonic() - self._start, 1e-9)

    def eta(self) -> str:
        """Remaining time at the current rate, h:mm:ss."""
        rate = self.rate()
        return clock((self._total - self._done) / rate) if rate > 0 else "?"

    def say(self, line: str) -> None:
        self._last_line = time.monotonic()
        if self._bar is not None:
            self._bar.console.print(line, highlight=False, markup=False)
        else:
            print(line, file=sys.stderr, flush=True)


def clock(seconds: float) -> str:
    """h:mm:ss."""
    minutes, s = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{s:02d}"

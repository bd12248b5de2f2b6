"""Progress reports: a bar with rate and ETA on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

WIDE = 72
"""Columns of a terminal for a whole bar; a smaller one shows a short label, the count and the remaining time."""
PLAIN_LINE_SECONDS = 10.0
"""Without a terminal, smallest interval between progress lines."""


class EtaColumn(TimeRemainingColumn):
    """`eta` and the remaining time, while there is any: of several bars on a screen only the running one shows it."""

    def render(self, task: Task) -> Text:
        return Text() if task.finished else Text("eta ", "progress.remaining") + super().render(task)


class ProgressReport:
    """Progress of `total` units of work, on stderr. `say` prints a line above the bar.

    With `slow` the rate is shown in seconds per unit, averaged over all units.
    """

    def __init__(self, label: str, total: int, unit: str, *, done: int = 0, slow: bool = False) -> None:
        self._label, self._total, self._unit = label, total, unit
        self._start: float | None = None
        self._first, self._done = done, done
        self._last_line = time.monotonic()
        self._printed: int | None = None
        self._eta_in_lines = False
        self._slow = slow
        # The current stderr, which may be redirected to a file while a unit runs.
        self._console = Console(file=sys.stderr, emoji=False)
        self._bar: Progress | None = None
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            wide = self._console.width >= WIDE
            bar = [BarColumn(bar_width=None)] if wide else []
            times = [TextColumn("{task.fields[rate]}"), TimeElapsedColumn()] if wide else []
            self._bar = Progress(
                TextColumn("{task.description}" if wide else "{task.description:.12}", markup=False),
                *bar,
                MofNCompleteColumn(),
                *times,
                EtaColumn(),
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
        elif kind is None and self._printed not in (None, self._done):
            # A log must not end at 170/1342 if all were done.
            self.say(self._count())

    def advance(self, count: int = 1) -> None:
        self._done += count
        if self._start is None:
            self._start, self._first = time.monotonic(), self._done
        rate = self.rate()
        if self._bar is not None:
            shown = f"{1 / rate:.0f} s each" if rate and self._slow else f"{rate:.1f} {self._unit}/s" if rate else ""
            self._bar.update(self._task, completed=self._done, rate=shown)
        elif time.monotonic() - self._last_line > PLAIN_LINE_SECONDS:
            shown = f", {rate:.1f}/s" if rate else ""
            if rate and not self._eta_in_lines:
                shown += f", eta {self.eta()}"
            self._printed = self._done
            self.say(self._count() + shown)

    def eta_of_line(self, separator: str) -> str:
        """Remaining time, to end a line of the caller's; empty if a bar shows it. Plain lines then leave it out."""
        if self._bar is not None:
            return ""
        self._eta_in_lines = True
        return f"{separator}eta {self.eta()}"

    def _count(self) -> str:
        return f"{self._label} {self._done}/{self._total} {self._unit}"

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

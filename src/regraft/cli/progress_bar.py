"""Draws progress on stderr, for work that has taken more than a second."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from regraft.progress import listening

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_PATIENCE_SECONDS = 1.0


@contextlib.contextmanager
def progress_bars(*, visible: bool) -> Iterator[None]:
    """Show a bar for each task that runs inside the block; nothing when stderr is no terminal or under CI."""
    if not visible or not sys.stderr.isatty() or os.environ.get("CI"):
        yield
        return
    bars = _Bars()
    with listening(bars):
        try:
            yield
        finally:
            bars.stop()


class _Bars:
    """A `regraft.progress.Listener`; rich is imported when the first task grows old."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._born = time.monotonic()
        self._rich: Progress | None = None
        self._tasks: dict[int, tuple[str, int | None, int]] = {}
        self._shown: dict[int, TaskID] = {}
        self._next = 0

    def start(self, what: str, total: int | None, unit: str) -> int:
        """Remember a task; it becomes visible with its first advance after a second."""
        with self._lock:
            self._next += 1
            self._tasks[self._next] = (what, total, 0)
            return self._next

    def advance(self, task: int, amount: int) -> None:
        """Move a task on, and draw it once a second has passed."""
        with self._lock:
            if task not in self._tasks:
                return
            what, total, done = self._tasks[task]
            self._tasks[task] = (what, total, done + amount)
            if time.monotonic() - self._born < _PATIENCE_SECONDS:
                return
            bars = self._rich or self._draw()
            if task not in self._shown:
                self._shown[task] = bars.add_task(what, total=total)
            bars.update(self._shown[task], completed=done + amount)

    def finish(self, task: int) -> None:
        """Take a task off the screen."""
        with self._lock:
            self._tasks.pop(task, None)
            shown = self._shown.pop(task, None)
            if shown is not None and self._rich is not None:
                self._rich.remove_task(shown)

    def stop(self) -> None:
        """Clear the screen of bars."""
        with self._lock:
            if self._rich is not None:
                self._rich.stop()
                self._rich = None

    def _draw(self) -> Progress:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
        self._rich = Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True)
        self._rich.start()
        return self._rich

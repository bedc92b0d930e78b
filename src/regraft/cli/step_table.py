"""Shows the steps of a run on stderr: a live table on a terminal, a line a change elsewhere."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from regraft.progress import listening
from regraft.report.text import visible
from regraft.workflow.state import Status, StepState

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

    from regraft.workflow.execute import Watch

_MARKS = {
    Status.WAITING: "·",
    Status.RUNNING: "▸",
    Status.KEPT: "=",
    Status.DONE: "✓",
    Status.FAILED: "✗",
    Status.SKIPPED: "–",
}
_REFRESH_PER_SECOND = 5
_WIDTH = 100


@contextlib.contextmanager
def step_table(*, shown: bool) -> Iterator[Watch | None]:
    """Yield what `run` is to tell about its steps; None when nothing is to be shown."""
    if not shown:
        yield None
    elif sys.stderr.isatty() and not os.environ.get("CI"):
        table = _LiveTable()
        with listening(_Deaf()):  # bars beside the table would tear it
            try:
                yield table.show
            finally:
                table.stop()
    else:
        yield _Lines().show


def steps_text(states: Iterable[StepState]) -> str:
    """A plain table of steps and what became, or would become, of them."""
    rows = [(_word(state), state.step.name, _result(state)) for state in states]
    name = max((len(row[1]) for row in rows), default=0)
    return "".join(f"{word:<11} {step:<{name}}  {result}"[:_WIDTH].rstrip() + "\n" for word, step, result in rows)


class _Deaf:
    """A `regraft.progress.Listener` that shows nothing: the table has the progress of each step."""

    def start(self, what: str, total: int | None, unit: str) -> int:
        return 0

    def advance(self, task: int, amount: int) -> None:
        pass

    def finish(self, task: int) -> None:
        pass


class _Lines:
    """A line when a step starts, and one when it is over."""

    def __init__(self) -> None:
        self._last: dict[str, Status] = {}

    def show(self, state: StepState) -> None:
        if self._last.get(state.step.name) is state.status:
            return
        self._last[state.step.name] = state.status
        word = "started" if state.status is Status.RUNNING else state.status.value
        line = f"{_MARKS[state.status]} {word:<8} {state.step.name}"
        sys.stderr.write(f"{line}  {_result(state)}".rstrip()[: 2 * _WIDTH] + "\n")
        sys.stderr.flush()


class _LiveTable:
    """A table that rich redraws; it appears with the first state."""

    def __init__(self) -> None:
        self._states: dict[str, StepState] = {}
        self._started: dict[str, float] = {}
        self._live: Live | None = None

    def show(self, state: StepState) -> None:
        self._states[state.step.name] = state
        if state.status is Status.RUNNING:
            self._started.setdefault(state.step.name, time.monotonic())
        if self._live is None:
            from rich.console import Console
            from rich.live import Live

            self._live = Live(
                console=Console(stderr=True), refresh_per_second=_REFRESH_PER_SECOND, get_renderable=self._table
            )
            self._live.start()

    def stop(self) -> None:
        if self._live is not None:
            self._live.stop()

    def _table(self) -> Table:
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, padding=(0, 1), show_header=False)
        for column in ("mark", "word", "name", "seconds", "result"):
            table.add_column(column, no_wrap=True, justify="right" if column == "seconds" else "left")
        for name, state in [*self._states.items()]:
            seconds = state.seconds
            if state.status is Status.RUNNING:
                seconds = time.monotonic() - self._started[name]
            shown = f"{seconds:.1f} s" if seconds else ""
            cells = (_MARKS[state.status], state.status.value, visible(name), shown, _result(state, timed=False))
            table.add_row(*(Text(cell, overflow="ellipsis") for cell in cells))
        return table


def _word(state: StepState) -> str:
    if state.status is Status.WAITING:
        return "would run"
    return "would keep" if state.status is Status.KEPT else state.status.value


def _result(state: StepState, *, timed: bool = True) -> str:
    """What a step came to, in one line."""
    if state.status is Status.RUNNING:
        share = f" {state.progress:.0%}" if state.progress is not None else ""
        return visible(state.activity) + share if state.activity else ""
    parts = [f"{state.seconds:.1f} s"] if timed and state.seconds else []
    if state.reason:
        parts.append(state.reason)
    elif state.record is not None and state.verdict is not None:
        parts.append(f"{state.verdict}: {state.record.evidence.summary}")
    return visible("  ".join(parts))

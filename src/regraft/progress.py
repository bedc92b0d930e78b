"""Progress of long work, told to whoever listens. Nobody by default; the command line draws bars."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol


class Listener(Protocol):
    """Somebody who shows progress. Calls may come from several threads."""

    def start(self, what: str, total: int | None, unit: str) -> int:
        """A task began; `total` amounts of `unit` are expected, None if nobody knows. Returns its number."""

    def advance(self, task: int, amount: int) -> None:
        """`amount` more of a task is done."""

    def finish(self, task: int) -> None:
        """A task ended, done or not."""


_listeners: list[Listener] = []


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Send the progress of everything inside the block to `listener`."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def current_listener() -> Listener | None:
    """Who is told about progress now; None when nobody listens."""
    return _listeners[-1] if _listeners else None


@contextmanager
def progress(what: str, *, total: int | None = None, unit: str = "bytes") -> Iterator[Callable[[int], None]]:
    """Announce a task; call the yielded function with the amount done since the last call.

    Args:
        what: what is being done, for a human: "hashing", "fetching x.whl".
        total: expected amount; None when unknown.
        unit: `bytes`, `files`, `packages`, …
    """
    listener = current_listener()
    if listener is None:
        yield _ignore
        return
    task = listener.start(what, total, unit)
    try:
        yield lambda amount: listener.advance(task, amount)
    finally:
        listener.finish(task)


def _ignore(amount: int) -> None:
    pass

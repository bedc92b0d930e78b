"""Runs tasks in processes of this machine: a crash, a hang or a greed for memory ends one task, and nothing else."""

from __future__ import annotations

import contextlib
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

from regraft.errors import UsageError
from regraft.progress import Listener, current_listener
from regraft.workflow.engine.child import Child
from regraft.workflow.engine.interface import Ended, Ending, Event, Progressed, Started, Task
from regraft.workflow.engine.worker import Began, Finished, Message, Said

_GUARDIAN = Path(__file__).with_name("guardian.py")
_LOOK_SECONDS = 0.1
_MAX_IDLE_BYTES = 1 << 30
"""A worker that holds more than this between two tasks is replaced."""


class LocalEngine:
    """An `Engine` of worker processes, as many at once as there are cores.

    A worker that ended a task in order takes the next one, so that heavy libraries are imported once; one that
    crashed, was killed, or grew large is replaced. Memory is limited by watching the process tree, ten times a
    second: a limit on address space would refuse what torch only reserves, and control groups are rarely ours.
    """

    def __init__(self, address: str = "", *, import_from: Sequence[str] = (), cores: int | None = None) -> None:
        if address and not address.isdecimal():
            raise UsageError(f"the local engine has no address {address!r}", hint="local, or local://2 for two cores")
        self._cores = cores or int(address or 0) or _usable_cores()
        self._import_from = [*import_from]
        self._waiting: deque[Task] = deque()
        self._idle: list[Child] = []
        self._busy: list[Child] = []
        self._selector = selectors.DefaultSelector()
        self._said: dict[tuple[int, int], _Progress] = {}
        self._guardian: subprocess.Popen[bytes] | None = None
        self._early: tempfile.TemporaryDirectory[str] | None = None
        self._looked = 0.0

    def submit(self, task: Task) -> None:
        """Take a task; see `Engine`."""
        self._waiting.append(task)

    def events(self) -> Iterator[Event]:
        """What happens, until every task ended; see `Engine`."""
        while self._waiting or self._busy:
            self._start_what_fits()
            for key, _ in self._selector.select(_LOOK_SECONDS):
                child = key.fileobj
                assert isinstance(child, Child)
                yield from self._hear(child)
            if time.monotonic() - self._looked >= _LOOK_SECONDS:
                yield from self._look()
                self._looked = time.monotonic()

    def cancel(self) -> None:
        """Stop everything at once; see `Engine`."""
        self._waiting.clear()
        for child in [*self._busy, *self._idle]:
            self._let_go(child)
            child.kill()
            self._guard("-", child.pid)

    def close(self) -> None:
        """Free what the engine holds; see `Engine`."""
        self.cancel()
        if self._guardian is not None and self._guardian.stdin is not None:
            with contextlib.suppress(OSError):
                self._guardian.stdin.close()
            self._guardian.wait()
            self._guardian = None
        if self._early is not None:
            self._early.cleanup()
            self._early = None

    def __enter__(self) -> LocalEngine:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _start_what_fits(self) -> None:
        while self._waiting:
            task = self._waiting[0]
            taken = sum(self._share(child.task) for child in self._busy if child.task is not None)
            if taken and taken + self._share(task) > self._cores:
                return
            child = self._idle.pop() if self._idle and not task.resources.is_fresh else self._new_child()
            self._waiting.popleft()
            self._busy.append(child)
            child.give(task)

    def _share(self, task: Task) -> int:
        wanted = task.resources.cores
        return self._cores if wanted <= 0 else min(wanted, self._cores)

    def _new_child(self) -> Child:
        if self._early is None:
            self._early = tempfile.TemporaryDirectory(prefix="regraft-", ignore_cleanup_errors=True)
        for child in self._idle[: len(self._idle) + len(self._busy) + 1 - self._cores]:
            self._end(child)
        child = Child(self._import_from, Path(self._early.name) / "worker.txt")
        self._guard("+", child.pid)
        self._selector.register(child, selectors.EVENT_READ)
        return child

    def _hear(self, child: Child) -> Iterator[Event]:
        for message in child.messages():
            task = child.task
            if task is None:
                continue
            if isinstance(message, Finished):
                yield self._finished(child, message)
                break
            yield from self._understood(child, task, message)
        if child.is_silent:
            yield from self._dead(child)

    def _understood(self, child: Child, task: Task, message: Message) -> Iterator[Event]:
        if isinstance(message, Began):
            child.began()
            yield Started(task)
        elif isinstance(message, Said):
            key = (child.pid, message.number)
            if message.what is not None:
                self._said[key] = _Progress(message.what, message.total, message.unit)
            if (progress := self._said.get(key)) is not None:
                progress.advance(message.amount)
                yield Progressed(task, progress.what, progress.done, progress.total, progress.unit)
                if message.is_finished:
                    self._said.pop(key).finish()

    def _finished(self, child: Child, message: Finished) -> Ended:
        task = child.task
        assert task is not None
        ended = child.ended(message)
        self._busy.remove(child)
        self._silence(child)
        is_sound = ended.ending in (Ending.DONE, Ending.REFUSED) and not task.resources.is_fresh
        if is_sound and child.idle_bytes() <= _MAX_IDLE_BYTES:
            self._idle.append(child)
        else:
            self._end(child)
        return ended

    def _dead(self, child: Child) -> Iterator[Event]:
        problem = child.cause_of_death()
        self._let_go(child)
        ended = child.end(Ending.CRASHED, problem)
        self._guard("-", child.pid)
        if ended is not None:
            yield ended

    def _look(self) -> Iterator[Event]:
        """Enforce limits, and notice who died while a child of its own holds its connection open."""
        for child in [*self._busy]:
            if not child.is_alive():
                yield from self._hear(child)
                if child in self._busy:
                    yield from self._dead(child)
            elif (problem := child.excess()) is not None:
                self._let_go(child)
                ending = Ending.OUT_OF_MEMORY if problem.code == "memory" else Ending.TIMED_OUT
                ended = child.end(ending, problem)
                self._guard("-", child.pid)
                if ended is not None:
                    yield ended

    def _end(self, child: Child) -> None:
        self._let_go(child)
        child.kill()
        self._guard("-", child.pid)

    def _let_go(self, child: Child) -> None:
        """Take a child off every list; its progress ends."""
        for group in (self._busy, self._idle):
            if child in group:
                group.remove(child)
        self._silence(child)
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(child)

    def _silence(self, child: Child) -> None:
        for key in [key for key in self._said if key[0] == child.pid]:
            self._said.pop(key).finish()

    def _guard(self, sign: str, pid: int) -> None:
        """Tell the guardian whom to kill should this process be killed itself."""
        if self._guardian is None:
            self._guardian = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_GUARDIAN)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        assert self._guardian.stdin is not None
        with contextlib.suppress(OSError):
            self._guardian.stdin.write(f"{sign}{pid}\n".encode())
            self._guardian.stdin.flush()


class _Progress:
    """One announced piece of work, told on to who listens here."""

    def __init__(self, what: str, total: int | None, unit: str) -> None:
        self.what = what
        self.total = total
        self.unit = unit
        self.done = 0
        self._listener: Listener | None = current_listener()
        self._number = self._listener.start(what, total, unit) if self._listener else 0

    def advance(self, amount: int) -> None:
        self.done += amount
        if self._listener is not None and amount:
            self._listener.advance(self._number, amount)

    def finish(self) -> None:
        if self._listener is not None:
            self._listener.finish(self._number)


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

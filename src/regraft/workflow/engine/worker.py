"""The process that tasks run in: reads one task a line, calls its function, and says how that ended."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import gc
import importlib
import os
import resource
import signal
import socket
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from regraft.errors import RegraftError
from regraft.progress import listening
from regraft.record.evidence import Evidence
from regraft.record.store import Store
from regraft.workflow.engine.interface import (
    Ending,
    EvidenceAt,
    Fields,
    Items,
    Made,
    PathAt,
    Plain,
    Problem,
    Task,
    TheStore,
    Usage,
    Value,
)

RESULT = "evidence.jsonl"
LOG = "log.txt"
_PR_SET_PDEATHSIG = 1
_GUARDIAN_SECONDS = 1.0
_OOM_SCORE = "500"
_QUIET_SECONDS = 0.1
_MAX_TEXT = 300


class Began(msgspec.Struct, frozen=True, tag="began"):
    """The task runs from now on."""


class Said(msgspec.Struct, frozen=True, tag="said"):
    """Progress: `amount` more of the number `number`; the first time with what it is."""

    number: int
    amount: int
    what: str | None = None
    total: int | None = None
    unit: str = ""
    is_finished: bool = False


class Finished(msgspec.Struct, frozen=True, tag="finished"):
    """The task is over; the evidence, if any, is in the task's folder."""

    ending: Ending
    usage: Usage
    problem: Problem | None = None


Message = Began | Said | Finished


class _Channel:
    """Sends messages to the parent, a line each; threads may send at once."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def send(self, message: Message) -> None:
        with self._lock:
            self._connection.sendall(msgspec.json.encode(message) + b"\n")


class _Relay:
    """A `regraft.progress.Listener` that tells the parent, not more often than a person can read."""

    def __init__(self, channel: _Channel) -> None:
        self._channel = channel
        self._lock = threading.Lock()
        self._pending: dict[int, tuple[int, float]] = {}
        self._last = 0

    def start(self, what: str, total: int | None, unit: str) -> int:
        with self._lock:
            self._last += 1
            self._pending[self._last] = (0, time.monotonic())
            self._channel.send(Said(self._last, 0, what[:_MAX_TEXT], total, unit[:_MAX_TEXT]))
            return self._last

    def advance(self, task: int, amount: int) -> None:
        with self._lock:
            waiting, told = self._pending.get(task, (0, 0.0))
            now = time.monotonic()
            if now - told < _QUIET_SECONDS:
                self._pending[task] = (waiting + amount, told)
            else:
                self._pending[task] = (0, now)
                self._channel.send(Said(task, waiting + amount))

    def finish(self, task: int) -> None:
        with self._lock:
            waiting, _ = self._pending.pop(task, (0, 0.0))
            self._channel.send(Said(task, waiting, is_finished=True))


def main(descriptor: int, parent: int) -> None:
    """Serve tasks until the parent closes the connection.

    Args:
        descriptor: of the connected socket.
        parent: process id of who started this; when it is gone, so is the worker.
    """
    _settle(parent)
    connection = socket.socket(fileno=descriptor)
    connection.set_inheritable(False)
    channel = _Channel(connection)
    decoder = msgspec.json.Decoder(Task)
    with connection, connection.makefile("rb") as lines:
        for line in lines:
            _perform(decoder.decode(line), channel)


def _settle(parent: int) -> None:
    """Die soon after the parent, before it when memory ends, and without leaving a core file."""
    signal.signal(signal.SIGTERM, _leave)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE, encoding="ascii")
    if os.getppid() != parent:
        os._exit(1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)  # the parent asks for it before it kills what hangs


def _leave(number: int, frame: object) -> None:
    """The parent is gone. The guardian finds our children through us, so it gets a moment."""
    time.sleep(_GUARDIAN_SECONDS)
    os._exit(128 + number)


def _perform(task: Task, channel: _Channel) -> None:
    folder = Path(task.folder)
    _redirect_output(folder / LOG)
    _reset_peak()
    before = _cpu_s()
    clock = time.perf_counter()
    channel.send(Began())
    problem = None
    try:
        with listening(_Relay(channel)):
            found = _call(task)
        (folder / RESULT).write_bytes(b"\n".join(evidence.to_json() for evidence in found))
        ending = Ending.DONE
    except BaseException as error:  # noqa: BLE001  the parent records it; the worker goes on
        ending, problem = _explained(error)
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    usage = Usage(time.perf_counter() - clock, _cpu_s() - before, _peak_bytes())
    gc.collect()
    channel.send(Finished(ending, usage, problem))


def _call(task: Task) -> list[Evidence]:
    function = _function(task.function)
    result = function(**{name: _received(value, task) for name, value in task.arguments.items()})
    returned = result if isinstance(result, list | tuple) else [result]
    found = [getattr(one, "evidence", one) for one in returned]
    evidence = [one for one in found if isinstance(one, Evidence)]
    if not evidence or len(evidence) < len(found):
        raise TypeError(f"{task.function} returned {type(result).__name__}, not evidence")
    return evidence


def _function(reference: str) -> Any:
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)


def _received(value: Value, task: Task) -> Any:
    """The Python object that a value stands for."""
    match value:
        case Plain():
            return value.value
        case PathAt():
            return Path(value.path)
        case TheStore():
            return Store(Path(task.store))
        case EvidenceAt():
            return Store(Path(task.store)).evidence(value.digest)
        case Items():
            return [_received(item, task) for item in value.items]
        case Fields():
            return {name: _received(item, task) for name, item in value.fields.items()}
        case Made():
            made = {name: _received(item, task) for name, item in value.arguments.items()}
            return _function(value.function)(**made)


def _explained(error: BaseException) -> tuple[Ending, Problem]:
    if isinstance(error, RegraftError):
        return Ending.REFUSED, Problem(error.code, error.what, error.where, error.hint)
    with contextlib.suppress(OSError, ValueError):
        traceback.print_exception(error)
    what = f"{type(error).__name__}: {error}"[:_MAX_TEXT]
    if isinstance(error, MemoryError):
        return Ending.OUT_OF_MEMORY, Problem("memory", f"an allocation was refused: {what}")
    return Ending.RAISED, Problem("internal", what)


def _redirect_output(path: Path) -> None:
    """Send stdout and stderr, also those of C libraries and children, to the end of a file."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)


def _cpu_s() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _reset_peak() -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _peak_bytes() -> int | None:
    """Most resident memory of this process since `_reset_peak`."""
    with contextlib.suppress(OSError, ValueError, IndexError), _status() as file:
        for line in file:
            if line.startswith(b"VmHWM:"):
                return int(line.split()[1]) << 10
    return None


def _status() -> BinaryIO:
    return Path("/proc/self/status").open("rb")

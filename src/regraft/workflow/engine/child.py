"""One worker process as its parent sees it: start it, give it a task, hear it, measure it, end it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from regraft.workflow.engine.interface import Ended, Ending, Problem, Task, Usage
from regraft.workflow.engine.patience import patient
from regraft.workflow.engine.process_tree import kill_descendants, kill_tree, proportional_memory, tree_usage
from regraft.workflow.engine.worker import LOG, RESULT, Finished, Message

_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[3]); "
    "from regraft.workflow.engine.worker import main; main(int(sys.argv[1]), int(sys.argv[2]))"
)
_MAX_LINE_BYTES = 1 << 20
_MAX_RESULT_BYTES = 256 << 20
_MAX_LOG_BYTES = 8 << 20
_KEPT_LOG_BYTES = 256 << 10
_BOOT_SECONDS = 120.0
_REAP_SECONDS = 10.0
_STACK_SECONDS = 0.2
_RECEIVED_BYTES = 1 << 16


class Child:
    """A worker process. It leads a session and a process group of its own: Ctrl-C on the terminal misses it."""

    def __init__(self, import_from: Sequence[str], early_log: Path) -> None:
        ours, theirs = socket.socketpair()
        path = [*sys.path, *(folder for folder in import_from if folder not in sys.path)]
        with theirs, early_log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _BOOT, str(theirs.fileno()), str(os.getpid()), json.dumps(path)],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=patient(os.environ),
                start_new_session=True,
            )
        self._connection = ours
        self._connection.setblocking(False)
        self._buffer = b""
        self._decoder = msgspec.json.Decoder(Message)
        self._early_log = early_log
        self.pid = self._process.pid
        self.task: Task | None = None
        self.is_silent = False
        self._began = 0.0
        self._is_begun = False
        self._cpu_before = 0.0
        self._cpu = 0.0
        self._peak_bytes = 0
        self._is_measured = False

    def fileno(self) -> int:
        """For a selector."""
        return self._connection.fileno()

    def give(self, task: Task) -> None:
        """Send a task to the idle worker. A worker that has died meanwhile shows it by its silence."""
        self.task = task
        self._cpu_before = self._cpu = usage.cpu_s if (usage := tree_usage(self.pid)) else 0.0
        self._peak_bytes, self._is_measured = 0, False
        self._began, self._is_begun = time.monotonic(), False
        self._connection.setblocking(True)
        with contextlib.suppress(OSError):
            self._connection.sendall(msgspec.json.encode(task) + b"\n")
        self._connection.setblocking(False)

    def began(self) -> None:
        """The time limit counts from now."""
        self._began, self._is_begun = time.monotonic(), True

    def messages(self) -> Iterator[Message]:
        """What the worker said since the last call; sets `is_silent` when it will say no more."""
        with contextlib.suppress(BlockingIOError):
            while not self.is_silent:
                try:
                    data = self._connection.recv(_RECEIVED_BYTES)
                except ConnectionError:
                    data = b""
                self.is_silent = not data
                *lines, self._buffer = (self._buffer + data).split(b"\n")
                for line in lines:
                    try:
                        yield self._decoder.decode(line)
                    except (msgspec.DecodeError, RecursionError):
                        self.is_silent = True  # a library of the task wrote to our socket: nothing it says counts
                if len(self._buffer) > _MAX_LINE_BYTES:
                    self.is_silent = True

    def is_alive(self) -> bool:
        """Whether the process still exists."""
        return self._process.poll() is None

    def excess(self) -> Problem | None:
        """Measure the task; which of its limits it is beyond, None while it keeps them."""
        assert self.task is not None
        limits = self.task.resources
        if (usage := tree_usage(self.pid)) is not None:
            self._is_measured = True
            self._cpu = max(self._cpu, usage.cpu_s)
            memory = usage.memory_bytes
            if limits.memory_bytes is not None and memory > limits.memory_bytes and usage.processes > 1:
                memory = proportional_memory(self.pid) or memory
            self._peak_bytes = max(self._peak_bytes, memory)
            if limits.memory_bytes is not None and memory > limits.memory_bytes:
                what = f"it used {memory / 1e6:,.0f} MB of memory, {limits.memory_bytes / 1e6:,.0f} MB are allowed"
                return Problem("memory", what)
        taken = time.monotonic() - self._began
        if limits.time_s is not None and self._is_begun and taken > limits.time_s:
            return Problem("time", f"it was not done after {limits.time_s:,.0f} s")
        if not self._is_begun and taken > _BOOT_SECONDS:
            return Problem("time", f"its process did not take it up within {_BOOT_SECONDS:,.0f} s")
        self._bound_log()
        return None

    def idle_bytes(self) -> int:
        """Resident memory of the worker between two tasks; what the last one left running is ended."""
        kill_descendants(self.pid)
        usage = tree_usage(self.pid)
        return usage.memory_bytes if usage else 0

    def ended(self, message: Finished) -> Ended:
        """The event for a task that came to its end by itself; the worker is idle then."""
        task, self.task = self.task, None
        assert task is not None
        peaks = [peak for peak in (message.usage.peak_memory_bytes, self._peak_bytes) if peak]
        usage = msgspec.structs.replace(message.usage, peak_memory_bytes=max(peaks, default=None))
        ending, problem = message.ending, message.problem
        evidence: tuple[bytes, ...] = ()
        if ending is Ending.DONE:
            evidence = tuple((_content(Path(task.folder) / RESULT) or b"").splitlines())
            if not evidence:
                ending, problem = Ending.RAISED, Problem("internal", "it left no evidence that can be read")
        return Ended(task, ending, usage, evidence, problem, self._log(task))

    def end(self, ending: Ending, problem: Problem) -> Ended | None:
        """Kill the worker with everything that it started; the event for its task, None when it had none."""
        wall = time.monotonic() - self._began
        if ending is Ending.TIMED_OUT and self.is_alive():
            with contextlib.suppress(OSError):
                os.kill(self.pid, signal.SIGUSR1)  # faulthandler writes into the log where it hangs
            time.sleep(_STACK_SECONDS)
        self.kill()
        task, self.task = self.task, None
        if task is None:
            return None
        usage = (
            Usage(wall, max(0.0, self._cpu - self._cpu_before), self._peak_bytes) if self._is_measured else Usage(wall)
        )
        return Ended(task, ending, usage, (), problem, self._log(task))

    def cause_of_death(self) -> Problem:
        """Why the process is gone, or silent."""
        try:
            status = self._process.wait(0.5)
        except subprocess.TimeoutExpired:
            return Problem("crash", "its process closed the connection")
        if status == -signal.SIGKILL:
            what = "its process was killed from outside, probably by the system for want of memory"
            return Problem("crash", what, hint="free memory, or name a limit in the plan: limits: {memory: 4 GB}")
        if status < 0:
            return Problem("crash", f"its process died of {_signal_name(-status)}", hint="its log says where")
        return Problem("crash", f"its process ended with exit status {status}", hint="its log says more")

    def kill(self) -> None:
        """End the process and everything that it started, at once."""
        if self.is_alive():
            kill_tree(self.pid)
        else:
            with contextlib.suppress(OSError):
                os.killpg(self.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_REAP_SECONDS)
        self._connection.close()

    def _log(self, task: Task) -> bytes:
        for path in (Path(task.folder) / LOG, self._early_log):
            if data := _tail(path):
                return data
        return b""

    def _bound_log(self) -> None:
        """Start a log anew that grows without end; the worker appends, so it goes on at the new end."""
        assert self.task is not None
        path = Path(self.task.folder) / LOG
        with contextlib.suppress(OSError):
            if path.stat().st_size > _MAX_LOG_BYTES:
                os.truncate(path, 0)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _content(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_RESULT_BYTES + 1)
    except OSError:
        return None
    return data if len(data) <= _MAX_RESULT_BYTES else None


def _tail(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _KEPT_LOG_BYTES))
            return file.read(_KEPT_LOG_BYTES)
    except OSError:
        return b""

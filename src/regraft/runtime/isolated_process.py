"""The process of an isolated model as its parent sees it: started, asked with a time limit, and how it ended."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeVar

import msgspec

from regraft.errors import Crashed, Damaged, LimitExceeded, RegraftError, Unsupported, error_of, harmless
from regraft.runtime.array_frames import MAX_ARRAY_BYTES, frame_parts, read_frame
from regraft.runtime.isolated_worker import (
    Answer,
    Build,
    Described,
    Done,
    Failed,
    Recipe,
    Request,
    Tapped,
    TellWeights,
    TraceRun,
)
from regraft.runtime.launch import started_by_lasting_thread
from regraft.runtime.worker_pipe import read_by, write_by

if TYPE_CHECKING:
    import threading

    from regraft.runtime.interface import Array
    from regraft.runtime.launch import Launch

_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from regraft.runtime.isolated_worker import main; main()"
)
_BOOT_ELSEWHERE = "import sys; sys.path.append(sys.argv[1]); from regraft.runtime.isolated_worker import main; main()"
"""In another environment its own packages come first, and of ours only Regraft is meant."""
_MAX_STARTS = 4
"""Processes of one model: the first, and one after each crash."""
_END_S = 5.0
_KEPT_LOG_BYTES = 2000
_PIPE_BYTES = 1 << 20
_TAP_BYTES = 1024
"""What a tap takes besides its array, at least."""

A = TypeVar("A", bound=Answer)


class WorkerProcess:
    """Starts the worker, asks it, and tells how it ended."""

    def __init__(self, recipe: Recipe, time_limit_s: float, where: str, launch: Launch | None) -> None:
        self.where = where
        self._launch = launch
        self._recipe = recipe
        self._time_limit_s = time_limit_s
        self._starts = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None
        self._is_over: threading.Event | None = None
        self._open_stream: _Stream | None = None
        self._is_closed = False
        self._decoder = msgspec.json.Decoder(Answer)
        self.described = self._started()

    @property
    def is_sandboxed(self) -> bool:
        """Was it started by a launch of its own?"""
        return self._launch is not None

    @property
    def pid(self) -> int | None:
        """Of the process; None while there is none."""
        return None if self._process is None else self._process.pid

    @property
    def limit_bytes(self) -> int:
        """The most that one answer, or the unread rest of a stream, may hold."""
        return MAX_ARRAY_BYTES if self._launch is None else min(self._launch.memory_bytes, MAX_ARRAY_BYTES)

    def ask(
        self, request: Request, arrays: Mapping[str, Array] | None = None, *, expect: type[A]
    ) -> tuple[A, dict[str, Array]]:
        """Send a request and wait for its answer.

        Args:
            request, arrays: what is sent.
            expect: kind of the answer.
        Raises:
            Crashed: the process died, hung or answered something else.
            RegraftError: what it says.
        """
        self._ready()
        self._send(request, arrays or {})
        answer, made = self._receive()
        return self._expected(answer, expect), made

    def stream(
        self, request: TraceRun | TellWeights, arrays: Mapping[str, Array]
    ) -> Iterator[tuple[Tapped, dict[str, Array]]]:
        """Taps as they come. A request in between first takes in what is left of them."""
        self._ready()
        self._send(request, arrays)
        stream = self._open_stream = _Stream(self)
        try:
            yield from stream
        finally:
            with contextlib.suppress(RegraftError):
                stream.drain(keep=False)

    def receive_tap(self) -> tuple[Tapped, dict[str, Array]] | None:
        """The next tap of an open stream; None at its end."""
        answer, arrays = self._receive()
        if isinstance(answer, Tapped) and "value" in arrays:
            return answer, arrays
        self._expected(answer, Done)
        return None

    def give_up(self, why: str) -> LimitExceeded:
        """End the process, which may be started again, because it says more than can be held."""
        self._end()
        return LimitExceeded(why, where=self.where, hint="take in the taps before the next pass, or ask for fewer")

    def stop(self) -> None:
        """End the process for good."""
        self._is_closed = True
        self._end()
        if self._launch is not None:
            self._launch.close()

    def __del__(self) -> None:
        if getattr(self, "_process", None) is not None:
            self._end()

    def _ready(self) -> None:
        if self._is_closed:
            raise Unsupported("the model is closed", where=self.where)
        if self._open_stream is not None:
            self._open_stream.drain(keep=True)
        if self._process is None:
            self._started()

    def _started(self) -> Described:
        if self._starts == _MAX_STARTS:
            raise Crashed(f"its process crashed {_MAX_STARTS} times and is not started again", where=self.where)
        self._starts += 1
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  closed by `_end`
        if self._launch is None:
            self._process = self._starting()()
        else:
            self._process, self._is_over = started_by_lasting_thread(self._starting())
        _widen(self._process.stdout)
        _widen(self._process.stdin)
        assert self._process.stdin is not None
        os.set_blocking(self._process.stdin.fileno(), False)
        import numpy as np

        content = np.frombuffer(self._recipe.content, dtype=np.uint8)
        try:
            self._send(Build(self._recipe.function, self._recipe.arguments), {"content": content})
            told, _ = self._receive()
        except RegraftError:
            self._end()
            raise
        return self._expected(told, Described)

    def _starting(self) -> Callable[[], subprocess.Popen[bytes]]:
        """What starts the process; it holds no reference to this object, which ends the process when it goes."""
        command, log, launch = self._command(), self._log, self._launch
        return lambda: subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
            bufsize=0,
            env=None if launch is None else dict(launch.environment()),
            cwd=None if launch is None else launch.folder,
        )

    def _command(self) -> list[str]:
        if self._launch is not None:
            return self._launch.command()
        environment = self._recipe.environment
        if not environment:
            return [sys.executable, "-c", _BOOT, json.dumps(sys.path)]
        from regraft.runtime.environments import environment_python

        python = environment_python(environment, where=self.where)
        return [str(python), "-c", _BOOT_ELSEWHERE, str(Path(__file__).parents[2])]

    def _send(self, request: Request, arrays: Mapping[str, Array]) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        parts = frame_parts(request, arrays, where=self.where)
        try:
            write_by(self._process.stdin.fileno(), parts, time.monotonic() + self._time_limit_s)
        except TimeoutError:
            raise self._hung("took in nothing") from None
        except OSError:
            raise self._death() from None

    def _receive(self) -> tuple[Answer, dict[str, Array]]:
        try:
            message, arrays = read_frame(self._read, limit_bytes=self.limit_bytes)
            answer: Answer = self._decoder.decode(message)
        except (Damaged, msgspec.DecodeError, RecursionError) as error:
            raise self._nonsense(str(error)) from error
        if isinstance(answer, Failed):
            what, where, hint = (harmless(text) for text in (answer.what, answer.where, answer.hint))
            raise error_of(answer.code, what, where=where or self.where, hint=hint)
        return answer, arrays

    def _expected(self, answer: Answer, kind: type[A]) -> A:
        if not isinstance(answer, kind):
            raise self._nonsense(f"{type(answer).__name__} where {kind.__name__} was asked for")
        return answer

    def _nonsense(self, what: str) -> Crashed:
        self._end()
        return Crashed(f"its process answered nonsense: {harmless(what)}", where=self.where)

    def _hung(self, what: str) -> Crashed:
        self._end()
        return Crashed(f"its process {what} for {self._time_limit_s:g} s and was ended", where=self.where)

    def _read(self, count: int) -> bytearray:
        assert self._process is not None
        assert self._process.stdout is not None
        try:
            return read_by(self._process.stdout.fileno(), count, time.monotonic() + self._time_limit_s)
        except TimeoutError:
            raise self._hung("said nothing") from None
        except EOFError:
            raise self._death() from None

    def _death(self) -> Crashed:
        """How the process died, and its last words."""
        assert self._process is not None
        assert self._log is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_S)
        code = self._process.poll()
        self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, self._log.tell() - _KEPT_LOG_BYTES))
        said = self._log.read().decode(errors="replace").strip().splitlines()
        self._end()
        words = f"; its last words: {harmless(said[-1][:300])}" if said else ""
        if code is not None and code < 0:
            name = _signal_name(-code)
            hint = "it was killed: often because memory had run out" if name == "SIGKILL" else ""
            return Crashed(f"its process crashed: {name}{words}", where=self.where, hint=hint)
        return Crashed(f"its process ended with status {code}{words}", where=self.where)

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_END_S)
            for file in (process.stdin, process.stdout, self._log):
                if file is not None:
                    with contextlib.suppress(OSError):
                        file.close()
        if self._is_over is not None:
            self._is_over.set()

    def forget_stream(self, stream: _Stream) -> None:
        """The stream has ended; requests need not wait for it."""
        if self._open_stream is stream:
            self._open_stream = None


class _Stream:
    """Taps of one pass, read when they are consumed, or before another request is sent."""

    def __init__(self, process: WorkerProcess) -> None:
        self._process = process
        self._waiting: deque[tuple[Tapped, dict[str, Array]]] = deque()
        self._error: RegraftError | None = None
        self._is_over = False

    def __iter__(self) -> Iterator[tuple[Tapped, dict[str, Array]]]:
        while True:
            if not self._waiting and not self._is_over:
                self._take()
            if self._waiting:
                yield self._waiting.popleft()
            elif self._error is not None:
                raise self._error
            else:
                return

    def drain(self, *, keep: bool) -> None:
        """Read what is left, into memory when it is still wanted; not more than the process's bound."""
        size, limit = 0, self._process.limit_bytes
        while not self._is_over:
            before = len(self._waiting)
            self._take()
            if len(self._waiting) > before:
                size += _TAP_BYTES + sum(array.nbytes for array in self._waiting[-1][1].values())
            if size > limit:
                self._stop(self._process.give_up(f"its taps take more than {limit} bytes"))
            if not keep:
                self._waiting.clear()

    def _take(self) -> None:
        try:
            found = self._process.receive_tap()
        except RegraftError as error:
            self._stop(error)
            return
        if found is None:
            self._stop(None)
        else:
            self._waiting.append(found)

    def _stop(self, error: RegraftError | None) -> None:
        self._error, self._is_over = error, True
        self._process.forget_stream(self)


def _signal_name(number: int) -> str:
    with contextlib.suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"


def _widen(pipe: IO[bytes] | None) -> None:
    """Fewer switches between the processes for large arrays; only Linux can."""
    with contextlib.suppress(ImportError, AttributeError, OSError):
        import fcntl

        assert pipe is not None
        fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

"""The process of an isolated model as its parent sees it: started, asked with a time limit, and how it ended."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING

import msgspec

from regraft.errors import Crashed, Damaged, RegraftError, Unsupported, error_of
from regraft.runtime.array_frames import frame_parts, read_frame
from regraft.runtime.isolated_worker import (
    Answer,
    Build,
    Described,
    Failed,
    Recipe,
    Request,
    Tapped,
    TellWeights,
    TraceRun,
)

if TYPE_CHECKING:
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
        self._open_stream: _Stream | None = None
        self._is_closed = False
        self._decoder = msgspec.json.Decoder(Answer)
        self.described = self._started()

    @property
    def is_sandboxed(self) -> bool:
        """Was it started by a launch of its own?"""
        return self._launch is not None

    @property
    def is_running(self) -> bool:
        """Is there a process now?"""
        return self._process is not None

    def ask(self, request: Request, arrays: Mapping[str, Array] | None = None) -> tuple[Answer, dict[str, Array]]:
        """Send a request and wait for its answer.

        Raises:
            Crashed: the process died or hung.
            RegraftError: what it says.
        """
        self._ready()
        self._send(request, arrays or {})
        return self._receive()

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
        return (answer, arrays) if isinstance(answer, Tapped) and "value" in arrays else None

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
        self._process = subprocess.Popen(
            self._command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,
            bufsize=0,
            env=None if self._launch is None else dict(self._launch.environment()),
            cwd=None if self._launch is None else self._launch.folder,
        )
        _widen(self._process.stdout)
        _widen(self._process.stdin)
        import numpy as np

        content = np.frombuffer(self._recipe.content, dtype=np.uint8)
        try:
            self._send(Build(self._recipe.function, self._recipe.arguments), {"content": content})
            told, _ = self._receive()
        except RegraftError:
            self._end()
            raise
        assert isinstance(told, Described)
        return told

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
        try:
            for part in frame_parts(request, arrays, where=self.where):
                view = memoryview(part)
                while view:
                    view = view[self._process.stdin.write(view) :]
        except OSError:
            raise self._death() from None

    def _receive(self) -> tuple[Answer, dict[str, Array]]:
        try:
            message, arrays = read_frame(self._read)
            answer: Answer = self._decoder.decode(message)
        except (Damaged, msgspec.DecodeError) as error:
            self._end()
            raise Crashed(f"its process answered nonsense: {error}", where=self.where) from error
        if isinstance(answer, Failed):
            raise error_of(answer.code, answer.what, where=answer.where or self.where, hint=answer.hint)
        return answer, arrays

    def _read(self, count: int) -> bytearray:
        assert self._process is not None
        assert self._process.stdout is not None
        if self._launch is not None and count > self._launch.memory_bytes:
            raise Damaged(f"{count} bytes, more than it can hold")
        data = bytearray(count)
        view, file = memoryview(data), self._process.stdout
        deadline = time.monotonic() + self._time_limit_s
        with selectors.DefaultSelector() as selector:
            selector.register(file, selectors.EVENT_READ)
            while view:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    self._end()
                    limit = f"{self._time_limit_s:g} s"
                    raise Crashed(f"its process said nothing for {limit} and was ended", where=self.where)
                got = file.readinto(view)  # type: ignore[attr-defined]  # unbuffered: a raw file
                if not got:
                    raise self._death()
                view = view[got:]
        return data

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
        words = f"; its last words: {said[-1][:300]}" if said else ""
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
        """Read what is left, into memory when it is still wanted."""
        while not self._is_over:
            self._take()
            if not keep:
                self._waiting.clear()

    def _take(self) -> None:
        try:
            found = self._process.receive_tap()
        except RegraftError as error:
            found, self._error = None, error
        if found is None:
            self._is_over = True
            self._process.forget_stream(self)
        else:
            self._waiting.append(found)


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

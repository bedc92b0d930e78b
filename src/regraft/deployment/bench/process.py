"""A worker process of a benchmark as its parent sees it: asked with a time limit, ended whatever it does."""

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
from typing import IO

import msgspec

from regraft.deployment.bench.messages import Answer, Failed, Request
from regraft.errors import Unsupported

_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from regraft.deployment.bench.worker import main; main()"
)
_MAX_LINE_BYTES = 64 << 20
_END_S = 5.0
_KEPT_LOG_BYTES = 2000


class BenchProcess:
    """Starts a worker; use as a context manager, or `stop` it. It leads a process group of its own."""

    def __init__(self) -> None:
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  closed by `stop`
        self._process = subprocess.Popen(
            [sys.executable, "-c", _BOOT, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,
        )
        self._buffer = b""
        self._is_stopped = False
        self._decoder = msgspec.json.Decoder(Answer)

    def ask(self, request: Request, *, timeout_s: float) -> Answer:
        """Send a request and wait for its answer.

        Raises:
            Unsupported: the worker crashed, hung, or said that it cannot; with what it said.
        """
        if self._is_stopped:
            raise Unsupported("the process was ended")
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(msgspec.json.encode(request) + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise self._ended() from None
        line = self._line(time.monotonic() + timeout_s)
        if line is None:
            self.stop()
            raise Unsupported(f"the process did not answer within {timeout_s:g} s and was ended")
        try:
            answer: Answer = self._decoder.decode(line)
        except msgspec.DecodeError as error:
            self.stop()
            raise Unsupported(f"the process answered nonsense: {error}") from error
        if isinstance(answer, Failed):
            raise Unsupported(answer.what, hint=answer.hint)
        return answer

    @property
    def is_usable(self) -> bool:
        """Whether it can still be asked."""
        return not self._is_stopped

    def stop(self) -> None:
        """End the worker and everything that it started."""
        if self._is_stopped:
            return
        self._is_stopped = True
        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_S)
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._log.close()

    def __enter__(self) -> BenchProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _line(self, deadline: float) -> bytes | None:
        """The next line; None when the time is over.

        Raises:
            Unsupported: the process ended.
        """
        assert self._process.stdout is not None
        file = self._process.stdout.fileno()
        with selectors.DefaultSelector() as selector:
            selector.register(file, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    return None
                data = os.read(file, 1 << 16)
                if not data or len(self._buffer) > _MAX_LINE_BYTES:
                    raise self._ended()
                self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _ended(self) -> Unsupported:
        """What a crash is told as: signal or status, and the last words. The worker is of no use any more."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_S)
        code = self._process.poll()
        self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, self._log.tell() - _KEPT_LOG_BYTES))
        said = self._log.read().decode(errors="replace").strip().splitlines()
        self.stop()
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):
                return Unsupported(f"the process crashed: {signal.Signals(-code).name}{_last(said)}")
        return Unsupported(f"the process ended with status {code}{_last(said)}")


def _last(said: list[str]) -> str:
    return f"; its last words: {said[-1][:300]}" if said else ""

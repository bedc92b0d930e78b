"""A candidate at work in a process of its own: what crashes or hangs there is recorded, and the others go on."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import msgspec

from regraft.adaptation.extraction import Advanced, Extracted, ExtractionTask
from regraft.errors import MissingExtra, RegraftError
from regraft.progress import progress

_TAIL_BYTES = 4000
_POLL_S = 0.5
_PATIENT = {"OMP_WAIT_POLICY": "PASSIVE"}
"""Threads that wait for each other sleep. On two busy cores those that spin made torch five times slower."""


class CandidateFailed(RegraftError):
    """A candidate's process crashed or hung; the others go on."""

    code = "candidate"


def run_candidate(task: ExtractionTask, *, time_limit_s: float, label: str, total: int) -> Extracted:
    """Run the task in a process group of its own, which ends at the time limit, and when this function ends.

    Args:
        label: what a progress bar says.
        total: rows that it will count.
    Raises:
        CandidateFailed: it crashed, or took longer than the time limit.
        RegraftError: what the process reports.
    """
    with tempfile.TemporaryFile() as errors, progress(label, total=total, unit="rows") as advance:
        process = subprocess.Popen(
            [sys.executable, "-m", "regraft.adaptation.extraction"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
            env={**_PATIENT, **os.environ, "TOKENIZERS_PARALLELISM": "true", "PYTHONPATH": _python_path()},
        )
        assert process.stdin is not None
        assert process.stdout is not None
        outcome: Extracted | None = None
        try:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(msgspec.json.encode(task))
                process.stdin.close()
            for line in _lines(process.stdout, time_limit_s):
                if isinstance(line, Advanced):
                    advance(line.advance)
                else:
                    outcome = line
            process.wait(timeout=_POLL_S * 20)
        except subprocess.TimeoutExpired:
            pass
        finally:
            _end(process)
        if outcome is None:
            raise CandidateFailed(_death(process.returncode, errors), where=task.ref, hint="run it alone to see more")
    if outcome.error:
        kinds = {kind.code: kind for kind in RegraftError.__subclasses__()}
        kind = kinds.get(outcome.error, CandidateFailed)
        if kind is MissingExtra:
            kind = CandidateFailed
        raise kind(outcome.what, where=task.ref, hint=outcome.hint)
    return outcome


def _python_path() -> str:
    own = str(Path(__file__).parent.parent.parent)
    return os.pathsep.join(filter(None, (own, os.environ.get("PYTHONPATH", ""))))


def _lines(stream: IO[bytes], limit_s: float) -> Iterator[Advanced | Extracted]:
    """Lines as they come, until the stream ends.

    Raises:
        CandidateFailed: the time is over.
    """
    ends, buffer = time.monotonic() + limit_s, b""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while True:
            if time.monotonic() > ends:
                raise CandidateFailed(f"it did not finish within {limit_s:g} s", hint="allow it more time, or drop it")
            if not selector.select(_POLL_S):
                continue
            piece = os.read(stream.fileno(), 65536)
            if not piece:
                return
            *whole, buffer = (buffer + piece).split(b"\n")
            for line in whole:
                yield _message(line)


def _message(line: bytes) -> Advanced | Extracted:
    try:
        return msgspec.json.decode(line, type=Advanced)
    except msgspec.ValidationError:
        return msgspec.json.decode(line, type=Extracted)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process and what it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()


def _death(status: int, errors: IO[bytes]) -> str:
    errors.seek(0, os.SEEK_END)
    errors.seek(max(0, errors.tell() - _TAIL_BYTES))
    lines = errors.read().decode("utf-8", "replace").strip().splitlines()
    last = f": {lines[-1].strip()[:300]}" if lines else ""
    if status < 0:
        return f"its process was ended by {signal.Signals(-status).name}{last}"
    return f"its process ended with status {status} and no result{last}"

"""Pipes to a process that may hang, lie or die: nothing waits longer than a deadline or holds more than has come."""

from __future__ import annotations

import os
import selectors
import time
from collections.abc import Iterable

_FIRST_BYTES = 1 << 20


def write_by(descriptor: int, parts: Iterable[bytes | memoryview], deadline: float) -> None:
    """Write everything to a pipe that does not block.

    Args:
        descriptor: its end, set to not block.
        parts: one after the other.
        deadline: of `time.monotonic`.
    Raises:
        TimeoutError: nobody read it until then.
        BrokenPipeError: the other end is closed.
    """
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_WRITE)
        for part in parts:
            view = memoryview(part)
            while view:
                _wait(selector, deadline)
                view = view[os.write(descriptor, view) :]


def read_by(descriptor: int, count: int, deadline: float) -> bytearray:
    """Exactly so many bytes, in memory that grows as they come: who announces gigabytes must send them.

    Args:
        descriptor: of a pipe.
        count: bytes.
        deadline: of `time.monotonic`.
    Raises:
        TimeoutError: they did not come until then.
        EOFError: the other end was closed before.
    """
    data, have = bytearray(min(count, _FIRST_BYTES)), 0
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while have < count:
            if have == len(data):
                data += bytes(min(count - have, have))
            _wait(selector, deadline)
            with memoryview(data) as view:
                got = os.readv(descriptor, [view[have:]])
            if not got:
                raise EOFError
            have += got
    return data


def _wait(selector: selectors.BaseSelector, deadline: float) -> None:
    left = deadline - time.monotonic()
    if left <= 0 or not selector.select(left):
        raise TimeoutError

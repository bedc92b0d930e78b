"""Another way to start a worker than as a process like this one: a sandbox; and whether this process is in one."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

_GET_SECCOMP, _FILTER_MODE = 21, 2


class Launch(Protocol):
    """How a process is started that answers as `isolated_worker.main` does.

    Attributes:
        folder: where it starts.
    """

    folder: Path

    @property
    def memory_bytes(self) -> int:
        """The most that it can hold; an answer that is said to be larger is a lie."""

    def command(self) -> list[str]:
        """Program and arguments."""

    def environment(self) -> Mapping[str, str]:
        """All of its environment."""

    def close(self) -> None:
        """The model is closed: nothing will be started any more."""


def is_confined() -> bool:
    """Does a seccomp filter hold for this process? It is the last part of a sandbox that is put into force."""
    if sys.platform != "linux":
        return False
    return bool(ctypes.CDLL(None).prctl(_GET_SECCOMP, 0, 0, 0, 0) == _FILTER_MODE)

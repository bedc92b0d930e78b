"""Another way to start a worker than as a process like this one: a sandbox."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol


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

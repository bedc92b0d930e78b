"""Another way to start a worker than as a process like this one: a sandbox; and whether this process is in one."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

_is_confined = False


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
    """Has this process confined itself? A filter of somebody else's, as of a container, is no sandbox."""
    return _is_confined


def note_confinement() -> None:
    """This process has entered the sandbox, all of it; called by what confines it, last, and never taken back."""
    global _is_confined  # noqa: PLW0603  a state of the process, as the kernel's own
    _is_confined = True


def started_by_lasting_thread(
    start: Callable[[], subprocess.Popen[bytes]],
) -> tuple[subprocess.Popen[bytes], threading.Event]:
    """Start a process from a thread that stays until the event is set.

    Linux takes the thread that started a process for its parent: a process that asked to end with its parent
    (PR_SET_PDEATHSIG) would else end with a caller's thread, long before its program.

    Returns:
        the process, and the event that lets the thread go.
    Raises:
        Exception: what `start` raises.
    """
    done, is_over = threading.Event(), threading.Event()
    found: list[subprocess.Popen[bytes]] = []
    errors: list[BaseException] = []

    def stay() -> None:
        try:
            found.append(start())
        except BaseException as error:  # noqa: BLE001  raised again in the caller's thread
            errors.append(error)
        done.set()
        if found:
            is_over.wait()

    threading.Thread(target=stay, name="regraft-worker", daemon=True).start()
    done.wait()
    if errors:
        raise errors[0]
    return found[0], is_over

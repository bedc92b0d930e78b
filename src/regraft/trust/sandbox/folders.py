"""Folders of sandboxes: locked by who made them, so that those of a program that was killed are known and removed."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
import time
from pathlib import Path

_PREFIX = "regraft-sandbox-"
_LOCK = "lock"
_UNLOCKED_S = 86_400.0
"""A folder without a lock is in the making; after a day nobody makes it any more."""


def made_folder() -> tuple[Path, int]:
    """A new folder and the descriptor whose lock says that it is in use, for `remove_folder`."""
    import fcntl

    folder = Path(tempfile.mkdtemp(prefix=_PREFIX)).resolve()
    lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return folder, lock


def remove_folder(folder: Path, lock: int) -> None:
    """Remove a folder and let its lock go."""
    shutil.rmtree(folder, ignore_errors=True)
    os.close(lock)


def remove_stale() -> list[Path]:
    """Remove the folders of this user's programs that have ended without removing them.

    Returns:
        those that were removed.
    """
    found = [path for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*") if _is_stale(path)]
    for path in found:
        shutil.rmtree(path, ignore_errors=True)
    return found


def _is_stale(folder: Path) -> bool:
    import fcntl

    with contextlib.suppress(OSError):  # it was removed meanwhile, or is in use
        about = folder.lstat()
        if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid():
            return False
        try:
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
        except FileNotFoundError:
            return time.time() - about.st_mtime > _UNLOCKED_S
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(lock)
        return True
    return False

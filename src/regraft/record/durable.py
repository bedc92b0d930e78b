"""Files that appear whole or not at all, and are on the disk once the call returns."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

from regraft.errors import StoreError

_TEMPORARY = ".tmp-"
_IDLE_SECONDS = 24 * 3600


def is_temporary(name: str) -> bool:
    """Whether a file name is that of an unfinished file."""
    return name.startswith(_TEMPORARY)


@contextlib.contextmanager
def temporary_file(folder: Path) -> Iterator[tuple[int, Path]]:
    """A new file with a name of its own, removed at the end unless it was renamed."""
    path = folder / f"{_TEMPORARY}{os.getpid()}-{secrets.token_hex(8)}"
    with told(folder):
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        yield file, path
    finally:
        os.close(file)
        with contextlib.suppress(OSError):
            path.unlink()


def settle(file: int, temporary: Path, path: Path) -> None:
    """Make a temporary file read-only and durable, and give it its name in the same file system."""
    with told(path):
        os.fchmod(file, os.fstat(file).st_mode & 0o444)  # what the umask withheld stays withheld
        os.fsync(file)
        temporary.rename(path)
    sync_folder(path.parent)


def publish(path: Path, data: bytes) -> None:
    """Write a small file; what stood there before is replaced."""
    with temporary_file(path.parent) as (file, temporary):
        write(file, data, path)
        settle(file, temporary, path)


def write(file: int, data: bytes | memoryview, where: Path) -> None:
    """Write all of the bytes."""
    view = memoryview(data).cast("B")
    with told(where):
        while len(view):
            view = view[os.write(file, view) :]


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    with told(folder):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sweep_folder(folder: Path) -> int:
    """Remove what a killed writer left in a folder. Best effort: a failure here harms nothing."""
    removed = 0
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(_TEMPORARY):
                with contextlib.suppress(OSError):
                    if time.time() - entry.stat(follow_symlinks=False).st_mtime > _IDLE_SECONDS:
                        Path(entry.path).unlink()
                        removed += 1
    return removed


_REFUSALS = {
    errno.EROFS: ("the store is on a read-only file system", "name a writable one with --store DIR or REGRAFT_STORE"),
    errno.ENOSPC: ("no space is left for the store", "free space, or name another directory with --store DIR"),
    errno.EDQUOT: ("the quota for the store is used up", "free space, or name another directory with --store DIR"),
    errno.EFBIG: ("the store's file system takes no file of this size", "name another directory with --store DIR"),
    errno.EACCES: ("the store may not be accessed", "check its owner and mode, or name another with --store DIR"),
    errno.EPERM: ("the store may not be changed", "check its owner and mode, or name another with --store DIR"),
    errno.ENOTDIR: ("a file stands where the store's directory should be", "name a directory with --store DIR"),
    errno.EEXIST: ("a file stands where the store's directory should be", "name a directory with --store DIR"),
}


@contextlib.contextmanager
def told(where: Path) -> Iterator[None]:
    """Turn what the operating system refuses into a StoreError."""
    try:
        yield
    except OSError as error:
        fallback = (f"the operating system refused: {error.strerror}", "regraft doctor checks the store")
        what, hint = _REFUSALS.get(error.errno or 0, fallback)
        raise StoreError(what, where=str(where), hint=hint) from error

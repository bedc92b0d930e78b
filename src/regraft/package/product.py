"""A package in the making: a folder that appears whole, under its name, or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from regraft.errors import AccessDenied, UsageError


@contextmanager
def new_package(target: Path) -> Iterator[Path]:
    """Yield an empty folder to write into; when the block ends without an error it becomes `target`.

    The folder lies beside `target`, so that the last step is one rename. After an error, an interrupt or a
    full disk nothing of it is left.

    Args:
        target: path of the package to make; it must not exist, or be an empty folder.
    Raises:
        UsageError: `target` exists and is not an empty folder, or its parent does not exist.
        AccessDenied: it cannot be written, or the disk is full.
    """
    require_free(target)
    try:
        folder = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    except OSError as error:
        raise _refused(error, target) from error
    try:
        yield folder
        _sync(folder)
        folder.chmod(0o755)
        folder.replace(target)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise _refused(error, target) from error
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def require_free(target: Path) -> None:
    """See that a package can be made there: better known before minutes of work.

    Raises:
        UsageError: it exists and is not an empty folder, or its parent does not exist.
    """
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise UsageError("something is there already", where=str(target), hint="choose another place with -o PATH")
    if not target.parent.is_dir():
        raise UsageError("the folder to write to does not exist", where=str(target), hint=f"mkdir -p {target.parent}")


def move_package(folder: Path, target: Path) -> None:
    """Bring a folder that lies on the same disk to its place, whole or not at all; what is left of it is empty.

    Raises:
        UsageError, AccessDenied: as `new_package`.
    """
    with new_package(target) as made:
        for path in folder.iterdir():
            path.rename(made / path.name)


def _sync(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _refused(error: OSError, target: Path) -> AccessDenied:
    return AccessDenied(
        f"the package cannot be written: {error.strerror or error}",
        where=str(target),
        hint="make room, or choose another place with -o PATH",
    )

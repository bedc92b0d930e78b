"""Packages that steps make, below the store: each in a folder named by the key of its step, trusted by its digest."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from regraft.errors import RegraftError
from regraft.package.package import open_package
from regraft.record.digest import Digest
from regraft.record.durable import told
from regraft.record.evidence import Evidence
from regraft.record.store import Store

_PRODUCTS = "products"
_WORK = "work"
_IDLE_SECONDS = 24 * 3600


def find_product(store: Store, key: Digest, name: str, evidence: Evidence) -> Path | None:
    """Where the package that a step made lies, None when it is not there any more or not the one of the evidence."""
    path = store.root / _PRODUCTS / key / name
    return path if is_subject(path, evidence) else None


def is_subject(path: Path, evidence: Evidence) -> bool:
    """Whether the files at a path are the package that evidence is about; every byte is hashed."""
    if not evidence.subject or not path.exists():
        return False
    try:
        with open_package(path) as package:
            return package.manifest().digest == evidence.subject[0].sha256
    except RegraftError:
        return False


def keep_product(store: Store, key: Digest, made: Path, evidence: Evidence) -> Path:
    """Give what a step made its place. The same package may lie there already, and in use; another is replaced.

    Args:
        made: file or folder, in a working folder of the same store.
        evidence: whose first subject it is.
    """
    folder = store.folder(_PRODUCTS) / key
    path = folder / made.name
    if is_subject(path, evidence):
        return path
    with told(folder):
        folder.mkdir(exist_ok=True)
        if path.exists():
            _remove(path)
        made.rename(path)
    return path


@contextlib.contextmanager
def working_folder(store: Store) -> Iterator[Path]:
    """A folder for the steps of one run, removed at its end. Those that killed runs left are removed a day later."""
    area = store.folder(_WORK)
    _sweep(area)
    path = area / f"{os.getpid()}-{secrets.token_hex(8)}"
    with told(path):
        path.mkdir()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _sweep(area: Path) -> None:
    with contextlib.suppress(OSError):
        for path in area.iterdir():
            if time.time() - path.stat().st_mtime > _IDLE_SECONDS and not _is_running(path.name):
                shutil.rmtree(path, ignore_errors=True)


def _is_running(name: str) -> bool:
    """Whether the process that a working folder is named by still exists."""
    pid = name.partition("-")[0]
    try:
        os.kill(int(pid), 0)
    except PermissionError:
        return True
    except (OSError, ValueError, OverflowError):
        return False
    return True


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()

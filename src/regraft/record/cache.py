"""A bounded folder of things that can be made again: found by key, the least recently used are dropped first."""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from regraft.errors import StoreError
from regraft.record.durable import is_temporary, sweep_folder, temporary_file, write

LIMIT_BYTES = 2 << 30
"""What all entries together may take, unless REGRAFT_CACHE_MB says otherwise."""
_MAGIC = b"regraft1"
_HEADER_BYTES = len(_MAGIC) + 12
_CHUNK_BYTES = 1 << 20
_LARGEST_SHARE = 0.5
"""One entry may not push out more than this share of the others."""


def open_cache(name: str) -> Cache | None:
    """The cache of that name, in REGRAFT_CACHE or the platform's cache directory; None where it is switched off.

    Args:
        name: of the folder, as `floors`.
    """
    limit = LIMIT_BYTES
    stated = os.environ.get("REGRAFT_CACHE_MB", "")
    if stated.isdecimal():
        limit = int(stated) << 20
    if not limit:
        return None
    named = os.environ.get("REGRAFT_CACHE")
    if named:
        return Cache(Path(named).expanduser() / name, limit_bytes=limit)
    import platformdirs

    return Cache(Path(platformdirs.user_cache_dir("regraft", appauthor=False)) / name, limit_bytes=limit)


class Cache:
    """Entries are files. One that is damaged, or that cannot be read or written, is as good as none.

    Args:
        folder: of the entries; made when the first is written.
        limit_bytes: what they may take together.
    """

    def __init__(self, folder: Path, *, limit_bytes: int = LIMIT_BYTES) -> None:
        self.folder = folder
        self.limit_bytes = limit_bytes

    def get(self, key: str) -> BinaryIO | None:
        """An entry, open at the start of its content; None where there is none, or it is not what was written.

        Args:
            key: a name that is fit for a file.
        """
        path = self.folder / key
        file = None
        try:
            file = path.open("rb")
            size = os.fstat(file.fileno()).st_size - _HEADER_BYTES
            if file.read(_HEADER_BYTES) == _header(max(0, size), _checksum(file)):
                os.utime(path)
                file.seek(_HEADER_BYTES)
                return file
        except OSError:
            pass  # as good as none
        if file is not None:
            file.close()
        return None

    def put(self, key: str, parts: Iterable[bytes | memoryview]) -> bool:
        """Write an entry, which appears whole or not at all; False where it is too large or cannot be written."""
        pieces: list[memoryview] = [memoryview(part).cast("B") for part in parts]
        size = sum(map(len, pieces))
        if size + _HEADER_BYTES > self.limit_bytes * _LARGEST_SHARE:
            return False
        checksum = 0
        for piece in pieces:
            checksum = zlib.crc32(piece, checksum)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._make_room(size + _HEADER_BYTES)
            with temporary_file(self.folder) as (file, temporary):
                write(file, _header(size, checksum), temporary)
                for piece in pieces:
                    write(file, piece, temporary)
                temporary.rename(self.folder / key)
        except (OSError, StoreError):  # no space, or a folder that is read-only: there is no entry then
            return False
        return True

    def _make_room(self, size: int) -> None:
        sweep_folder(self.folder)
        entries = []
        with os.scandir(self.folder) as found:
            for entry in found:
                if not is_temporary(entry.name):
                    with contextlib.suppress(OSError):
                        status = entry.stat(follow_symlinks=False)
                        entries.append((status.st_mtime, status.st_size, entry.path))
        taken = sum(length for _, length, _ in entries)
        for _, length, path in sorted(entries):
            if taken + size <= self.limit_bytes:
                return
            with contextlib.suppress(OSError):
                Path(path).unlink()
                taken -= length


def _header(size: int, checksum: int) -> bytes:
    return _MAGIC + size.to_bytes(8, "little") + checksum.to_bytes(4, "little")


def _checksum(file: BinaryIO) -> int:
    found = 0
    while chunk := file.read(_CHUNK_BYTES):
        found = zlib.crc32(chunk, found)
    return found


__all__ = ["Cache", "open_cache"]

"""Arrays that lie in a file without a name: they are resident only while somebody reads them."""

from __future__ import annotations

import contextlib
import mmap
import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft.errors import LimitExceeded

if TYPE_CHECKING:
    from regraft.runtime.interface import Array

KEPT_BYTES = 256 << 20
"""Pages of files that may stay resident, unless a bound says less."""
_SMALL = 1 << 14
"""Smaller arrays stay in memory: a map is of whole pages."""
_CHUNK = 1 << 24
_DROP_SECONDS = 0.01
_SHARE_OF_FILES = 8
"""One in so many bytes of a bound is for pages of mapped files."""
_ROOM = 1.25
"""By how much more than is resident a bound is proposed: results of the operators to come are not known."""


class Spill:
    """Moves arrays to a temporary file and hands out read-only views of it.

    What was read stays resident until `release`; nothing is lost by it. The file has no name, so that nobody else can
    change it, and it goes when the last view does.

    Args:
        kept_bytes: what `breathe` lets stay resident.
        limit_bytes: that this process may hold, libraries included; None for no bound.
        folder: on a disk; None for the platform's folder for temporary files.
        is_named: the file has a name in a folder that only this user can open, until `forget_name`: for libraries
            that read files.
    """

    def __init__(
        self,
        *,
        kept_bytes: int = KEPT_BYTES,
        limit_bytes: int | None = None,
        folder: Path | None = None,
        is_named: bool = False,
    ) -> None:
        self.limit_bytes = limit_bytes
        self.kept_bytes = kept_bytes if limit_bytes is None else min(kept_bytes, limit_bytes // _SHARE_OF_FILES)
        self.path: Path | None = None
        self._file: Any
        if is_named:
            own = tempfile.mkdtemp(prefix="regraft-", dir=folder)
            self.path = Path(own, "arrays")
            self._forget = weakref.finalize(self, shutil.rmtree, own, ignore_errors=True)
            self._file = self.path.open("w+b", buffering=0)
        else:
            self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115  open as long as this is
        self._end = 0
        self._maps: list[mmap.mmap] = []

    def put(self, value: Array) -> Array:
        """A view of the same numbers in the file; small arrays, and those that are no plain numbers, as they are."""
        import numpy as np

        if value.dtype.hasobject or value.nbytes < _SMALL:
            return value
        content = np.ascontiguousarray(value).reshape(-1).view(np.uint8).data
        view = np.frombuffer(self.put_bytes(content), dtype=value.dtype)
        return view.reshape(value.shape)

    def put_bytes(self, content: memoryview) -> memoryview:
        """A view of the same bytes in the file.

        Raises:
            OSError: the disk is full.
        """
        return self.view(self.write(content), len(content))

    def write(self, content: memoryview) -> int:
        """Append bytes; where they begin."""
        start = -(-self._end // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY
        self._file.seek(start)
        for place in range(0, len(content), _CHUNK):
            piece = content[place : place + _CHUNK]
            while len(piece):
                piece = piece[self._file.write(piece) :]
        self._end = start + len(content)
        return start

    def view(self, start: int, length: int) -> memoryview:
        """Bytes that were written, mapped; `start` is what `write` returned."""
        if not length:
            return memoryview(b"")
        mapped = mmap.mmap(self._file.fileno(), length, prot=mmap.PROT_READ, offset=start)
        self._maps.append(mapped)
        return memoryview(mapped)

    def forget_name(self) -> None:
        """Take the file's name away; what is in it stays."""
        if self.path is not None:
            self.path = None
            self._forget()

    def release(self) -> None:
        """Let go of all pages that were read; they are read again when they are wanted."""
        for mapped in self._maps:
            mapped.madvise(mmap.MADV_DONTNEED)

    def breathe(self) -> None:
        """Release the pages if more of files are resident than may stay.

        Raises:
            LimitExceeded: the process holds more than its bound all the same; the hint says what would do.
        """
        if self._maps and resident_file_bytes() > self.kept_bytes:
            self.release()
        if self.limit_bytes is not None and resident_bytes() > self.limit_bytes:
            self.release()
            held = resident_bytes()
            if held > self.limit_bytes:
                raise LimitExceeded(
                    f"{held >> 20} MiB are in use, more than the {self.limit_bytes >> 20} that were allowed",
                    hint=f"allow more: --memory-mb {-(-int(held * _ROOM) // (64 << 20)) * 64}",
                )

    @contextlib.contextmanager
    def releasing(self) -> Iterator[None]:
        """Release pages all the time, while a library reads everything in one call."""
        done = threading.Event()

        def run() -> None:
            while not done.wait(_DROP_SECONDS):
                self.release()

        thread = threading.Thread(target=run, name="regraft-spill", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            self.release()


def resident_file_bytes() -> int:
    """Pages of mapped files that this process holds, libraries included; 0 where nobody says."""
    return _pages(2)


def resident_bytes() -> int:
    """All pages that this process holds; 0 where nobody says."""
    return _pages(1)


def _pages(column: int) -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[column]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


__all__ = ["KEPT_BYTES", "Spill", "resident_bytes", "resident_file_bytes"]

"""A compressed stream that is expanded only as far as somebody reads."""

from __future__ import annotations

import os
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterator
from typing import IO

from regraft.errors import Damaged, StoreError
from regraft.package.reader import Meter, Reader

_IN_MEMORY_BYTES = 8 << 20


class LazyExpansion(Reader):
    """The expanded content of a stream whose size is declared; what was expanded once is kept.

    A header at the beginning of a compressed model costs the bytes up to the header, not the model.

    Args:
        pieces: the expanded content in order; exceptions pass through.
        size: declared size; more than this is never expanded.
        packed_meter: of the compressed bytes; the budget of the whole examination is counted there.
        on_end: called once with (size, CRC-32) when the end was reached, for what only then can be checked.
    Raises:
        Damaged: on reading: the stream ends before its declared size.
        LimitExceeded: on reading: the budget for expanded bytes is used up.
    """

    def __init__(
        self,
        pieces: Iterator[bytes],
        size: int,
        *,
        where: str,
        packed_meter: Meter,
        on_end: Callable[[int, int], None],
    ) -> None:
        super().__init__(size, where=where)
        self._pieces: Iterator[bytes] | None = pieces
        self._packed_meter = packed_meter
        self._on_end = on_end
        self._lock = threading.Lock()
        self._memory = bytearray()
        self._file: IO[bytes] | None = None
        self._expanded = 0
        self._crc32 = 0

    def _fetch(self, offset: int, length: int) -> bytes:
        with self._lock:
            # the last piece is followed by the end of the stream, where its checksum shows
            while self._pieces is not None and (self._expanded < offset + length or self._expanded >= self.size):
                self._expand_one()
            if self._expanded < offset + length:
                raise Damaged(f"declares {self.size} bytes and has {self._expanded}", where=self.where)
            if self._file is None:
                return bytes(self._memory[offset : offset + length])
            return os.pread(self._file.fileno(), length, offset)

    def _expand_one(self) -> None:
        assert self._pieces is not None
        piece = next(self._pieces, None) if self._expanded <= self.size else None
        if piece is None:
            self._pieces = None
            self._on_end(self._expanded, self._crc32)
            return
        self._packed_meter.add_expanded(len(piece), where=self.where)
        self._expanded += len(piece)
        self._crc32 = zlib.crc32(piece, self._crc32)
        if self._file is None and self._expanded <= _IN_MEMORY_BYTES:
            self._memory += piece
            return
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="regraft-", buffering=0)  # noqa: SIM115 - until close()
                self._file.write(self._memory)
                self._memory.clear()
            self._file.write(piece)
        except OSError as error:
            raise StoreError(
                f"no room for expanded content: {error.strerror}",
                where=tempfile.gettempdir(),
                hint="free some space, or point TMPDIR at a larger disk",
            ) from error

    def close(self) -> None:
        """Forget what was expanded; the file it lay in has no name, so nothing remains."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None
            self._memory.clear()
            self._pieces = None
            self._expanded = 0

"""Range readers: random access to a file's bytes, wherever they are, counting what is read."""

from __future__ import annotations

import errno
import io
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from regraft.errors import Damaged, LimitExceeded
from regraft.package.limits import MAX_EXPANDED_BYTES, MAX_HEADER_BYTES
from regraft.record.digest import Digest, digest_bytes, digest_chunks

_CHUNK_BYTES = 1 << 20
_FINGERPRINT_BYTES = 64 << 10


class Meter:
    """Counts the bytes that readers handed out, for the `bytes_read` measurement of evidence.

    Attributes:
        bytes_read: handed out by the readers that share this meter.
        bytes_expanded: produced by decompression below the outermost parent, over everything examined.
    """

    def __init__(self, parent: Meter | None = None) -> None:
        self.bytes_read = 0
        self.bytes_expanded = 0
        self._parent = parent

    def add_expanded(self, count: int, *, where: str) -> None:
        """Count decompressed bytes against one budget for the whole examination.

        Raises:
            LimitExceeded: more than `MAX_EXPANDED_BYTES` in all.
        """
        root = self
        while root._parent is not None:
            root = root._parent
        root.bytes_expanded += count
        if root.bytes_expanded > MAX_EXPANDED_BYTES:
            raise LimitExceeded(f"decompression produced more than {MAX_EXPANDED_BYTES} bytes in all", where=where)


class Reader(ABC):
    """Random access to `size` bytes. Subclasses implement `_fetch`; `meter` is shared by derived readers.

    Attributes:
        size: number of bytes.
        where: how errors name this content.
        meter: counts bytes handed out by this reader.
    """

    def __init__(self, size: int, *, where: str, meter: Meter | None = None) -> None:
        self.size = size
        self.where = where
        self.meter = meter or Meter()

    @abstractmethod
    def _fetch(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes from `offset`; the caller has checked the bounds."""

    def read_at(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset`: fewer only where the content ends."""
        length = max(0, min(length, self.size - offset))
        if length == 0 or offset < 0:
            return b""
        self.meter.bytes_read += length
        return self._fetch(offset, length)

    def read_exactly(self, offset: int, length: int) -> bytes:
        """`length` bytes from `offset`.

        Raises:
            Damaged: the content ends before.
        """
        if offset < 0 or length < 0 or offset + length > self.size:
            raise Damaged(f"needs bytes {offset}..{offset + length} but the content has {self.size}", where=self.where)
        return self.read_at(offset, length)

    def read_all(self, *, limit: int = MAX_HEADER_BYTES) -> bytes:
        """The whole content.

        Raises:
            LimitExceeded: it is larger than `limit` bytes.
        """
        if self.size > limit:
            raise LimitExceeded(f"{self.size} bytes, more than the {limit} that are read whole", where=self.where)
        return self.read_exactly(0, self.size)

    def chunks(self) -> Iterator[bytes]:
        """The content in order, in 1 MiB pieces."""
        for offset in range(0, self.size, _CHUNK_BYTES):
            yield self.read_at(offset, _CHUNK_BYTES)

    def sha256(self) -> Digest:
        """SHA-256 over all the bytes."""
        return digest_chunks(self.chunks())

    def fingerprint(self) -> Digest:
        """SHA-256 over the size (8 bytes, little-endian), the first and the last 64 KiB: a `partial` digest."""
        head = self.read_at(0, _FINGERPRINT_BYTES)
        tail = self.read_at(max(0, self.size - _FINGERPRINT_BYTES), _FINGERPRINT_BYTES)
        return digest_bytes(self.size.to_bytes(8, "little") + head + tail)

    def section(self, offset: int, length: int, *, where: str | None = None) -> Reader:
        """A reader over a part of this one.

        Raises:
            Damaged: the part does not lie inside.
        """
        if offset < 0 or length < 0 or offset + length > self.size:
            raise Damaged(f"section {offset}+{length} lies outside of {self.size} bytes", where=self.where)
        return _Section(self, offset, length, where or self.where)

    def as_file(self) -> IO[bytes]:
        """A seekable binary file object over this content, for libraries that want one (zipfile, tarfile)."""
        return cast("IO[bytes]", io.BufferedReader(_RawFile(self), buffer_size=64 << 10))

    def close(self) -> None:  # noqa: B027  most readers hold nothing
        """Release the descriptor or connection, if there is one."""


class BytesReader(Reader):
    """Content in memory."""

    def __init__(self, data: bytes, *, where: str, meter: Meter | None = None) -> None:
        super().__init__(len(data), where=where, meter=meter)
        self._data = data

    def _fetch(self, offset: int, length: int) -> bytes:
        return self._data[offset : offset + length]


class FileReader(Reader):
    """A local file, read with pread: no shared position, safe across threads."""

    def __init__(self, path: Path, *, where: str | None = None, meter: Meter | None = None) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        self.path = path
        size = os.fstat(self._fd).st_size
        if size == 0 and holds_more(self._fd):
            raise OSError(errno.ESPIPE, "it does not tell its size, as files of /proc do")
        super().__init__(size, where=where or str(path), meter=meter)

    def _fetch(self, offset: int, length: int) -> bytes:
        data = os.pread(self._fd, length, offset)
        while len(data) < length:
            more = os.pread(self._fd, length - len(data), offset + len(data))
            if not more:
                raise Damaged("the file shrank while it was read", where=self.where)
            data += more
        return data

    def close(self) -> None:
        """Close the descriptor; closing twice is harmless."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            self.close()


def holds_more(descriptor: int) -> bool:
    """Whether something can be read from a file that says that it is empty, as those of /proc say."""
    try:
        return bool(os.pread(descriptor, 1, 0))
    except OSError:
        return True


class _Section(Reader):
    def __init__(self, parent: Reader, offset: int, length: int, where: str) -> None:
        super().__init__(length, where=where, meter=parent.meter)
        self._parent = parent
        self._offset = offset

    def _fetch(self, offset: int, length: int) -> bytes:
        return self._parent._fetch(self._offset + offset, length)


class _RawFile(io.RawIOBase):
    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._reader.size}[whence]
        if base + offset < 0:
            raise OSError(f"negative seek position {base + offset}")
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._reader.read_at(self._position, len(buffer))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

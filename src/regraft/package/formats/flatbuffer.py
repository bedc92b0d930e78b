"""FlatBuffers without a schema compiler: tables, vectors and strings, every access checked.

Source: FlatBuffers internals (flatbuffers.dev/internals). A table begins with a signed offset back to its
vtable: u16 size of the vtable, u16 size of the table, then a u16 offset per field, 0 for an absent one.
"""

from __future__ import annotations

from collections.abc import Iterator

from regraft.errors import Damaged, LimitExceeded
from regraft.package.limits import MAX_HEADER_BYTES, MAX_TENSORS
from regraft.package.reader import Reader

_MAX_TEXT_BYTES = 1 << 20
_PAGE_BYTES = 1 << 13
_CACHED_PAGES = 512


class Buffer:
    """Random access to a FlatBuffer, page by page, within a budget of bytes.

    Raises:
        Damaged: from every access that leaves the content.
        LimitExceeded: more is asked for than metadata should take.
    """

    def __init__(self, reader: Reader, *, start: int = 0) -> None:
        self._reader = reader
        self._start = start
        self._pages: dict[int, bytes] = {}
        self._bytes_left = MAX_HEADER_BYTES
        self._accesses_left = 20 * MAX_TENSORS
        self.size = reader.size - start

    def root(self) -> Table:
        """The root table."""
        return Table(self, self.uint(0, 4))

    def bytes_at(self, offset: int, length: int) -> bytes:
        """`length` bytes at `offset`."""
        self._accesses_left -= 1
        if self._accesses_left < 0:
            raise LimitExceeded("too many fields are read from one FlatBuffer", where=self._reader.where)
        if offset < 0 or length < 0 or offset + length > self.size:
            raise Damaged(f"a FlatBuffer offset points at {offset}+{length} of {self.size}", where=self._reader.where)
        index, begin = divmod(offset, _PAGE_BYTES)
        if begin + length <= _PAGE_BYTES:
            return self._page(index)[begin : begin + length]
        self._spend(length)
        return self._reader.read_exactly(self._start + offset, length)

    def uint(self, offset: int, size: int) -> int:
        """An unsigned integer."""
        return int.from_bytes(self.bytes_at(offset, size), "little")

    def sint(self, offset: int, size: int) -> int:
        """A signed integer."""
        return int.from_bytes(self.bytes_at(offset, size), "little", signed=True)

    def _page(self, index: int) -> bytes:
        if index not in self._pages:
            if len(self._pages) >= _CACHED_PAGES:
                self._pages.pop(next(iter(self._pages)))
            page = self._reader.read_at(self._start + index * _PAGE_BYTES, _PAGE_BYTES)
            self._spend(len(page))
            self._pages[index] = page
        return self._pages[index]

    def _spend(self, count: int) -> None:
        self._bytes_left -= count
        if self._bytes_left < 0:
            raise LimitExceeded(f"more than {MAX_HEADER_BYTES} bytes of metadata", where=self._reader.where)


class Table:
    """One table; fields by their number in the schema, with the schema's default for an absent one."""

    def __init__(self, buffer: Buffer, offset: int) -> None:
        self._buffer = buffer
        self.offset = offset
        vtable = offset - buffer.sint(offset, 4)
        size = buffer.uint(vtable, 2)
        if size < 4 or size % 2:
            raise Damaged(f"a FlatBuffer vtable of {size} bytes at {vtable}")
        self._vtable = buffer.bytes_at(vtable, size)

    def position(self, field: int) -> int | None:
        """Where a field's value stands; None for an absent field."""
        begin = 4 + 2 * field
        if begin + 2 > len(self._vtable):
            return None
        relative = int.from_bytes(self._vtable[begin : begin + 2], "little")
        return self.offset + relative if relative else None

    def uint(self, field: int, size: int, default: int = 0) -> int:
        """An unsigned integer of `size` bytes."""
        position = self.position(field)
        return default if position is None else self._buffer.uint(position, size)

    def sint(self, field: int, size: int, default: int = 0) -> int:
        """A signed integer of `size` bytes."""
        position = self.position(field)
        return default if position is None else self._buffer.sint(position, size)

    def text(self, field: int) -> str | None:
        """A string; None for an absent one."""
        position = self._target(field)
        return None if position is None else _text_at(self._buffer, position)

    def table(self, field: int) -> Table | None:
        """A nested table; None for an absent one."""
        position = self._target(field)
        return None if position is None else Table(self._buffer, position)

    def length(self, field: int) -> int:
        """Number of elements of a vector; 0 for an absent one."""
        position = self._target(field)
        return 0 if position is None else self._buffer.uint(position, 4)

    def tables(self, field: int) -> Iterator[Table]:
        """A vector of tables."""
        for position in self._elements(field):
            yield Table(self._buffer, position + self._buffer.uint(position, 4))

    def texts(self, field: int) -> Iterator[str]:
        """A vector of strings."""
        for position in self._elements(field):
            yield _text_at(self._buffer, position + self._buffer.uint(position, 4))

    def sints(self, field: int, size: int) -> tuple[int, ...]:
        """A vector of signed integers of `size` bytes."""
        position = self._target(field)
        if position is None:
            return ()
        count = self._count(position)
        raw = self._buffer.bytes_at(position + 4, count * size)
        return tuple(
            int.from_bytes(raw[begin : begin + size], "little", signed=True) for begin in range(0, count * size, size)
        )

    def blob(self, field: int, *, limit: int) -> bytes:
        """The first `limit` bytes of a vector of bytes."""
        position = self._target(field)
        if position is None:
            return b""
        return self._buffer.bytes_at(position + 4, min(limit, self._buffer.uint(position, 4)))

    def place(self, field: int) -> tuple[int, int] | None:
        """Where the bytes of a vector of bytes stand, and how many they are; None for an absent one."""
        position = self._target(field)
        return None if position is None else (position + 4, self._buffer.uint(position, 4))

    def _target(self, field: int) -> int | None:
        position = self.position(field)
        return None if position is None else position + self._buffer.uint(position, 4)

    def _count(self, position: int) -> int:
        count = self._buffer.uint(position, 4)
        if count > MAX_TENSORS:
            raise LimitExceeded(f"a FlatBuffer vector of {count} elements")
        return count

    def _elements(self, field: int) -> Iterator[int]:
        position = self._target(field)
        if position is not None:
            yield from range(position + 4, position + 4 + 4 * self._count(position), 4)


def has_identifier(head: bytes, identifier: bytes) -> bool:
    """Do the first bytes of a file carry this FlatBuffers file identifier, and a root that may be one?"""
    return len(head) >= 12 and head[4:8] == identifier and int.from_bytes(head[:4], "little") >= 8


def _text_at(buffer: Buffer, position: int) -> str:
    length = buffer.uint(position, 4)
    if length > _MAX_TEXT_BYTES:
        raise LimitExceeded(f"a FlatBuffer string of {length} bytes")
    return buffer.bytes_at(position + 4, length).decode("utf-8", "replace")

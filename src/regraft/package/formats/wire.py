"""Protocol buffers without a schema: walks the wire format over a range reader and steps over what nobody asks for.

Source: protobuf.dev, Encoding. Deprecated groups (wire types 3 and 4) are refused as damage.
"""

from __future__ import annotations

from collections.abc import Iterator

from regraft.errors import Damaged, LimitExceeded
from regraft.package.formats.interface import Probe
from regraft.package.limits import MAX_HEADER_BYTES, MAX_NESTING
from regraft.package.reader import Reader

VARINT, FIXED64, SPAN, FIXED32 = 0, 1, 2, 5
"""Wire types. A span is length-delimited: a message, text, bytes or packed numbers."""

_MAX_FIELDS = 3_000_000
_MAX_TEXT_BYTES = 2000
_MAX_NUMBER = (1 << 29) - 1
_FIRST_READ_BYTES = 512
_MAX_READ_BYTES = 64 << 10
_VARINT_BYTES = 10


class Message:
    """A span of bytes that may be read as a message, as text or as packed numbers; read only when it is asked for.

    Attributes:
        start, end: the span, as offsets in the file.
    """

    __slots__ = ("_depth", "_window", "end", "start")

    def __init__(self, window: _Window, start: int, end: int, depth: int) -> None:
        self._window = window
        self.start = start
        self.end = end
        self._depth = depth

    @property
    def size(self) -> int:
        """Bytes of the span."""
        return self.end - self.start

    @property
    def where(self) -> str:
        """How errors name the content."""
        return self._window.reader.where

    def fields(self) -> Iterator[tuple[int, int, int | Message]]:
        """Each field in order as (number, wire type, value); a span is a `Message`, everything else an unsigned int.

        Raises:
            Damaged: this is no message: a length beyond the end, a group, a number or type that does not exist.
            LimitExceeded: nested too deep, or more fields or bytes than are read of one file.
        """
        window = self._window
        if self._depth > MAX_NESTING:
            raise LimitExceeded(f"messages nested more than {MAX_NESTING} deep", where=self.where)
        position, end = self.start, self.end
        while position < end:
            at = position
            key, position = window.varint(position, end)
            number, kind = key >> 3, key & 7
            if not 0 < number <= _MAX_NUMBER:
                raise Damaged(f"a field with the number {number} at offset {at}", where=self.where)
            value: int | Message
            if kind == VARINT:
                value, position = window.varint(position, end)
            elif kind == SPAN:
                length, position = window.varint(position, end)
                if length > end - position:
                    raise Damaged(
                        f"field {number} at offset {at} needs {length} bytes of {end - position}", where=self.where
                    )
                value = Message(window, position, position + length, self._depth + 1)
                position += length
            elif kind in (FIXED64, FIXED32):
                width = 8 if kind == FIXED64 else 4
                value = int.from_bytes(window.bytes(position, min(width, end - position)), "little")
                position += width
                if position > end:
                    raise Damaged(f"field {number} at offset {at} ends beyond its message", where=self.where)
            else:
                raise Damaged(f"wire type {kind} at offset {at}", where=self.where)
            window.count()
            yield number, kind, value

    def spans(self, number: int) -> Iterator[Message]:
        """The length-delimited fields of one number, in order."""
        for found, _, value in self.fields():
            if found == number and isinstance(value, Message):
                yield value

    def bytes(self, *, limit: int = _MAX_TEXT_BYTES) -> bytes:
        """The first `limit` bytes of the span."""
        return self._window.bytes(self.start, min(self.size, limit))

    def text(self, *, limit: int = _MAX_TEXT_BYTES) -> str:
        """The first `limit` bytes as text; what is not UTF-8 is replaced."""
        return self.bytes(limit=limit).decode("utf-8", "replace")

    def integers(self) -> Iterator[int]:
        """The span as packed varints, signed.

        Raises:
            Damaged: the last one is cut off.
        """
        position = self.start
        while position < self.end:
            value, position = self._window.varint(position, self.end)
            self._window.count()
            yield signed(value)


class _Window:
    """The part of a file that was read last. Reads start small after a jump and double while they go on in sequence."""

    __slots__ = ("_base", "_data", "_fetched", "_fields", "_step", "reader")

    def __init__(self, reader: Reader, head: bytes) -> None:
        self.reader = reader
        self._data = head
        self._base = 0
        self._step = _FIRST_READ_BYTES
        self._fields = 0
        self._fetched = 0

    def count(self) -> None:
        self._fields += 1
        if self._fields > _MAX_FIELDS:
            raise LimitExceeded(f"more than {_MAX_FIELDS} fields", where=self.reader.where)

    def varint(self, position: int, end: int) -> tuple[int, int]:
        """The unsigned integer at `position`, and the offset behind it."""
        index = position - self._base
        data = self._data
        if 0 <= index < len(data) and data[index] < 0x80 and position < end:
            return data[index], position + 1
        raw = self.bytes(position, min(_VARINT_BYTES, end - position))
        value = 0
        for i, byte in enumerate(raw):
            value |= (byte & 0x7F) << (7 * i)
            if byte < 0x80:
                return value & 0xFFFF_FFFF_FFFF_FFFF, position + i + 1
        raise Damaged(f"an integer without end at offset {position}", where=self.reader.where)

    def bytes(self, position: int, length: int) -> bytes:
        index = position - self._base
        if index < 0 or index + length > len(self._data):
            self._fetch(position, length)
            index = 0
        return self._data[index : index + length]

    def _fetch(self, position: int, length: int) -> None:
        in_sequence = 0 <= position - self._base <= len(self._data)
        self._step = min(self._step * 2, _MAX_READ_BYTES) if in_sequence else _FIRST_READ_BYTES
        wanted = max(length, self._step)
        self._fetched += wanted
        if self._fetched > MAX_HEADER_BYTES:
            raise LimitExceeded(f"more than {MAX_HEADER_BYTES} bytes of metadata", where=self.reader.where)
        self._data = self.reader.read_at(position, wanted)
        self._base = position
        if len(self._data) < length:
            raise Damaged(f"the content ends within a field at offset {position}", where=self.reader.where)


def message_of(probe: Probe) -> Message:
    """The whole file as one message; its first 4 KiB, which recognition has read, are not read again."""
    return Message(_Window(probe.reader, probe.head), 0, probe.reader.size, 0)


def fields(reader: Reader) -> Iterator[tuple[int, int, int | Message]]:
    """The fields of a message that fills a reader; see `Message.fields`."""
    return Message(_Window(reader, b""), 0, reader.size, 0).fields()


def signed(value: int) -> int:
    """A varint as the two's complement int64 that it encodes."""
    return value - (1 << 64) if value >= 1 << 63 else value


def integers_of(kind: int, value: int | Message) -> Iterator[int]:
    """The numbers of one occurrence of a repeated integer field, which may be packed or not."""
    if isinstance(value, Message):
        yield from value.integers()
    elif kind == VARINT:
        yield signed(value)


def entry_of(pair: Message) -> tuple[str, Message | None]:
    """Key and value of an entry of a map whose keys are text."""
    key, content = "", None
    for number, _, value in pair.fields():
        if isinstance(value, Message):
            if number == 1:
                key = value.text()
            elif number == 2:
                content = value
    return key, content

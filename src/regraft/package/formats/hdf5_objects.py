"""HDF5 files from below: the superblock, and object headers as lists of messages.

Source: HDF5 File Format Specification 3.0, sections II and IV.A. Checksums are not verified.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

from regraft.errors import Damaged, LimitExceeded
from regraft.package.formats.cursor import Cursor
from regraft.package.limits import MAX_HEADER_BYTES
from regraft.package.reader import Reader

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_SUPERBLOCK_BYTES = 128
_MAX_SUPERBLOCK_OFFSET = 1 << 24
_MAX_MESSAGES = 200_000
_MAX_READS = 2_000_000


class MessageType(IntEnum):
    """The header messages that metadata needs."""

    DATASPACE = 0x01
    LINK_INFO = 0x02
    DATATYPE = 0x03
    LINK = 0x06
    EXTERNAL_FILES = 0x07
    LAYOUT = 0x08
    ATTRIBUTE = 0x0C
    CONTINUATION = 0x10
    SYMBOL_TABLE = 0x11
    ATTRIBUTE_INFO = 0x15


class Message(msgspec.Struct, frozen=True):
    """One message of an object header: its type, flag bits, content and where that stands in the file."""

    type: int
    flags: int
    body: bytes
    start: int

    @property
    def is_shared(self) -> bool:
        """The body is a reference to the message, which is kept elsewhere."""
        return bool(self.flags & 0x02)


class Medium:
    """The file below the objects: sizes of addresses and lengths, base address, and a budget of bytes and reads.

    Attributes:
        address_bytes, length_bytes: sizes of the two integer kinds in this file.
        base: what every address is relative to.
        root: address of the root group's object header.
        version: version of the superblock.
        declared_end: size of the file as the superblock has it (written with the base address added).
        heaps: global heap collections that were read so far, by address.
    """

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self._bytes_left = MAX_HEADER_BYTES
        self._reads_left = _MAX_READS
        self.base = 0
        self.heaps: dict[int, dict[int, bytes]] = {}
        offset = find_signature(reader)
        if offset is None:
            raise Damaged("no HDF5 signature at 0, 512, 1024, …", where=reader.where)
        raw = Cursor(reader.read_at(offset, _SUPERBLOCK_BYTES), start=offset, where=reader.where)
        raw.expect(SIGNATURE)
        self.version = raw.uint(1)
        if self.version in (0, 1):
            self._read_old_superblock(raw)
        elif self.version in (2, 3):
            self._read_new_superblock(raw)
        else:
            raise Damaged(f"superblock version {self.version} does not exist", where=reader.where)

    def _read_old_superblock(self, raw: Cursor) -> None:
        raw.skip(4)
        self._set_sizes(raw)
        raw.skip(1 + 4 + 4 + (4 if self.version == 1 else 0))
        self.base = self.address(raw)
        raw.skip(self.address_bytes)
        self.declared_end = self.address(raw)
        raw.skip(2 * self.address_bytes)  # driver information; name offset of the root entry
        self.root = self.address(raw)

    def _read_new_superblock(self, raw: Cursor) -> None:
        self._set_sizes(raw)
        raw.skip(1)
        self.base = self.address(raw)
        raw.skip(self.address_bytes)
        self.declared_end = self.address(raw)
        self.root = self.address(raw)

    def _set_sizes(self, raw: Cursor) -> None:
        self.address_bytes, self.length_bytes = raw.uint(1), raw.uint(1)
        if self.address_bytes not in (2, 4, 8) or self.length_bytes not in (2, 4, 8):
            raise Damaged(
                f"addresses of {self.address_bytes} and lengths of {self.length_bytes} bytes", where=self.reader.where
            )

    def address(self, cursor: Cursor) -> int:
        """The next address; see `is_undefined`."""
        return cursor.uint(self.address_bytes)

    def length(self, cursor: Cursor) -> int:
        """The next length."""
        return cursor.uint(self.length_bytes)

    def is_undefined(self, address: int) -> bool:
        """An address of all ones means that there is nothing."""
        return address == (1 << (8 * self.address_bytes)) - 1

    def at(self, address: int, size: int) -> Cursor:
        """`size` bytes of metadata at an address.

        Raises:
            Damaged: they lie outside of the file.
            LimitExceeded: the file has more metadata than is read.
        """
        self._bytes_left -= size
        self._reads_left -= 1
        if self._bytes_left < 0 or self._reads_left < 0:
            raise LimitExceeded(f"more than {MAX_HEADER_BYTES} bytes of metadata", where=self.reader.where)
        start = self.base + address
        return Cursor(self.reader.read_exactly(start, size), start=start, where=self.reader.where)


def find_signature(reader: Reader) -> int | None:
    """Offset of the HDF5 signature: 0, 512, 1024, doubling; None when there is none within 16 MiB."""
    offset = 0
    while offset < min(reader.size, _MAX_SUPERBLOCK_OFFSET):
        if reader.read_at(offset, len(SIGNATURE)) == SIGNATURE:
            return offset
        offset = 512 if offset == 0 else offset * 2
    return None


def read_messages(medium: Medium, address: int) -> list[Message]:
    """The messages of the object header at an address, continuation blocks included.

    Raises:
        Damaged: no object header stands there, or it is inconsistent.
    """
    messages: list[Message] = []
    if medium.at(address, 4).take(4) == b"OHDR":
        size, is_ordered, start = _new_prefix(medium, address)
        blocks = [(start, size)]
        is_new = True
    else:
        prefix = medium.at(address, 16)
        if prefix.uint(1) != 1:
            raise Damaged(f"no object header at offset {medium.base + address}", where=medium.reader.where)
        prefix.skip(7)
        blocks, is_ordered, is_new = [(address + 16, prefix.uint(4))], False, False
    seen: set[int] = set()
    while blocks:
        start, size = blocks.pop(0)
        if start in seen:
            raise Damaged("an object header continues in itself", where=medium.reader.where)
        seen.add(start)
        for message in _messages_in(medium.at(start, size), is_new=is_new, is_ordered=is_ordered):
            if message.type == MessageType.CONTINUATION:
                blocks.append(_continuation(medium, message, is_new=is_new))
            else:
                messages.append(message)
        if len(messages) > _MAX_MESSAGES:
            raise LimitExceeded(f"more than {_MAX_MESSAGES} messages in one object header", where=medium.reader.where)
    return messages


def _new_prefix(medium: Medium, address: int) -> tuple[int, bool, int]:
    prefix = medium.at(address, min(34, medium.reader.size - medium.base - address))
    prefix.expect(b"OHDR")
    if prefix.uint(1) != 2:
        raise Damaged("an object header of unknown version", where=medium.reader.where)
    flags = prefix.uint(1)
    prefix.skip(16 if flags & 0x20 else 0)
    prefix.skip(4 if flags & 0x10 else 0)
    size = prefix.uint(1 << (flags & 0x03))
    return size, bool(flags & 0x04), address + prefix.position


def _continuation(medium: Medium, message: Message, *, is_new: bool) -> tuple[int, int]:
    body = Cursor(message.body, start=message.start, where=medium.reader.where)
    start, size = medium.address(body), medium.length(body)
    if not is_new:
        return start, size
    medium.at(start, 4).expect(b"OCHK")
    return start + 4, size - 8  # without its signature and checksum


def _messages_in(block: Cursor, *, is_new: bool, is_ordered: bool) -> list[Message]:
    prefix_bytes = (6 if is_ordered else 4) if is_new else 8
    messages = []
    while block.left >= prefix_bytes:
        kind = block.uint(1 if is_new else 2)
        size = block.uint(2)
        flags = block.uint(1)
        block.skip(prefix_bytes - (4 if is_new else 5))
        start = block.start + block.position
        body = block.take(size)
        if kind:
            messages.append(Message(kind, flags, body, start))
    return messages

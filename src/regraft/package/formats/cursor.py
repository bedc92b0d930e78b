"""A position in bytes of binary metadata: every read is checked against the end."""

from __future__ import annotations

from regraft.errors import Damaged


class Cursor:
    """Reads integers and slices from a piece of a file, in order.

    Attributes:
        position: offset of the next byte within the piece.
        start: offset of the piece within the file, for messages.
    """

    def __init__(self, data: bytes, *, start: int = 0, where: str = "") -> None:
        self._data = data
        self._where = where
        self.position = 0
        self.start = start

    @property
    def left(self) -> int:
        """Bytes after the position."""
        return len(self._data) - self.position

    def take(self, count: int) -> bytes:
        """The next `count` bytes.

        Raises:
            Damaged: the piece ends before.
        """
        if count < 0 or count > self.left:
            raise Damaged(
                f"needs {count} bytes at offset {self.start + self.position} where {self.left} are left",
                where=self._where,
            )
        self.position += count
        return self._data[self.position - count : self.position]

    def uint(self, size: int) -> int:
        """An unsigned little-endian integer of `size` bytes."""
        return int.from_bytes(self.take(size), "little")

    def skip(self, count: int) -> None:
        """Pass over `count` bytes."""
        self.take(count)

    def expect(self, signature: bytes) -> None:
        """Pass over a signature.

        Raises:
            Damaged: other bytes stand there.
        """
        found = self.take(len(signature))
        if found != signature:
            raise Damaged(
                f"expected {signature!r} at offset {self.start + self.position - len(signature)}, found {found!r}",
                where=self._where,
            )

    def text(self) -> str:
        """Text up to a zero byte, which is passed over."""
        end = self._data.find(b"\x00", self.position)
        if end < 0:
            raise Damaged("text without its terminating zero", where=self._where)
        raw = self.take(end - self.position)
        self.skip(1)
        return raw.decode("utf-8", "replace")

"""A sliding window over the bytes of a pickle stream: reads ahead where opcodes are, skips over long payloads."""

from __future__ import annotations

from regraft.package.formats.pickle_values import Blob
from regraft.package.reader import Reader

FIXED_BYTES = 10
"""No opcode with a fixed argument is longer."""
_STEP_BYTES = 16 << 10
_MAX_STEP_BYTES = 512 << 10
_KEPT_BYTES = 64 << 10
_KEPT_TOTAL_BYTES = 64 << 20
_KEPT_LATE_BYTES = 64


class Broken(Exception):
    """The stream cannot be followed any further; the message says why."""


class Limited(Broken):
    """A bound was met."""


class Window:
    """The part of the stream that is in memory: byte i of `data` stands at offset `base + i` of the reader.

    Attributes:
        data, base: as above.
        edge: index from which fewer than `FIXED_BYTES` bytes may be at hand.
        keep_bytes: strings up to this length are kept as values, longer ones as `Blob`; falls when much was kept.
    """

    def __init__(self, reader: Reader, offset: int, end: int) -> None:
        self.reader = reader
        self.end = end
        self.base = offset
        self.data = b""
        self.edge = 0
        self.keep_bytes = _KEPT_BYTES
        self._step = _STEP_BYTES
        self._read = 0

    def more(self, pos: int, need: int) -> int:
        """Move the window so that it starts at index `pos` and holds `need` bytes; the new index.

        Raises:
            Broken: the stream ends before.
        """
        start = self.base + pos
        if start + need > self.end:
            raise Broken(f"ends at byte {self.end}, {start + need - self.end} bytes before the end of an opcode")
        kept = self.data[pos:]
        wanted = min(max(need, self._step), self.end - start)
        fresh = self.reader.read_at(start + len(kept), wanted - len(kept)) if wanted > len(kept) else b""
        self._set(kept + fresh, start)
        self._step = min(self._step * 2, _MAX_STEP_BYTES)
        self._read += len(fresh)
        if self._read > _KEPT_TOTAL_BYTES:
            self.keep_bytes = _KEPT_LATE_BYTES
        if len(self.data) < need:
            raise Broken("the content ends before its declared size")
        return 0

    def seek(self, offset: int) -> int:
        """Go to an absolute offset; the new index. Nothing between here and there is read.

        Raises:
            Broken: it lies behind the end.
        """
        if offset > self.end:
            raise Broken(f"a payload needs {offset - self.end} bytes more than there are")
        if self.base <= offset <= self.base + len(self.data):
            return offset - self.base
        self._set(b"", offset)
        self._step = _STEP_BYTES
        return 0

    def line(self, pos: int) -> tuple[bytes | Blob, int]:
        """A text argument up to its newline, and the index after it; a `Blob` when it is too long to keep.

        Raises:
            Broken: there is no newline.
        """
        stop = self.data.find(b"\n", pos)
        if stop >= 0:
            return self.data[pos:stop], stop + 1
        start = self.base + pos
        at = pos
        while stop < 0:
            if self.base + len(self.data) >= self.end:
                raise Broken("a text argument has no end of line")
            short = self.base + len(self.data) - start <= self.keep_bytes
            held = len(self.data) - at
            at = self.more(at, held + 1) if short else self.more(len(self.data), 1)
            stop = self.data.find(b"\n", at + held if short else at)
        if self.base <= start:
            return self.data[start - self.base : stop], stop + 1
        return Blob("escaped", start, self.base + stop - start), stop + 1

    def _set(self, data: bytes, base: int) -> None:
        self.data = data
        self.base = base
        self.edge = len(data) - FIXED_BYTES

"""Opcodes that push constants: numbers, strings, bytes. Long payloads are skipped, not read."""

from __future__ import annotations

import codecs
import struct

from regraft.package.formats.interface import Problem
from regraft.package.formats.pickle_values import Blob, Opaque, Value
from regraft.package.formats.pickle_window import Broken, Window
from regraft.package.reader import Reader

INT_DIGITS = 4000
"""Decimal digits that an integer may have; CPython refuses more than 4,300."""
INT32 = struct.Struct("<i").unpack_from
UINT32 = struct.Struct("<I").unpack_from
UINT64 = struct.Struct("<Q").unpack_from
UINT16 = struct.Struct("<H").unpack_from
_DOUBLE = struct.Struct(">d").unpack_from


class Constants(Window):
    """Handlers take the index behind the opcode byte and return the index of the next opcode.

    Attributes:
        at: offset of the opcode that is being executed.
        stack: values above the last mark.
        problem: the first thing that was wrong.
    """

    def __init__(self, reader: Reader, offset: int, end: int) -> None:
        super().__init__(reader, offset, end)
        self.at = offset
        self.stack: list[Value] = []
        self.problem: Problem | None = None

    def note(self, what: str) -> None:
        """Record a problem at this opcode, unless there was one before."""
        if self.problem is None:
            self.problem = Problem(what, offset=self.at)

    def _op_none(self, pos: int) -> int:
        self.stack.append(None)
        return pos

    def _op_true(self, pos: int) -> int:
        self.stack.append(True)
        return pos

    def _op_false(self, pos: int) -> int:
        self.stack.append(False)
        return pos

    def _op_int_line(self, pos: int) -> int:
        text, pos = self.line(pos)
        if text in (b"01", b"00"):
            self.stack.append(text == b"01")
        else:
            self._number(text)
        return pos

    def _op_long_line(self, pos: int) -> int:
        text, pos = self.line(pos)
        self._number(text[:-1] if isinstance(text, bytes) and text.endswith(b"L") else text)
        return pos

    def _number(self, text: bytes | Blob) -> None:
        if isinstance(text, Blob) or len(text) > INT_DIGITS:
            self.stack.append(Opaque("int"))
            return
        for base in (10, 0):
            try:
                self.stack.append(int(text, base))
                return
            except ValueError:
                continue
        self.note("an integer that is none")
        self.stack.append(Opaque("int"))

    def _op_float_line(self, pos: int) -> int:
        text, pos = self.line(pos)
        try:
            self.stack.append(float(text) if isinstance(text, bytes) else Opaque("float"))
        except ValueError:
            self.note("a float that is none")
            self.stack.append(Opaque("float"))
        return pos

    def _op_binint(self, pos: int) -> int:
        self.stack.append(INT32(self.data, pos)[0])
        return pos + 4

    def _op_binint2(self, pos: int) -> int:
        self.stack.append(UINT16(self.data, pos)[0])
        return pos + 2

    def _op_binfloat(self, pos: int) -> int:
        self.stack.append(_DOUBLE(self.data, pos)[0])
        return pos + 8

    def _op_long1(self, pos: int) -> int:
        return self._long(pos + 1, self.data[pos])

    def _op_long4(self, pos: int) -> int:
        return self._long(pos + 4, self._signed_length(pos))

    def _long(self, pos: int, length: int) -> int:
        if length > self.keep_bytes:
            return self._skip("int", pos, length)
        if pos + length > len(self.data):
            pos = self.more(pos, length)
        self.stack.append(int.from_bytes(self.data[pos : pos + length], "little", signed=True))
        return pos + length

    def _signed_length(self, pos: int) -> int:
        length: int = INT32(self.data, pos)[0]
        if length < 0:
            raise Broken("a negative length")
        return length

    # Strings; UnicodeDecodeError ends the run

    def _op_string_line(self, pos: int) -> int:
        text, pos = self.line(pos)
        if isinstance(text, Blob):
            self.stack.append(text)
            return pos
        text = text.strip()
        if len(text) < 2 or text[:1] != text[-1:] or text[:1] not in (b"'", b'"'):
            raise Broken("a STRING argument without quotes")
        try:
            content = codecs.escape_decode(text[1:-1])[0]
        except ValueError as error:
            raise Broken("a STRING argument with a broken escape") from error
        self.stack.append(_python2_string(content))
        return pos

    def _op_unicode_line(self, pos: int) -> int:
        text, pos = self.line(pos)
        if isinstance(text, Blob):
            self.stack.append(text)
            return pos
        self.stack.append(text.decode("raw-unicode-escape"))
        return pos

    def _op_binstring(self, pos: int) -> int:
        return self._string(pos + 4, self._signed_length(pos))

    def _op_short_binstring(self, pos: int) -> int:
        return self._string(pos + 1, self.data[pos])

    def _string(self, pos: int, length: int) -> int:
        if length > self.keep_bytes:
            return self._skip("string", pos, length)
        if pos + length > len(self.data):
            pos = self.more(pos, length)
        self.stack.append(_python2_string(self.data[pos : pos + length]))
        return pos + length

    def _op_short_binunicode(self, pos: int) -> int:
        return self._text(pos + 1, self.data[pos])

    def _op_binunicode(self, pos: int) -> int:
        return self._text(pos + 4, UINT32(self.data, pos)[0])

    def _op_binunicode8(self, pos: int) -> int:
        return self._text(pos + 8, UINT64(self.data, pos)[0])

    def _text(self, pos: int, length: int) -> int:
        if length > self.keep_bytes:
            return self._skip("str", pos, length)
        if pos + length > len(self.data):
            pos = self.more(pos, length)
        stop = pos + length
        self.stack.append(self.data[pos:stop].decode("utf-8", "surrogatepass"))
        return stop

    def _op_short_binbytes(self, pos: int) -> int:
        return self._bytes(pos + 1, self.data[pos], "bytes")

    def _op_binbytes(self, pos: int) -> int:
        return self._bytes(pos + 4, UINT32(self.data, pos)[0], "bytes")

    def _op_binbytes8(self, pos: int) -> int:
        return self._bytes(pos + 8, UINT64(self.data, pos)[0], "bytes")

    def _op_bytearray8(self, pos: int) -> int:
        return self._bytes(pos + 8, UINT64(self.data, pos)[0], "bytearray")

    def _bytes(self, pos: int, length: int, kind: str) -> int:
        if length > self.keep_bytes >> 4:
            return self._skip(kind, pos, length)
        if pos + length > len(self.data):
            pos = self.more(pos, length)
        self.stack.append(self.data[pos : pos + length])
        return pos + length

    def _skip(self, kind: str, pos: int, length: int) -> int:
        offset = self.base + pos
        pos = self.seek(offset + length)
        self.stack.append(Blob(kind, offset, length))
        return pos


def _python2_string(content: bytes) -> str | bytes:
    return content.decode("ascii") if content.isascii() else content

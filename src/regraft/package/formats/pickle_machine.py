"""Follow a pickle stream without unpickling it: what it would import, what it would call, what it would return.

Protocols 0 to 5. Nothing is imported or called. Where the unpicklers of CPython (C and Python) are lenient this
machine is at least as lenient, so that code which they would run before they meet damage is seen here too.
Source: CPython 3.11 to 3.14, Lib/pickle.py and Modules/_pickle.c; opcode numbers as in pickletools.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Iterator
from typing import TypeAlias

from regraft.errors import Damaged
from regraft.package.formats.interface import Problem
from regraft.package.formats.pickle_opcodes import FIXED_ARGUMENT_BYTES, OPCODES
from regraft.package.formats.pickle_values import (
    Blob,
    Buffer,
    Call,
    Dict,
    Global,
    Opaque,
    PersistentId,
    PickleStream,
    Set,
    Value,
)
from regraft.package.formats.pickle_window import FIXED_BYTES, Broken, Limited, Window
from regraft.package.limits import MAX_PICKLE_OPCODES
from regraft.package.reader import BytesReader, Reader

RawBytes: TypeAlias = "Callable[[Call, int], int]"
"""Given an object that BUILD has just finished and the offset behind it: how many bytes there are no opcodes."""

_MAX_CONTAINERS = 6_000_000
_MAX_STREAMS = 100_000
_INT_DIGITS = 4000
_INT32 = struct.Struct("<i").unpack_from
_UINT32 = struct.Struct("<I").unpack_from
_UINT64 = struct.Struct("<Q").unpack_from
_UINT16 = struct.Struct("<H").unpack_from
_DOUBLE = struct.Struct(">d").unpack_from


class _Stopped(Exception):
    """STOP was executed."""


def read_pickle(
    source: Reader | bytes,
    offset: int = 0,
    *,
    end: int | None = None,
    max_opcodes: int = MAX_PICKLE_OPCODES,
    raw_bytes: RawBytes | None = None,
) -> PickleStream:
    """Follow one stream from `offset` to its STOP. Damage never raises: it is the `problem` of the result.

    Args:
        source: the content; long payloads are skipped, not read.
        offset: where the stream begins.
        end: the stream may not go beyond; default: the size of the content.
        max_opcodes: opcodes after which to give up (`limited`).
        raw_bytes: for formats that put raw bytes between opcodes (joblib).
    Raises:
        NetworkFailure, AccessDenied: as the reader does.
    """
    reader = BytesReader(source, where="pickle") if isinstance(source, bytes) else source
    limit = reader.size if end is None else min(end, reader.size)
    return _Machine(reader, max(0, offset), max(limit, offset, 0), raw_bytes).run(max_opcodes)


def read_pickles(source: Reader | bytes, offset: int = 0, *, end: int | None = None) -> Iterator[PickleStream]:
    """Follow concatenated streams until the content ends or one of them has no STOP."""
    size = len(source) if isinstance(source, bytes) else source.size
    stop = size if end is None else min(end, size)
    opcodes_left = MAX_PICKLE_OPCODES
    for _ in range(_MAX_STREAMS):
        if offset >= stop:
            return
        stream = read_pickle(source, offset, end=stop, max_opcodes=opcodes_left)
        yield stream
        opcodes_left -= stream.opcodes
        if not stream.stopped or stream.end_offset <= offset or opcodes_left <= 0:
            return
        offset = stream.end_offset


@functools.cache
def _python2_names() -> tuple[dict[tuple[str, str], tuple[str, str]], dict[str, str]]:
    import _compat_pickle

    return _compat_pickle.NAME_MAPPING, _compat_pickle.IMPORT_MAPPING


class _Machine(Window):
    """One run. Handlers take the index behind the opcode byte and return the index of the next opcode."""

    def __init__(self, reader: Reader, offset: int, end: int, raw_bytes: RawBytes | None) -> None:
        super().__init__(reader, offset, end)
        self.start = self.at = offset
        self.stack: list[Value] = []
        self.below: list[list[Value]] = []
        self.memo: dict[int, Value] = {}
        self.globals: list[Global] = []
        self.calls: list[Call] = []
        self.persistent_ids: list[PersistentId] = []
        self.protocol = 0
        self.mapped_protocol = 0
        self.buffers = 0
        self.containers = 0
        self.frame_end = 0
        self.raw_bytes = raw_bytes
        self.problem: Problem | None = None
        self.handlers: list[Callable[[int], int]] = [
            getattr(self, OPCODES[code]) if code in OPCODES else self.unknown for code in range(256)
        ]

    def run(self, max_opcodes: int) -> PickleStream:
        """Execute until STOP, damage or the limit."""
        stopped = limited = False
        root: Value = None
        handlers = self.handlers
        pos = count = 0
        try:
            while count < max_opcodes:
                count += 1
                if pos >= self.edge:
                    pos = self._advance(pos)
                self.at = self.base + pos
                pos = handlers[self.data[pos]](pos + 1)
            raise Limited(f"more than {max_opcodes} opcodes")
        except _Stopped:
            stopped = True
            if self.stack:
                root = self.stack[-1]
            else:
                self._note("STOP with nothing on the stack")
        except IndexError:
            self._note("takes more from the stack than there is")
        except Limited as error:
            limited = True
            self._note(str(error))
        except (Broken, Damaged) as error:
            self._note(str(error))
        return PickleStream(
            offset=self.start,
            end_offset=self.at + 1 if stopped else self.at,
            complete=stopped and self.problem is None,
            stopped=stopped,
            limited=limited,
            problem=self.problem,
            protocol=self.protocol,
            opcodes=count,
            root=root,
            globals=self.globals,
            calls=self.calls,
            persistent_ids=self.persistent_ids,
            buffers=self.buffers,
        )

    def _note(self, what: str) -> None:
        if self.problem is None:
            self.problem = Problem(what, offset=self.at)

    def _advance(self, pos: int) -> int:
        """Near the end of the window: fetch more; near the end of the content: see that the opcode is whole."""
        if self.containers > _MAX_CONTAINERS:
            raise Limited(f"more than {_MAX_CONTAINERS} containers")
        left = self.end - (self.base + pos)
        self.at = self.base + pos
        if left <= 0:
            raise Broken("ends without STOP")
        if len(self.data) - pos < min(FIXED_BYTES, left):
            pos = self.more(pos, min(FIXED_BYTES, left))
        if left < FIXED_BYTES and 1 + FIXED_ARGUMENT_BYTES.get(self.data[pos], 0) > left:
            raise Broken("ends in the middle of an opcode")
        return pos

    # Constants

    def none(self, pos: int) -> int:
        self.stack.append(None)
        return pos

    def true(self, pos: int) -> int:
        self.stack.append(True)
        return pos

    def false(self, pos: int) -> int:
        self.stack.append(False)
        return pos

    def int_line(self, pos: int) -> int:
        text, pos = self.line(pos)
        if text in (b"01", b"00"):
            self.stack.append(text == b"01")
        else:
            self._number(text)
        return pos

    def long_line(self, pos: int) -> int:
        text, pos = self.line(pos)
        self._number(text[:-1] if isinstance(text, bytes) and text.endswith(b"L") else text)
        return pos

    def _number(self, text: bytes | Blob) -> None:
        if isinstance(text, Blob) or len(text) > _INT_DIGITS:
            self.stack.append(Opaque("int"))
            return
        for base in (10, 0):
            try:
                self.stack.append(int(text, base))
                return
            except ValueError:
                continue
        self._note("an integer that is none")
        self.stack.append(Opaque("int"))

    def float_line(self, pos: int) -> int:
        text, pos = self.line(pos)
        try:
            self.stack.append(float(text) if isinstance(text, bytes) else Opaque("float"))
        except ValueError:
            self._note("a float that is none")
            self.stack.append(Opaque("float"))
        return pos

    def binint(self, pos: int) -> int:
        self.stack.append(_INT32(self.data, pos)[0])
        return pos + 4

    def binint1(self, pos: int) -> int:
        self.stack.append(self.data[pos])
        return pos + 1

    def binint2(self, pos: int) -> int:
        self.stack.append(_UINT16(self.data, pos)[0])
        return pos + 2

    def binfloat(self, pos: int) -> int:
        self.stack.append(_DOUBLE(self.data, pos)[0])
        return pos + 8

    def long1(self, pos: int) -> int:
        return self._long(pos + 1, self.data[pos])

    def long4(self, pos: int) -> int:
        return self._long(pos + 4, self._signed_length(pos))

    def _long(self, pos: int, length: int) -> int:
        if length > self.keep_bytes:
            return self._skip("int", pos, length)
        if pos + length > len(self.data):
            pos = self.more(pos, length)
        self.stack.append(int.from_bytes(self.data[pos : pos + length], "little", signed=True))
        return pos + length

    def _signed_length(self, pos: int) -> int:
        length: int = _INT32(self.data, pos)[0]
        if length < 0:
            raise Broken("a negative length")
        return length

    # Strings

    def string_line(self, pos: int) -> int:
        text, pos = self.line(pos)
        if isinstance(text, Blob):
            self.stack.append(text)
            return pos
        text = text.strip()
        if len(text) < 2 or text[:1] != text[-1:] or text[:1] not in (b"'", b'"'):
            raise Broken("a STRING argument without quotes")
        import codecs

        try:
            content = codecs.escape_decode(text[1:-1])[0]
        except ValueError as error:
            raise Broken("a STRING argument with a broken escape") from error
        self.stack.append(_python2_string(content))
        return pos

    def unicode_line(self, pos: int) -> int:
        text, pos = self.line(pos)
        if isinstance(text, Blob):
            self.stack.append(text)
            return pos
        try:
            self.stack.append(text.decode("raw-unicode-escape"))
        except UnicodeDecodeError as error:
            raise Broken("a UNICODE argument with a broken escape") from error
        return pos

    def binstring(self, pos: int) -> int:
        return self._string(pos + 4, self._signed_length(pos))

    def short_binstring(self, pos: int) -> int:
        return self._string(pos + 1, self.data[pos])

    def _string(self, pos: int, length: int) -> int:
        if length > self.keep_bytes:
            return self._skip("string", pos, length)
        if pos + length > len(self.data):
            pos = self.more(pos, length)
        self.stack.append(_python2_string(self.data[pos : pos + length]))
        return pos + length

    def short_binunicode(self, pos: int) -> int:
        return self._text(pos + 1, self.data[pos])

    def binunicode(self, pos: int) -> int:
        return self._text(pos + 4, _UINT32(self.data, pos)[0])

    def binunicode8(self, pos: int) -> int:
        return self._text(pos + 8, _UINT64(self.data, pos)[0])

    def _text(self, pos: int, length: int) -> int:
        if length > self.keep_bytes:
            return self._skip("str", pos, length)
        if pos + length > len(self.data):
            pos = self.more(pos, length)
        stop = pos + length
        try:
            self.stack.append(self.data[pos:stop].decode("utf-8", "surrogatepass"))
        except UnicodeDecodeError as error:
            raise Broken("a string that is not UTF-8") from error
        return stop

    def short_binbytes(self, pos: int) -> int:
        return self._bytes(pos + 1, self.data[pos], "bytes")

    def binbytes(self, pos: int) -> int:
        return self._bytes(pos + 4, _UINT32(self.data, pos)[0], "bytes")

    def binbytes8(self, pos: int) -> int:
        return self._bytes(pos + 8, _UINT64(self.data, pos)[0], "bytes")

    def bytearray8(self, pos: int) -> int:
        return self._bytes(pos + 8, _UINT64(self.data, pos)[0], "bytearray")

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

    def next_buffer(self, pos: int) -> int:
        self.stack.append(Buffer(self.buffers))
        self.buffers += 1
        return pos

    # Containers

    def empty_tuple(self, pos: int) -> int:
        self.stack.append(())
        return pos

    def empty_list(self, pos: int) -> int:
        self.containers += 1
        self.stack.append([])
        return pos

    def empty_dict(self, pos: int) -> int:
        self.containers += 1
        self.stack.append(Dict())
        return pos

    def empty_set(self, pos: int) -> int:
        self.containers += 1
        self.stack.append(Set([]))
        return pos

    def mark(self, pos: int) -> int:
        self.containers += 1
        self.below.append(self.stack)
        self.stack = []
        return pos

    def _items(self) -> list[Value]:
        """Everything above the last mark."""
        items = self.stack
        if not self.below:
            raise Broken("no mark on the stack")
        self.stack = self.below.pop()
        return items

    def tuple_(self, pos: int) -> int:
        items = self._items()
        self.stack.append(tuple(items))
        return pos

    def tuple1(self, pos: int) -> int:
        self.containers += 1
        self.stack[-1] = (self.stack[-1],)
        return pos

    def tuple2(self, pos: int) -> int:
        self.containers += 1
        last = self.stack.pop()
        self.stack[-1] = (self.stack[-1], last)
        return pos

    def tuple3(self, pos: int) -> int:
        self.containers += 1
        last, middle = self.stack.pop(), self.stack.pop()
        self.stack[-1] = (self.stack[-1], middle, last)
        return pos

    def list_(self, pos: int) -> int:
        items = self._items()
        self.stack.append(items)
        return pos

    def frozenset_(self, pos: int) -> int:
        items = self._items()
        self.stack.append(Set(items, frozen=True))
        return pos

    def dict_(self, pos: int) -> int:
        items = self._items()
        made = Dict()
        made.pairs.extend(self._pairs(items))
        self.stack.append(made)
        return pos

    def _pairs(self, items: list[Value]) -> Iterator[tuple[Value, Value]]:
        if len(items) % 2:
            raise Broken("an odd number of keys and values")
        return zip(items[::2], items[1::2], strict=True)

    def append(self, pos: int) -> int:
        item = self.stack.pop()
        self._extend([item])
        return pos

    def appends(self, pos: int) -> int:
        self._extend(self._items())
        return pos

    def _extend(self, items: list[Value]) -> None:
        target = self.stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif isinstance(target, (Set, Call)):
            target.items.extend(items)
        else:
            self.calls.append(Call(target, tuple(items), "append", self.at))

    def setitem(self, pos: int) -> int:
        value, key = self.stack.pop(), self.stack.pop()
        self._update([key, value])
        return pos

    def setitems(self, pos: int) -> int:
        self._update(self._items())
        return pos

    def _update(self, items: list[Value]) -> None:
        target = self.stack[-1]
        if isinstance(target, (Dict, Call)):
            target.pairs.extend(self._pairs(items))
        else:
            self.calls.append(Call(target, tuple(self._pairs(items)), "setitem", self.at))

    # Stack and memo

    def pop(self, pos: int) -> int:
        if self.stack:
            self.stack.pop()
        else:
            self._items()
        return pos

    def pop_mark(self, pos: int) -> int:
        self._items()
        return pos

    def dup(self, pos: int) -> int:
        self.stack.append(self.stack[-1])
        return pos

    def get_line(self, pos: int) -> int:
        text, pos = self.line(pos)
        return self._get(_memo_key(text), pos)

    def binget(self, pos: int) -> int:
        return self._get(self.data[pos], pos + 1)

    def long_binget(self, pos: int) -> int:
        return self._get(_UINT32(self.data, pos)[0], pos + 4)

    def _get(self, key: int, pos: int) -> int:
        try:
            self.stack.append(self.memo[key])
        except KeyError:
            raise Broken(f"no memo entry {key}") from None
        return pos

    def put_line(self, pos: int) -> int:
        text, pos = self.line(pos)
        self.memo[_memo_key(text)] = self.stack[-1]
        return pos

    def binput(self, pos: int) -> int:
        self.memo[self.data[pos]] = self.stack[-1]
        return pos + 1

    def long_binput(self, pos: int) -> int:
        self.memo[_UINT32(self.data, pos)[0]] = self.stack[-1]
        return pos + 4

    def memoize(self, pos: int) -> int:
        self.memo[len(self.memo)] = self.stack[-1]
        return pos

    # Names and calls

    def _global(self, module: Value, name: Value, *, extension: int | None = None) -> Global:
        written = (module if isinstance(module, str) else None, name if isinstance(name, str) else None)
        resolved = written
        if self.mapped_protocol < 3 and written[0] is not None:
            names, imports = _python2_names()
            if written[1] is not None and (written[0], written[1]) in names:
                resolved = names[written[0], written[1]]
            else:
                resolved = (imports.get(written[0], written[0]), written[1])
        found = Global(resolved[0], resolved[1], self.at, written=written, extension=extension)
        self.globals.append(found)
        return found

    def global_(self, pos: int) -> int:
        module, pos = self.line(pos)
        name, pos = self.line(pos)
        self.stack.append(self._global(_name(module), _name(name)))
        return pos

    def stack_global(self, pos: int) -> int:
        name, module = self.stack.pop(), self.stack.pop()
        self.stack.append(self._global(module, name))
        return pos

    def ext1(self, pos: int) -> int:
        self.stack.append(self._global(None, None, extension=self.data[pos]))
        return pos + 1

    def ext2(self, pos: int) -> int:
        self.stack.append(self._global(None, None, extension=_UINT16(self.data, pos)[0]))
        return pos + 2

    def ext4(self, pos: int) -> int:
        self.stack.append(self._global(None, None, extension=_INT32(self.data, pos)[0]))
        return pos + 4

    def _call(self, function: Value, args: Value, kind: str, kwargs: Value = None) -> Call:
        call = Call(function, args, kind, self.at, kwargs=kwargs)
        self.calls.append(call)
        return call

    def reduce(self, pos: int) -> int:
        args = self.stack.pop()
        self.stack[-1] = self._call(self.stack[-1], args, "reduce")
        return pos

    def newobj(self, pos: int) -> int:
        args = self.stack.pop()
        self.stack[-1] = self._call(self.stack[-1], args, "newobj")
        return pos

    def newobj_ex(self, pos: int) -> int:
        kwargs, args = self.stack.pop(), self.stack.pop()
        self.stack[-1] = self._call(self.stack[-1], args, "newobj_ex", kwargs)
        return pos

    def inst(self, pos: int) -> int:
        module, pos = self.line(pos)
        name, pos = self.line(pos)
        function = self._global(_name(module), _name(name))
        args = self._items()
        self.stack.append(self._call(function, tuple(args), "inst"))
        return pos

    def obj(self, pos: int) -> int:
        function, *args = self._items() or [Opaque("class")]
        self.stack.append(self._call(function, tuple(args), "obj"))
        return pos

    def build(self, pos: int) -> int:
        state = self.stack.pop()
        target = self.stack[-1]
        self._call(target, (state,), "build")
        if isinstance(target, Call):
            target.states.append(state)
            if self.raw_bytes is not None:
                return self._skip_raw(target, pos)
        return pos

    def _skip_raw(self, target: Call, pos: int) -> int:
        assert self.raw_bytes is not None
        offset = self.base + pos
        length = self.raw_bytes(target, offset)
        if length and offset < self.frame_end:
            self._note("raw bytes begin inside of a frame")
            return pos
        return self.seek(offset + length) if length else pos

    def persid_line(self, pos: int) -> int:
        text, pos = self.line(pos)
        return self._persistent(_name(text), pos)

    def binpersid(self, pos: int) -> int:
        return self._persistent(self.stack.pop(), pos)

    def _persistent(self, value: Value, pos: int) -> int:
        found = PersistentId(value, self.at)
        self.persistent_ids.append(found)
        self.stack.append(found)
        return pos

    # The stream itself

    def proto(self, pos: int) -> int:
        version = self.data[pos]
        if version > 5:
            self._note(f"protocol {version}")
        self.mapped_protocol = version
        self.protocol = max(self.protocol, version)
        return pos + 1

    def frame(self, pos: int) -> int:
        length = _UINT64(self.data, pos)[0]
        self.frame_end = self.base + pos + 8 + length
        if self.frame_end > self.end:
            self._note("a frame goes beyond the end")
        return pos + 8

    def readonly_buffer(self, pos: int) -> int:
        self.stack[-1]
        return pos

    def stop(self, pos: int) -> int:
        raise _Stopped

    def unknown(self, pos: int) -> int:
        raise Broken(f"no opcode has the number 0x{self.data[pos - 1]:02x}")


def _python2_string(content: bytes) -> str | bytes:
    return content.decode("ascii") if content.isascii() else content


def _name(text: bytes | Blob) -> str | None:
    try:
        return None if isinstance(text, Blob) else text.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return None


def _memo_key(text: bytes | Blob) -> int:
    try:
        key = -1 if isinstance(text, Blob) or len(text) > _INT_DIGITS else int(text)
    except ValueError:
        key = -1
    if key < 0:
        raise Broken("a memo index that is none")
    return key

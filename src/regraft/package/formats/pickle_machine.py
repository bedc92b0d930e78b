"""Follow a pickle stream without unpickling it: what it would import, what it would call, what it would return.

Protocols 0 to 5. Nothing is imported or called. Where the unpicklers of CPython (C and Python) are lenient this
machine is at least as lenient, so that code which they would run before they meet damage is seen here too.
Source: CPython 3.11 to 3.14, Lib/pickle.py and Modules/_pickle.c; opcode numbers as in pickletools.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from regraft.errors import Damaged
from regraft.package.formats.pickle_constants import UINT32, UINT64
from regraft.package.formats.pickle_expansion import TooMuchExpanded
from regraft.package.formats.pickle_objects import Objects, RawBytes
from regraft.package.formats.pickle_opcodes import FIXED_ARGUMENT_BYTES, OPCODES
from regraft.package.formats.pickle_values import PickleStream, Value
from regraft.package.formats.pickle_window import FIXED_BYTES, Broken, Limited
from regraft.package.limits import MAX_PICKLE_OPCODES
from regraft.package.reader import BytesReader, Reader

_MAX_CONTAINERS = 3_000_000
_MAX_STREAMS = 100_000
_BINPUT, _LONG_BINPUT, _BINGET, _LONG_BINGET, _BININT1, _BINUNICODE = b"qrhjKX"
_SHORT = 64


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


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Keep the cyclic garbage collector from walking the growing graph again and again: everything in it is alive.

    At the end freeze and unfreeze move what is young to the oldest generation without walking it either.
    """
    paused = gc.isenabled()
    if paused:
        gc.disable()
    try:
        yield
    finally:
        if paused:
            if gc.get_freeze_count() == 0:
                gc.freeze()
                gc.unfreeze()
            gc.enable()


class _Machine(Objects):
    """One run over one stream."""

    def __init__(self, reader: Reader, offset: int, end: int, raw_bytes: RawBytes | None) -> None:
        super().__init__(reader, offset, end, raw_bytes)
        self.start = offset
        self.count = 0

    def run(self, max_opcodes: int) -> PickleStream:
        """Execute until STOP, damage or the limit."""
        stopped = limited = False
        root: Value = None
        try:
            with _collector_paused():
                self._follow(max_opcodes)
        except _Stopped:
            stopped = True
            if self.stack:
                root = self.stack[-1]
            else:
                self.note("STOP with nothing on the stack")
        except IndexError:
            self.note("takes more from the stack than there is")
        except KeyError as error:
            self.note(f"no memo entry {error}")
        except UnicodeDecodeError:
            self.note("a string that is not UTF-8")
        except (Broken, Damaged, TooMuchExpanded) as error:
            limited = isinstance(error, Limited | TooMuchExpanded)
            self.note(str(error))
        return PickleStream(
            offset=self.start,
            end_offset=self.at + 1 if stopped else self.at,
            complete=stopped and self.problem is None,
            stopped=stopped,
            limited=limited,
            problem=self.problem,
            protocol=self.protocol,
            opcodes=self.count,
            root=root,
            globals=self.globals,
            calls=self.calls,
            persistent_ids=self.persistent_ids,
            buffers=self.buffers,
            memoized=len(self.memo),
        )

    def _follow(self, max_opcodes: int) -> None:
        """The loop. The opcodes that make up most of a checkpoint are inlined: half the time of a call for each."""
        handlers, memo = _HANDLERS, self.memo
        data, base, edge = self.data, self.base, self.edge
        pos = count = 0
        try:
            while count < max_opcodes:
                count += 1
                if pos >= edge:
                    pos = self._advance(pos)
                    data, base, edge = self.data, self.base, self.edge
                code = data[pos]
                if code == _BINPUT:
                    memo[data[pos + 1]] = self.stack[-1]
                    pos += 2
                elif code == _LONG_BINPUT:
                    memo[UINT32(data, pos + 1)[0]] = self.stack[-1]
                    pos += 5
                elif code == _BINGET:
                    self.stack.append(memo[data[pos + 1]])
                    pos += 2
                elif code == _LONG_BINGET:
                    self.stack.append(memo[UINT32(data, pos + 1)[0]])
                    pos += 5
                elif code == _BININT1:
                    self.stack.append(data[pos + 1])
                    pos += 2
                elif code == _BINUNICODE and (end := pos + 5 + UINT32(data, pos + 1)[0]) < edge and end - pos < _SHORT:
                    self.stack.append(data[pos + 5 : end].decode("utf-8", "surrogatepass"))
                    pos = end
                else:
                    self.at = base + pos
                    pos = handlers[code](self, pos + 1)
                    data, base, edge = self.data, self.base, self.edge
            raise Limited(f"more than {max_opcodes} opcodes")
        finally:
            self.at = base + pos
            self.count = count

    def _advance(self, pos: int) -> int:
        """Near the end of the window: fetch more; near the end of the content: see that the opcode is whole."""
        if self.containers > _MAX_CONTAINERS:
            raise Limited(f"more than {_MAX_CONTAINERS} containers, names and calls")
        left = self.end - (self.base + pos)
        self.at = self.base + pos
        if left <= 0:
            raise Broken("ends without STOP")
        if len(self.data) - pos < min(FIXED_BYTES, left):
            pos = self.more(pos, min(FIXED_BYTES, left))
        if left < FIXED_BYTES and 1 + FIXED_ARGUMENT_BYTES.get(self.data[pos], 0) > left:
            raise Broken("ends in the middle of an opcode")
        return pos

    def _op_proto(self, pos: int) -> int:
        version = self.data[pos]
        if version > 5:
            self.note(f"protocol {version}")
        self.mapped_protocol = version
        self.protocol = max(self.protocol, version)
        return pos + 1

    def _op_frame(self, pos: int) -> int:
        length = UINT64(self.data, pos)[0]
        self.frame_end = self.base + pos + 8 + length
        if self.frame_end > self.end:
            self.note("a frame goes beyond the end")
        return pos + 8

    def _op_readonly_buffer(self, pos: int) -> int:
        self.stack[-1]
        return pos

    def _op_stop(self, pos: int) -> int:
        raise _Stopped

    def _op_unknown(self, pos: int) -> int:
        raise Broken(f"no opcode has the number 0x{self.data[pos - 1]:02x}")


_HANDLERS: list[Callable[[_Machine, int], int]] = [
    getattr(_Machine, "_op_" + OPCODES.get(code, "unknown")) for code in range(256)
]

"""The restricted unpickler: the values that a stream describes, put together without importing or calling its names.

Plain containers and numbers come back as themselves, dicts of any kind as dicts. What the caller resolves (tensors,
arrays) comes back as the caller makes it. Every other object is a `Record`: its class by name, and what the stream
would have given to it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import msgspec

from regraft.errors import Damaged, LimitExceeded, PermitRefused, Unsupported
from regraft.package.formats.pickle_expansion import Expansion, TooMuchExpanded
from regraft.package.formats.pickle_values import (
    Blob,
    Call,
    Dict,
    Global,
    PersistentId,
    PickleStream,
    Set,
    Value,
    argument_pairs,
    bytes_of,
)
from regraft.package.limits import MAX_HEADER_BYTES
from regraft.package.reader import Reader

_DICTS = frozenset({"builtins.dict", "collections.OrderedDict", "collections.defaultdict"})
_ITERABLES: dict[str, Callable[[Any], Any]] = {
    "builtins.set": set, "builtins.frozenset": frozenset, "builtins.list": list, "builtins.tuple": tuple,
    "torch.Size": tuple,
}  # fmt: skip
_BYTES = frozenset({"builtins.bytes", "builtins.bytearray", "_codecs.encode"})
_MAX_DEPTH = 100
"""Levels of values; an object takes three. Six frames of Python each must fit below its recursion limit."""
PLAIN = _DICTS | _BYTES | frozenset(_ITERABLES) | {"builtins.int", "builtins.float", "builtins.bool", "builtins.str"}
"""Names that stand for values of Python, whatever a policy says."""


class RefusedGlobal(PermitRefused):
    """A pickle names something that is not on the list of what may be loaded."""


class Name(msgspec.Struct, frozen=True):
    """A class or function that a stream refers to; it was not imported."""

    path: str


class Record(msgspec.Struct, eq=False):
    """An object that was not made: what its class would have been called and filled with.

    Attributes:
        path: qualified name of the class or function.
        args, kwargs: of the call.
        attributes: what was to be restored under names.
        state: what was to be restored otherwise; None for nothing.
        items, pairs: what was to be put into it.
    """

    path: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    attributes: dict[str, Any] = {}
    state: Any = None
    items: list[Any] = []
    pairs: dict[Any, Any] = {}


class Unresolved(Exception):
    """Raised by a resolver for a value that is none of its own."""


def restricted_values(
    stream: PickleStream,
    reader: Reader,
    *,
    allow: Collection[str] | None = None,
    resolve: Callable[[Value, Callable[[Value], Any]], Any] | None = None,
    limit: int = MAX_HEADER_BYTES,
) -> Any:
    """What unpickling a stream would return, with records in the place of objects. Nothing is imported or called.

    Args:
        stream: what the machine saw.
        reader: the content that it followed; long strings are read from there.
        allow: qualified names that the stream may have beside `PLAIN`; None where all of them were reviewed.
        resolve: makes the value of a call or a persistent id, or raises `Unresolved`; its second argument makes
            the values that it needs.
        limit: bytes of long strings that are read at most.
    Raises:
        RefusedGlobal: a name is not allowed, is computed, or is written to; says which, and its offset.
        Damaged: the stream is broken, or nothing that Python could build.
        LimitExceeded: nested too deep, more than `limit` bytes, or keys that take too long to hash.
        Unsupported: out-of-band buffers.
    """
    check_names(stream, reader.where, allow=allow)
    if not stream.complete:
        problem = stream.problem.what if stream.problem else "does not end"
        raise Damaged(f"{problem} at byte {stream.end_offset}", where=reader.where)
    if stream.buffers:
        raise Unsupported("its arrays lie outside of the pickle", where=reader.where)
    try:
        return _Builder(reader, resolve, limit).value(stream.root, 0)
    except TooMuchExpanded as error:
        raise LimitExceeded(str(error), where=reader.where) from None
    except RecursionError:
        raise LimitExceeded("nested too deep for where it is loaded", where=reader.where) from None


def check_names(stream: PickleStream, where: str, *, allow: Collection[str] | None) -> None:
    """See that a stream names only what is allowed, and does nothing to it but call it.

    Raises:
        RefusedGlobal: otherwise; says what, and its offset.
    """
    for name in stream.globals:
        known = name.module is not None and name.name is not None and name.extension is None
        if not known or (allow is not None and name.path not in PLAIN and name.path not in allow):
            raise RefusedGlobal(
                f"names {name.path} at byte {name.offset}, which is not allowed",
                where=where,
                hint="regraft scan shows what it would do",
            )
    for call in stream.calls:
        if not isinstance(call.function, Global) and call.kind != "build":
            raise RefusedGlobal(f"calls the result of a call at byte {call.offset}", where=where)
        if isinstance(call.function, Global) and call.kind in ("build", "append", "setitem"):
            raise RefusedGlobal(f"changes {call.function.path} itself at byte {call.offset}", where=where)


class _Builder:
    """Makes each value once, so that what a stream shares is shared, and what is cyclic stays so."""

    def __init__(
        self, reader: Reader, resolve: Callable[[Value, Callable[[Value], Any]], Any] | None, limit: int
    ) -> None:
        self._reader = reader
        self._resolve = resolve
        self._left = limit
        self._expansion = Expansion()
        self._made: dict[int, Any] = {}
        self._open: set[int] = set()

    def value(self, value: Value, depth: int) -> Any:
        if value is None or isinstance(value, bool | int | float | complex | str | bytes):
            return value
        if id(value) in self._made:
            return self._made[id(value)]
        if id(value) in self._open:
            raise Damaged("a value that is a part of itself", where=self._reader.where)
        if depth > _MAX_DEPTH:
            raise LimitExceeded(f"nested more than {_MAX_DEPTH} deep", where=self._reader.where)
        self._open.add(id(value))
        made = self._make(value, depth + 1)
        self._open.discard(id(value))
        self._made[id(value)] = made
        return made

    def _make(self, value: Value, depth: int) -> Any:
        if isinstance(value, list):
            return self._fill_list(self._begin(value, []), value, depth)
        if isinstance(value, tuple):
            return tuple(self.value(item, depth) for item in value)
        if isinstance(value, Dict):
            return self._fill_dict(self._begin(value, {}), value.pairs, depth)
        if isinstance(value, Set):
            for item in value.items:
                self._expansion.hash(item)
            return self._iterable(frozenset if value.frozen else set, value.items, depth)
        if isinstance(value, Global):
            return Name(value.path)
        if isinstance(value, Blob):
            return self._blob(value)
        if isinstance(value, Call | PersistentId):
            return self._object(value, depth)
        raise Damaged(f"a {type(value).__name__.lower()} in place of a value", where=self._reader.where)

    def _begin(self, value: Value, made: Any) -> Any:
        """Let what is inside refer to it already."""
        self._made[id(value)] = made
        return made

    def _fill_list(self, made: list[Any], items: Collection[Value], depth: int) -> list[Any]:
        made += [self.value(item, depth) for item in items]
        return made

    def _fill_dict(self, made: dict[Any, Any], pairs: Collection[tuple[Value, Value]], depth: int) -> dict[Any, Any]:
        for key, item in pairs:
            self._expansion.hash(key)
            try:
                made[self.value(key, depth)] = self.value(item, depth)
            except TypeError as error:
                raise Damaged(f"a key of a dict: {error}", where=self._reader.where) from None
        return made

    def _iterable(self, kind: Callable[[Any], Any], items: Collection[Value], depth: int) -> Any:
        try:
            return kind([self.value(item, depth) for item in items])
        except TypeError as error:
            raise Damaged(str(error), where=self._reader.where) from None

    def _object(self, value: Call | PersistentId, depth: int) -> Any:
        if self._resolve is not None:
            try:
                return self._resolve(value, lambda inner: self.value(inner, depth))
            except Unresolved:
                pass
        if isinstance(value, PersistentId):
            raise Damaged(f"refers to an object outside of it at byte {value.offset}", where=self._reader.where)
        return self._plain(value, depth)

    def _plain(self, call: Call, depth: int) -> Any:
        first = call.arguments[0] if call.arguments else ()
        items = first.items if isinstance(first, Set) else first
        if call.path in _DICTS:  # attributes of a dict (torch keeps versions there) are left out
            pairs = [*argument_pairs(call), *call.pairs]
            return self._fill_dict(self._begin(call, {}), pairs, depth)
        if call.path in _ITERABLES and not call.states and isinstance(items, list | tuple):
            self._expansion.call(call)
            return self._iterable(_ITERABLES[call.path], [*items, *call.items], depth)
        if call.path in _BYTES and (content := bytes_of(call)) is not None:
            return content
        if call.path == "_codecs.encode" and isinstance(first, Blob) and isinstance(text := self._blob(first), str):
            return text.encode("latin-1", "replace")
        return self._record(call, depth)

    def _record(self, call: Call, depth: int) -> Record:
        record: Record = self._begin(call, Record(call.path))
        arguments = call.args if isinstance(call.args, tuple) else (call.args,)
        record.args = tuple(self.value(argument, depth) for argument in arguments)
        record.items = [self.value(item, depth) for item in call.items]
        record.pairs = self._fill_dict({}, call.pairs, depth)
        if isinstance(call.kwargs, Dict):
            record.kwargs = self._fill_dict({}, call.kwargs.pairs, depth)
        for state in call.states:
            self._restore(record, state, depth)
        return record

    def _restore(self, record: Record, state: Value, depth: int) -> None:
        """As BUILD without `__setstate__` takes a state: a dict of attributes, or that and one of slots."""
        parts = state if isinstance(state, tuple) and len(state) == 2 else (state,)
        if all(part is None or isinstance(part, Dict) for part in parts):
            for part in parts:
                if isinstance(part, Dict):
                    record.attributes = self._fill_dict(record.attributes, part.pairs, depth)
        else:
            record.state = self.value(state, depth)

    def _blob(self, blob: Blob) -> bytes | str:
        self._left -= blob.length
        if self._left < 0:
            raise LimitExceeded("more bytes of strings than are loaded", where=self._reader.where)
        content = self._reader.read_exactly(blob.offset, blob.length)
        if blob.kind in ("bytes", "bytearray"):
            return content
        if blob.kind == "str":
            try:
                return content.decode("utf-8", "surrogatepass")
            except UnicodeDecodeError as error:
                raise Damaged(f"a string that is not UTF-8: {error.reason}", where=self._reader.where) from None
        if blob.kind == "string":
            return content.decode("latin-1")
        raise Unsupported(f"a long {blob.kind} at byte {blob.offset}", where=self._reader.where)

"""What a pickle stream builds, as abstract values: nothing here was imported or called.

A value is one of: None, bool, int, float, str, bytes, tuple, list (all as Python has them), `Dict`, `Set`, `Global`,
`Call`, `PersistentId`, `Blob`, `Buffer` or `Opaque`. Values are shared exactly as the stream shares them and may be
cyclic or nested without bound: never hash, compare, print or recurse into them; walk them with `named_values`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

import msgspec

from regraft.package.formats.interface import Problem
from regraft.package.limits import MAX_NESTING, MAX_TENSORS

Value: TypeAlias = object

_MODULE_TABLES = frozenset({"_parameters", "_buffers", "_modules"})


class Dict:
    """A dict as the pairs in which the stream stored them; a later pair overrides an earlier one of the same key."""

    __slots__ = ("_index", "_indexed", "pairs")

    def __init__(self) -> None:
        self.pairs: list[tuple[Value, Value]] = []
        self._index: dict[str, Value] | None = None
        self._indexed = 0

    def get(self, key: str, default: Value = None) -> Value:
        """The value under a str key."""
        if self._index is None or self._indexed != len(self.pairs):
            self._index = {k: v for k, v in self.pairs if type(k) is str}
            self._indexed = len(self.pairs)
        return self._index.get(key, default)


class Set:
    """A set or frozenset as the items in which the stream stored them."""

    __slots__ = ("frozen", "items")

    def __init__(self, items: list[Value], *, frozen: bool = False) -> None:
        self.items = items
        self.frozen = frozen


class Global:
    """A name that the unpickler would import.

    Attributes:
        module, name: as the unpickler of Python 3 resolves them (`__builtin__` → `builtins` below protocol 3);
            `name` may be dotted. None when the stream computes it, or it is longer than we keep.
        written: module and name as they stand in the stream.
        offset: of the opcode that names it.
        extension: code of an EXT opcode, which the loading process resolves through its copyreg registry.
    """

    __slots__ = ("extension", "module", "name", "offset", "written")

    def __init__(
        self,
        module: str | None,
        name: str | None,
        offset: int,
        *,
        written: tuple[str | None, str | None] | None = None,
        extension: int | None = None,
    ) -> None:
        self.module = module
        self.name = name
        self.offset = offset
        self.written = (module, name) if written is None else written
        self.extension = extension

    @property
    def path(self) -> str:
        """`module.name`, with `?` for what is unknown."""
        if self.extension is not None:
            return f"copyreg extension {self.extension}"
        return f"{self.module or '?'}.{self.name or '?'}"

    def __repr__(self) -> str:
        return f"Global({self.path}@{self.offset})"


class Call:
    """A call that the unpickler would make; as a value, the object that it would return.

    Attributes:
        function: the callable or class (`Global`, or any value); for `build`, `append`, `setitem`: the object changed.
        args: arguments, a tuple unless the stream passes something else; for `build` the 1-tuple of the state.
        kwargs: keyword arguments of `newobj_ex`, else None.
        kind: `reduce`, `newobj`, `newobj_ex`, `inst`, `obj`; events on an existing object: `build`, and `append`,
            `setitem` where that object is neither a plain container nor itself a call.
        offset: of the opcode.
        states: states that BUILD gave to the returned object, in order.
        items: what APPEND(S)/ADDITEMS put into the returned object.
        pairs: what SETITEM(S) put into the returned object.
    """

    __slots__ = ("args", "function", "items", "kind", "kwargs", "offset", "pairs", "states")

    def __init__(self, function: Value, args: Value, kind: str, offset: int, *, kwargs: Value = None) -> None:
        self.function = function
        self.args = args
        self.kwargs = kwargs
        self.kind = kind
        self.offset = offset
        self.states: list[Value] | tuple[()] = ()
        self.items: list[Value] | tuple[()] = ()
        self.pairs: list[tuple[Value, Value]] | tuple[()] = ()

    @property
    def path(self) -> str:
        """Qualified name of the callable when it is a `Global`, else `?`."""
        return self.function.path if isinstance(self.function, Global) else "?"

    @property
    def arguments(self) -> tuple[Value, ...]:
        """`args` when they are a tuple, else empty."""
        return self.args if isinstance(self.args, tuple) else ()

    @property
    def state(self) -> Value:
        """The last BUILD state, None when there was none."""
        return self.states[-1] if self.states else None

    def attribute(self, name: str, default: Value = None) -> Value:
        """What BUILD put under an attribute name (from a dict state, or a (dict, slots) pair); the latest wins."""
        for state in reversed(self.states):
            for part in reversed(state) if isinstance(state, tuple) and len(state) == 2 else (state,):
                if isinstance(part, Dict):
                    found = part.get(name, _MISSING)
                    if found is not _MISSING:
                        return found
        return default

    def __repr__(self) -> str:
        return f"Call({self.path}, {self.kind}@{self.offset})"


class PersistentId:
    """An object that lives outside of the stream; torch storages are such."""

    __slots__ = ("id", "offset")

    def __init__(self, id: Value, offset: int) -> None:  # noqa: A002
        self.id = id
        self.offset = offset


class Blob:
    """A long string or byte string that was skipped, not read.

    Attributes:
        kind: `bytes`, `bytearray`, `str`, `string` (Python 2 byte string), `escaped` (protocol 0 text) or `int`.
        offset: of the first payload byte.
        length: payload bytes.
    """

    __slots__ = ("kind", "length", "offset")

    def __init__(self, kind: str, offset: int, length: int) -> None:
        self.kind = kind
        self.offset = offset
        self.length = length

    def __repr__(self) -> str:
        return f"Blob({self.kind}, {self.length} bytes @{self.offset})"


class Buffer:
    """An out-of-band buffer (NEXT_BUFFER, protocol 5)."""

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        self.index = index


class Opaque:
    """A number that could not be read."""

    __slots__ = ("what",)

    def __init__(self, what: str) -> None:
        self.what = what


_MISSING = Opaque("missing")


class PickleStream(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What the machine found in one stream.

    Attributes:
        offset: where the stream begins.
        end_offset: first byte after STOP, or the place where reading ended.
        complete: STOP was reached and nothing was wrong on the way.
        stopped: STOP was reached.
        limited: ended because a bound of `package.limits` was met.
        problem: the first thing that was wrong, and where; None when `complete`.
        protocol: highest PROTO argument; without any 0 or 1, by the opcodes.
        opcodes: how many were executed.
        root: the value that unpickling returns; None when there is none.
        globals, calls, persistent_ids: in stream order, also those before a broken end.
        buffers: out-of-band buffers asked for.
        memoized: entries of the memo; every pickler writes some, plain text that looks like opcodes does not.
    """

    offset: int
    end_offset: int
    complete: bool
    stopped: bool
    limited: bool
    problem: Problem | None
    protocol: int
    opcodes: int
    root: Value
    globals: list[Global]
    calls: list[Call]
    persistent_ids: list[PersistentId]
    buffers: int
    memoized: int


def bytes_of(value: Value) -> bytes | None:
    """The bytes that a value stands for, None when they are not at hand.

    Understands what Python writes for bytes below protocol 3 (`_codecs.encode(text, "latin1")`, `bytes()`) and
    Python 2 strings.
    """
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        try:
            return value.encode("latin-1")
        except UnicodeEncodeError:
            return None
    if isinstance(value, Call):
        match value.path, value.arguments:
            case "_codecs.encode", (str() as text, "latin1"):
                return bytes_of(text)
            case (("builtins.bytes" | "builtins.bytearray"), (content, *_)):
                return bytes_of(content)
            case (("builtins.bytes" | "builtins.bytearray"), ()):
                return b""
    return None


def children(value: Value) -> Iterator[tuple[str, Value]]:
    """Name and value of everything directly inside a container or object; of arguments only those of a dict class."""
    if isinstance(value, Dict):
        yield from _named_pairs(value.pairs)
    elif isinstance(value, (list, tuple)):
        yield from ((str(index), item) for index, item in enumerate(value))
    elif isinstance(value, Set):
        yield from ((str(index), item) for index, item in enumerate(value.items))
    elif isinstance(value, Call):
        yield from _named_pairs(argument_pairs(value))
        yield from _named_pairs(value.pairs)
        yield from ((str(index), item) for index, item in enumerate(value.items))
        for state in value.states:
            parts = state if isinstance(state, tuple) and len(state) == 2 else (state,)
            for part in parts:
                if isinstance(part, Dict):
                    yield from _named_pairs(part.pairs)
                elif part is not None:
                    yield "", part


def argument_pairs(call: Call) -> list[tuple[Value, Value]]:
    """The pairs that a dict class is called with; Python 2 wrote `OrderedDict([[key, value], …])`."""
    if call.path not in ("collections.OrderedDict", "builtins.dict"):
        return []
    first = call.arguments[0] if call.arguments else None
    if isinstance(first, Dict):
        return first.pairs
    items = first if isinstance(first, list) else []
    return [(item[0], item[1]) for item in items if isinstance(item, (list, tuple)) and len(item) == 2]


def _named_pairs(pairs: Iterable[tuple[Value, Value]]) -> Iterator[tuple[str, Value]]:
    for key, item in pairs:
        if isinstance(key, (str, int, float, bytes)):
            yield (key if isinstance(key, str) else repr(key)[:200]), item
        else:
            yield "?", item


def named_values(
    root: Value, *, max_depth: int = MAX_NESTING, max_values: int = 4 * MAX_TENSORS
) -> Iterator[tuple[str, Value]]:
    """Every value below (and including) `root` that is not a plain container, with its dotted name, depth first.

    Descends into dicts, lists, tuples, sets, and into what was put into or built on an object (`OrderedDict` pairs,
    BUILD state), not into call arguments. Of a `torch.nn.Module` the tables `_parameters`, `_buffers` and `_modules`
    leave no part in the name, so that names are those of its state dict. A shared leaf is met under each of its
    names, a shared container or object is descended into once.

    Args:
        root: of a `PickleStream`.
        max_depth: levels that are descended into; deeper values are left out.
        max_values: ends the walk after that many values.
    """
    pending: list[tuple[str, Value, int]] = [("", root, 0)]
    descended: set[int] = set()
    for _ in range(max_values):
        if not pending:
            return
        name, value, depth = pending.pop()
        if not isinstance(value, (Dict, list, tuple, Set)):
            yield name, value
            if not isinstance(value, Call):
                continue
        if depth >= max_depth or id(value) in descended:
            continue
        descended.add(id(value))
        prefix = f"{name}." if name else ""
        below = [
            (name if not key or key in _MODULE_TABLES else prefix + key, item, depth + 1)
            for key, item in children(value)
        ]
        pending.extend(reversed(below))

"""How much work a pickle makes of what it shares: hashing and copying go through a value once for each way to it.

A tuple of the same tuple twice, thirty levels deep, is thirty values and 2³⁰ steps of hashing. Source: CPython 3.11 to
3.14, Objects/tupleobject.c (`tuple_hash` visits every element, and keeps no result before 3.14).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from regraft.package.formats.pickle_values import Call, Dict, Set, Value

MAX_EXPANDED_VALUES = 10_000_000
"""Values that the keys and copies of one stream may amount to; half a second of hashing."""
_SETS = frozenset({"builtins.set", "builtins.frozenset"})
_COPIES = _SETS | {"builtins.list", "builtins.tuple", "torch.Size"}
_PAIRS = frozenset({"builtins.dict", "collections.OrderedDict", "collections.Counter"})


class TooMuchExpanded(Exception):
    """The keys and copies of a stream amount to more than `MAX_EXPANDED_VALUES`."""

    def __init__(self) -> None:
        super().__init__(f"its keys and copies amount to more than {MAX_EXPANDED_VALUES} values")


class Expansion:
    """Counts what hashing and copying visit in one stream.

    Every method raises:
        TooMuchExpanded: it became more than `MAX_EXPANDED_VALUES` in all.
    """

    def __init__(self) -> None:
        self._spent = 0
        self._sizes: dict[int, tuple[Value, int]] = {}
        self._open: set[int] = set()

    def hash(self, key: Value) -> None:
        """A value becomes a key of a dict or a member of a set."""
        if isinstance(key, tuple | Call | Set):
            self._spend(self._size(key))

    def call(self, call: Call) -> None:
        """A call copies what it is given, and hashes it where it makes a set or a dict."""
        if call.path in _COPIES:
            for items in _parts(call):
                self._spend(1 + len(items))
                if call.path in _SETS:
                    for item in items:
                        self.hash(item)
        elif call.path in _PAIRS and call.arguments:
            first = call.arguments[0]
            pairs = first.pairs if isinstance(first, Dict | Call) else ()
            self._spend(len(pairs) + len(_items(first)))
            for item in _items(first):
                self.hash(item[0] if isinstance(item, tuple | list) and item else item)
            for key, _ in pairs:
                self.hash(key)

    def _spend(self, values: int) -> None:
        self._spent += values
        if self._spent > MAX_EXPANDED_VALUES:
            raise TooMuchExpanded

    def _size(self, root: Value) -> int:
        """Values that hashing visits, each as often as there are ways to it; not beyond the bound."""
        pending = [root]
        while pending:
            value = pending[-1]
            if id(value) in self._sizes:
                pending.pop()
                continue
            below = [item for item in _hashed(value) if isinstance(item, tuple | Call | Set)]
            unknown = [item for item in below if id(item) not in self._sizes]
            if unknown and id(value) not in self._open:
                self._open.add(id(value))
                pending.extend(unknown)
                continue
            self._open.discard(id(value))
            inside = sum(self._sizes[id(item)][1] for item in below if id(item) in self._sizes)
            size = 1 + len(_hashed(value)) + inside
            self._sizes[id(value)] = (value, min(size, MAX_EXPANDED_VALUES + 1))
            pending.pop()
        return self._sizes[id(root)][1]


def _parts(call: Call) -> Iterator[Sequence[Value]]:
    """What a call copies, through a chain of calls that each copy the one before."""
    met: set[int] = set()
    value: Value = call
    while isinstance(value, Call) and value.path in _COPIES and id(value) not in met:
        met.add(id(value))
        yield value.items
        value = value.arguments[0] if value.arguments else None
    yield _items(value)


def _items(value: Value) -> Sequence[Value]:
    if isinstance(value, Set):
        return value.items
    return value if isinstance(value, list | tuple) else ()


def _hashed(value: Value) -> Sequence[Value]:
    """What the hash of a value is made of."""
    if isinstance(value, Call):
        first = value.arguments[0] if value.path in _COPIES and value.arguments else None
        return (first,) if isinstance(first, Call) else _items(first)
    return _items(value) if isinstance(value, tuple | Set) else ()

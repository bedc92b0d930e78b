"""Opcodes that build: containers, the memo, names, calls, persistent objects."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias, TypeVar

from regraft.package.formats.pickle_constants import INT32, INT_DIGITS, UINT16, Constants
from regraft.package.formats.pickle_expansion import Expansion
from regraft.package.formats.pickle_values import Blob, Buffer, Call, Dict, Global, Opaque, PersistentId, Set, Value
from regraft.package.formats.pickle_window import Broken
from regraft.package.reader import Reader

_T = TypeVar("_T")

RawBytes: TypeAlias = "Callable[[Call, int], int]"
"""Given an object that BUILD has just finished and the offset behind it: how many bytes there are no opcodes."""


@functools.cache
def _python2_names() -> tuple[dict[tuple[str, str], tuple[str, str]], dict[str, str]]:
    import _compat_pickle

    return _compat_pickle.NAME_MAPPING, _compat_pickle.IMPORT_MAPPING


class Objects(Constants):
    """Handlers over the stack and the memo; what would be imported and called is collected in stream order."""

    def __init__(self, reader: Reader, offset: int, end: int, raw_bytes: RawBytes | None) -> None:
        super().__init__(reader, offset, end)
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
        self.expansion = Expansion()

    def _op_empty_tuple(self, pos: int) -> int:
        self.stack.append(())
        return pos

    def _op_empty_list(self, pos: int) -> int:
        self.containers += 1
        self.stack.append([])
        return pos

    def _op_empty_dict(self, pos: int) -> int:
        self.containers += 1
        self.stack.append(Dict())
        return pos

    def _op_empty_set(self, pos: int) -> int:
        self.containers += 1
        self.stack.append(Set([]))
        return pos

    def _op_mark(self, pos: int) -> int:
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

    def _op_tuple_(self, pos: int) -> int:
        items = self._items()
        self.stack.append(tuple(items))
        return pos

    def _op_tuple1(self, pos: int) -> int:
        self.containers += 1
        self.stack[-1] = (self.stack[-1],)
        return pos

    def _op_tuple2(self, pos: int) -> int:
        self.containers += 1
        last = self.stack.pop()
        self.stack[-1] = (self.stack[-1], last)
        return pos

    def _op_tuple3(self, pos: int) -> int:
        self.containers += 1
        last, middle = self.stack.pop(), self.stack.pop()
        self.stack[-1] = (self.stack[-1], middle, last)
        return pos

    def _op_list_(self, pos: int) -> int:
        items = self._items()
        self.stack.append(items)
        return pos

    def _op_frozenset_(self, pos: int) -> int:
        items = self._items()
        self._hash(items)
        self.stack.append(Set(items, frozen=True))
        return pos

    def _op_dict_(self, pos: int) -> int:
        items = self._items()
        made = Dict()
        made.pairs.extend(self._pairs(items))
        self.stack.append(made)
        return pos

    def _pairs(self, items: list[Value]) -> Iterator[tuple[Value, Value]]:
        if len(items) % 2:
            raise Broken("an odd number of keys and values")
        self._hash(items[::2])
        return zip(items[::2], items[1::2], strict=True)

    def _hash(self, keys: list[Value]) -> None:
        for key in keys:
            if isinstance(key, tuple | Call | Set):
                self.expansion.hash(key)

    def _op_append(self, pos: int) -> int:
        item = self.stack.pop()
        self._extend([item])
        return pos

    def _op_appends(self, pos: int) -> int:
        self._extend(self._items())
        return pos

    def _extend(self, items: list[Value]) -> None:
        target = self.stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif isinstance(target, Set):
            self._hash(items)
            target.items.extend(items)
        elif isinstance(target, Call):
            target.items = _longer(target.items, items)
        else:
            self.calls.append(Call(target, tuple(items), "append", self.at))

    def _op_setitem(self, pos: int) -> int:
        value, key = self.stack.pop(), self.stack.pop()
        self._update([key, value])
        return pos

    def _op_setitems(self, pos: int) -> int:
        self._update(self._items())
        return pos

    def _update(self, items: list[Value]) -> None:
        target = self.stack[-1]
        if isinstance(target, Dict):
            target.pairs.extend(self._pairs(items))
        elif isinstance(target, Call):
            target.pairs = _longer(target.pairs, self._pairs(items))
        else:
            self.calls.append(Call(target, tuple(self._pairs(items)), "setitem", self.at))

    # Stack and memo

    def _op_pop(self, pos: int) -> int:
        if self.stack:
            self.stack.pop()
        else:
            self._items()
        return pos

    def _op_pop_mark(self, pos: int) -> int:
        self._items()
        return pos

    def _op_dup(self, pos: int) -> int:
        self.stack.append(self.stack[-1])
        return pos

    def _op_get_line(self, pos: int) -> int:
        text, pos = self.line(pos)
        self.stack.append(self.memo[_memo_key(text)])
        return pos

    def _op_put_line(self, pos: int) -> int:
        text, pos = self.line(pos)
        self.memo[_memo_key(text)] = self.stack[-1]
        return pos

    def _op_memoize(self, pos: int) -> int:
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
        self.containers += 1
        found = Global(resolved[0], resolved[1], self.at, written=written, extension=extension)
        self.globals.append(found)
        return found

    def _op_global_(self, pos: int) -> int:
        module, pos = self.line(pos)
        name, pos = self.line(pos)
        self.stack.append(self._global(_name(module), _name(name)))
        return pos

    def _op_stack_global(self, pos: int) -> int:
        name, module = self.stack.pop(), self.stack.pop()
        self.stack.append(self._global(module, name))
        return pos

    def _op_ext1(self, pos: int) -> int:
        self.stack.append(self._global(None, None, extension=self.data[pos]))
        return pos + 1

    def _op_ext2(self, pos: int) -> int:
        self.stack.append(self._global(None, None, extension=UINT16(self.data, pos)[0]))
        return pos + 2

    def _op_ext4(self, pos: int) -> int:
        self.stack.append(self._global(None, None, extension=INT32(self.data, pos)[0]))
        return pos + 4

    def _call(self, function: Value, args: Value, kind: str, kwargs: Value = None) -> Call:
        self.containers += 1
        call = Call(function, args, kind, self.at, kwargs=kwargs)
        self.calls.append(call)
        if kind != "build":
            self.expansion.call(call)
        return call

    def _op_reduce(self, pos: int) -> int:
        args = self.stack.pop()
        self.stack[-1] = self._call(self.stack[-1], args, "reduce")
        return pos

    def _op_newobj(self, pos: int) -> int:
        args = self.stack.pop()
        self.stack[-1] = self._call(self.stack[-1], args, "newobj")
        return pos

    def _op_newobj_ex(self, pos: int) -> int:
        kwargs, args = self.stack.pop(), self.stack.pop()
        self.stack[-1] = self._call(self.stack[-1], args, "newobj_ex", kwargs)
        return pos

    def _op_inst(self, pos: int) -> int:
        module, pos = self.line(pos)
        name, pos = self.line(pos)
        function = self._global(_name(module), _name(name))
        args = self._items()
        self.stack.append(self._call(function, tuple(args), "inst"))
        return pos

    def _op_obj(self, pos: int) -> int:
        function, *args = self._items() or [Opaque("class")]
        self.stack.append(self._call(function, tuple(args), "obj"))
        return pos

    def _op_build(self, pos: int) -> int:
        state = self.stack.pop()
        target = self.stack[-1]
        self._call(target, (state,), "build")
        if isinstance(target, Call):
            target.states = _longer(target.states, [state])
            if self.raw_bytes is not None:
                return self._skip_raw(target, pos)
        return pos

    def _skip_raw(self, target: Call, pos: int) -> int:
        assert self.raw_bytes is not None
        offset = self.base + pos
        length = self.raw_bytes(target, offset)
        if length and offset < self.frame_end:
            self.note("raw bytes begin inside of a frame")
            return pos
        return self.seek(offset + length) if length else pos

    def _op_persid_line(self, pos: int) -> int:
        text, pos = self.line(pos)
        return self._persistent(_name(text), pos)

    def _op_binpersid(self, pos: int) -> int:
        return self._persistent(self.stack.pop(), pos)

    def _persistent(self, value: Value, pos: int) -> int:
        self.containers += 1
        found = PersistentId(value, self.at)
        self.persistent_ids.append(found)
        self.stack.append(found)
        return pos

    def _op_next_buffer(self, pos: int) -> int:
        self.stack.append(Buffer(self.buffers))
        self.buffers += 1
        return pos


def _longer(kept: list[_T] | tuple[()], more: Iterable[_T]) -> list[_T]:
    """Extend in place; most calls never get anything, and an empty tuple costs nothing."""
    if isinstance(kept, tuple):
        return list(more)
    kept.extend(more)
    return kept


def _name(text: bytes | Blob) -> str | None:
    try:
        return None if isinstance(text, Blob) else text.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return None


def _memo_key(text: bytes | Blob) -> int:
    try:
        key = -1 if isinstance(text, Blob) or len(text) > INT_DIGITS else int(text)
    except ValueError:
        key = -1
    if key < 0:
        raise Broken("a memo index that is none")
    return key

"""MessagePack files: Flax parameters, thinc and spaCy models, and any other. Payloads are skipped, not read.

Source: the MessagePack specification; extension type 1 as flax.serialization writes it; the `nd` maps of msgpack-numpy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias
from weakref import WeakKeyDictionary

import msgspec

from regraft.errors import Damaged, LimitExceeded
from regraft.package.formats.interface import Description, Loading, Probe, Problem, Role, Tensor
from regraft.package.limits import MAX_NESTING
from regraft.package.reader import Reader

_MAX_ITEMS = 200_000
_MAX_TEXT_BYTES = 4096
_PAGE_BYTES = 1 << 16
_NDARRAY, _COMPLEX, _SCALAR = 1, 2, 3
_CHUNKED = "__msgpack_chunked_array__"
_NUMPY_KINDS = {"f": "float", "i": "int", "u": "uint", "c": "complex", "b": "bool"}


class Blob(msgspec.Struct, frozen=True):
    """A payload that was skipped: where it is, and its extension type when it is one."""

    offset: int
    size_bytes: int
    ext: int | None = None


Key: TypeAlias = "str | int | float | bool | None"
Item: TypeAlias = "Key | Blob | list[Item] | dict[Key, Item]"


class FlaxMsgpack:
    """Format `flax-msgpack`: maps of names whose leaves are extension type 1 arrays."""

    name = "flax-msgpack"
    title = "Flax parameters (msgpack)"
    role = Role.WEIGHTS
    loading = Loading.INERT
    suffixes = (".msgpack",)

    def matches(self, probe: Probe) -> bool:
        """A map with at least one array as Flax writes it."""
        content = _content(probe)
        return isinstance(content, dict) and any(True for _ in _flax_arrays(content, probe.reader))

    def describe(self, probe: Probe) -> Description:
        """Every array with its path through the maps.

        Raises:
            Damaged, LimitExceeded: the structure is broken, or beyond the bounds.
        """
        content = read_msgpack(probe.reader)
        tensors = tuple(tensor for tensor in _flax_arrays(content, probe.reader) if isinstance(tensor, Tensor))
        problems = tuple(item for item in _flax_arrays(content, probe.reader) if isinstance(item, Problem))
        keys = ", ".join(str(key) for key in content)[:500] if isinstance(content, dict) else ""
        return Description(tensors=tensors, metadata={"keys": keys}, problems=problems)


class Msgpack:
    """Format `msgpack`: any other MessagePack file."""

    name = "msgpack"
    title = "MessagePack data"
    role = Role.DATA
    loading = Loading.INERT
    suffixes = (".msgpack", ".mpk")

    def matches(self, probe: Probe) -> bool:
        """One map or array that ends where the file ends (looked at up to 200,000 items)."""
        return _content(probe) is not None

    def describe(self, probe: Probe) -> Description:
        """Arrays in msgpack-numpy maps as tensors; keys of the outermost map."""
        content = _content(probe)
        if content is None:
            raise Damaged("not one whole MessagePack object", where=probe.reader.where)
        if content is True:
            return Description(problems=(Problem(f"only the first {_MAX_ITEMS} items were looked at", kind="partial"),))
        tensors = tuple(_numpy_arrays(content))
        keys = ", ".join(str(key) for key in list(content)[:50])[:500] if isinstance(content, dict) else ""
        return Description(tensors=tensors or None, metadata={"keys": keys} if keys else {})


def read_msgpack(reader: Reader) -> Item:
    """The structure of a MessagePack file; strings beyond 4 KiB and all payloads become `Blob`.

    Raises:
        Damaged: it is not one whole object.
        LimitExceeded: more than 200,000 items, or nested deeper than `MAX_NESTING`.
    """
    walk = _Walk(reader)
    content = walk.item(depth=0)
    if walk.position != reader.size:
        raise Damaged(f"one object ends at {walk.position} of {reader.size} bytes", where=reader.where)
    return content


_CONTENTS: WeakKeyDictionary[Probe, Item] = WeakKeyDictionary()


def _content(probe: Probe) -> Item:
    """The structure when the whole file is one map or array, `True` when it is too large to tell, else None."""
    if not probe.head or not (0x80 <= probe.head[0] <= 0x9F or 0xDC <= probe.head[0] <= 0xDF) or probe.reader.size < 3:
        return None
    if probe not in _CONTENTS:
        try:
            _CONTENTS[probe] = read_msgpack(probe.reader)
        except _TooManyItems:
            _CONTENTS[probe] = True
        except Damaged:  # nested too deeply counts as no MessagePack: noise is, within a few bytes
            _CONTENTS[probe] = None
    return _CONTENTS[probe]


class _TooManyItems(LimitExceeded):
    """What was looked at is sound, and there is more."""


class _Walk:
    """A position in the file, read page by page."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._page = b""
        self._page_start = 0
        self._items = 0
        self.position = 0

    def item(self, *, depth: int) -> Item:
        self._items += 1
        if self._items > _MAX_ITEMS:
            raise _TooManyItems(f"more than {_MAX_ITEMS} items", where=self._reader.where)
        if depth > MAX_NESTING:
            raise LimitExceeded(f"nested deeper than {MAX_NESTING}", where=self._reader.where)
        head = self._uint(1)
        if head < 0x80:
            return head
        if head < 0x90:
            return self._map(head & 0x0F, depth)
        if head < 0xA0:
            return self._list(head & 0x0F, depth)
        if head < 0xC0:
            return self._text(head & 0x1F)
        if head >= 0xE0:
            return head - 0x100
        return self._tagged(head, depth)

    def _tagged(self, head: int, depth: int) -> Item:
        if head in (0xC0, 0xC2, 0xC3):
            return {0xC0: None, 0xC2: False, 0xC3: True}[head]
        if head in (0xC4, 0xC5, 0xC6):
            return self._blob(self._uint(1 << (head - 0xC4)))
        if head in (0xC7, 0xC8, 0xC9):
            size = self._uint(1 << (head - 0xC7))
            return self._blob(size, ext=self._uint(1))
        if head in (0xCA, 0xCB):
            self._skip(4 if head == 0xCA else 8)
            return 0.0
        if 0xCC <= head <= 0xCF:
            return self._uint(1 << (head - 0xCC))
        if 0xD0 <= head <= 0xD3:
            size = 1 << (head - 0xD0)
            value = self._uint(size)
            return value - (1 << 8 * size) if value >> (8 * size - 1) else value
        if 0xD4 <= head <= 0xD8:
            ext = self._uint(1)
            return self._blob(1 << (head - 0xD4), ext=ext)
        if 0xD9 <= head <= 0xDB:
            return self._text(self._uint(1 << (head - 0xD9)))
        if head in (0xDC, 0xDD):
            return self._list(self._uint(2 if head == 0xDC else 4), depth)
        if head in (0xDE, 0xDF):
            return self._map(self._uint(2 if head == 0xDE else 4), depth)
        raise Damaged(f"byte {head:#x} begins nothing at {self.position - 1}", where=self._reader.where)

    def _map(self, count: int, depth: int) -> dict[Key, Item]:
        self._expect(2 * count)
        found: dict[Key, Item] = {}
        for _ in range(count):
            key = self.item(depth=depth + 1)
            if isinstance(key, dict | list):
                raise Damaged(f"a map or list as a key at {self.position}", where=self._reader.where)
            value = self.item(depth=depth + 1)
            if isinstance(key, Blob):
                raw = self._reader.read_at(key.offset, min(key.size_bytes, _MAX_TEXT_BYTES))
                key = raw.decode("utf-8", "replace")
            found[key if isinstance(key, str | int | float) or key is None else repr(key)[:200]] = value
        return found

    def _list(self, count: int, depth: int) -> list[Item]:
        self._expect(count)
        return [self.item(depth=depth + 1) for _ in range(count)]

    def _expect(self, items: int) -> None:
        """Every item takes a byte at least."""
        if items > self._reader.size - self.position:
            raise Damaged(f"{items} items from {self.position} on, the end is before", where=self._reader.where)

    def _text(self, size: int) -> Item:
        if size > _MAX_TEXT_BYTES:
            return self._blob(size)
        return self._take(size).decode("utf-8", "replace")

    def _blob(self, size: int, *, ext: int | None = None) -> Blob:
        start = self.position
        self._skip(size)
        return Blob(start, size, ext)

    def _uint(self, size: int) -> int:
        return int.from_bytes(self._take(size), "big")

    def _skip(self, size: int) -> None:
        if self.position + size > self._reader.size:
            raise Damaged(f"needs {size} bytes at {self.position}, the end is before", where=self._reader.where)
        self.position += size

    def _take(self, size: int) -> bytes:
        begin = self.position - self._page_start
        if begin < 0 or begin + size > len(self._page):
            self._page = self._reader.read_at(self.position, max(size, _PAGE_BYTES))
            self._page_start, begin = self.position, 0
        self._skip(size)
        return self._page[begin : begin + size]


def _leaves(content: Item) -> Iterator[tuple[str, Item]]:
    """Path and value of everything that is no plain map or list; arrays in maps count as leaves."""
    pending: list[tuple[str, Item]] = [("", content)]
    while pending:
        path, item = pending.pop()
        if isinstance(item, dict) and not (_CHUNKED in item or "nd" in item):
            pending.extend((f"{path}/{key}" if path else str(key), item[key]) for key in reversed(list(item)))
        elif isinstance(item, list):
            pending.extend((f"{path}/{index}", item[index]) for index in reversed(range(len(item))))
        else:
            yield path, item


def _flax_arrays(content: Item, reader: Reader) -> Iterator[Tensor | Problem]:
    for path, item in _leaves(content):
        if isinstance(item, Blob) and item.ext in (_NDARRAY, _SCALAR):
            try:
                yield _flax_array(path, item, reader)
            except Damaged as damage:
                yield Problem(f"an array is not readable: {damage.what}", item.offset, path)
        elif isinstance(item, dict) and _CHUNKED in item:
            yield from _chunked_array(path, item, reader)


def _flax_array(path: str, blob: Blob, reader: Reader) -> Tensor:
    """The payload is (shape, dtype name, bytes)."""
    walk = _Walk(reader.section(blob.offset, blob.size_bytes))
    content = walk.item(depth=0)
    if not isinstance(content, list) or len(content) != 3:
        raise Damaged("an array payload that is no triple", where=reader.where)
    shape, dtype, data = content
    if not isinstance(shape, list) or not isinstance(dtype, str) or not isinstance(data, Blob | str):
        raise Damaged("an array payload without shape, dtype and bytes", where=reader.where)
    extents = _extents(shape, reader)
    return Tensor(path, dtype[:40], extents, data.size_bytes if isinstance(data, Blob) else len(data))


def _extents(shape: list[Item], reader: Reader) -> tuple[int, ...]:
    extents = []
    for extent in shape:
        if not isinstance(extent, int) or isinstance(extent, bool) or extent < 0:
            raise Damaged(f"{str(extent)[:40]!r} is no extent of an array", where=reader.where)
        extents.append(extent)
    return tuple(extents)


def _chunked_array(path: str, item: Mapping[Key, Item], reader: Reader) -> Iterator[Tensor | Problem]:
    """An array beyond 1 GiB, as Flax cuts it: its shape, and flat chunks."""
    shape, chunks = item.get("shape"), item.get("chunks")
    if not isinstance(shape, dict) or not isinstance(chunks, dict):
        yield Problem("a chunked array without shape and chunks", member=path)
        return
    try:
        parts = [_flax_array(path, chunk, reader) for chunk in chunks.values() if isinstance(chunk, Blob)]
        extents = _extents(list(shape.values()), reader)
    except Damaged as damage:
        yield Problem(f"a chunked array is not readable: {damage.what}", member=path)
        return
    dtype = parts[0].dtype if parts else "unknown"
    yield Tensor(path, dtype, extents, sum(part.size_bytes or 0 for part in parts))


def _numpy_arrays(content: Item) -> Iterator[Tensor]:
    """Arrays as msgpack-numpy maps: `nd`, `type`, `shape`, `data`."""
    for path, item in _leaves(content):
        if isinstance(item, dict) and item.get("nd") is True:
            kind, shape, data = item.get("type"), item.get("shape"), item.get("data")
            extents = [extent for extent in shape if type(extent) is int] if isinstance(shape, list) else []
            if isinstance(shape, list) and len(extents) == len(shape):
                size = data.size_bytes if isinstance(data, Blob) else None
                yield Tensor(path, _numpy_dtype(kind), tuple(extents), size)


def _numpy_dtype(kind: Item) -> str:
    text = kind.strip("<>=|") if isinstance(kind, str) else ""
    if len(text) >= 2 and text[0] in _NUMPY_KINDS and text[1:].isascii() and text[1:].isdigit() and len(text) < 4:
        return "bool" if text[0] == "b" else f"{_NUMPY_KINDS[text[0]]}{int(text[1:]) * 8}"
    return text[:40] or "unknown"

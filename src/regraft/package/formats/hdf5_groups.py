"""HDF5 groups: their links, in symbol tables, in header messages, or dense in a fractal heap.

Source: HDF5 File Format Specification 3.0, sections III.A to III.D and III.G, IV.A.2.g.
Not read: huge and tiny heap objects, and filtered heaps; they raise `Damaged` with that reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from regraft.errors import Damaged, LimitExceeded
from regraft.package.formats.cursor import Cursor
from regraft.package.formats.hdf5_objects import Medium, Message, MessageType
from regraft.package.limits import MAX_TENSORS

_MAX_TREE_DEPTH = 32


class Link(msgspec.Struct, frozen=True):
    """One entry of a group: a hard link has an address, a soft or external one has only a target."""

    name: str
    address: int | None = None
    target: str | None = None
    is_external: bool = False


class _Heap(msgspec.Struct, frozen=True):
    """The numbers of a fractal heap's header that are needed to find an object in its blocks."""

    offset_bytes: int
    length_bytes: int
    width: int
    start_block: int
    max_direct: int
    root: int
    rows: int


def read_links(messages: Sequence[Message], medium: Medium) -> Iterator[Link]:
    """The links of a group from the messages of its object header.

    Raises:
        Damaged, LimitExceeded: its tables are inconsistent, or of a kind that is not read.
    """
    for message in messages:
        body = Cursor(message.body, start=message.start, where=medium.reader.where)
        if message.type == MessageType.LINK:
            yield _link(body, medium)
        elif message.type == MessageType.SYMBOL_TABLE:
            yield from _symbol_table(medium.address(body), medium.address(body), medium)
        elif message.type == MessageType.LINK_INFO:
            body.skip(1)
            body.skip(8 if body.uint(1) & 1 else 0)
            for raw in _dense(body, medium, record_prefix=4):
                yield _link(raw, medium)


def read_dense_attributes(message: Message, medium: Medium) -> Iterator[Cursor]:
    """The attribute messages that an attribute info message keeps in a fractal heap.

    Raises:
        Damaged, LimitExceeded: as `read_links`.
    """
    body = Cursor(message.body, start=message.start, where=medium.reader.where)
    body.skip(1)
    body.skip(2 if body.uint(1) & 1 else 0)
    yield from _dense(body, medium, record_prefix=0)


def _link(raw: Cursor, medium: Medium) -> Link:
    if raw.uint(1) != 1:
        raise Damaged("a link message of unknown version", where=medium.reader.where)
    flags = raw.uint(1)
    kind = raw.uint(1) if flags & 0x08 else 0
    raw.skip(8 if flags & 0x04 else 0)
    raw.skip(1 if flags & 0x10 else 0)
    name = raw.take(raw.uint(1 << (flags & 0x03))).decode("utf-8", "replace")
    if kind == 0:
        return Link(name, medium.address(raw))
    content = raw.take(raw.uint(2))
    if kind == 64:
        content = content[1:].rstrip(b"\x00").replace(b"\x00", b":", 1)
    return Link(name, target=content.decode("utf-8", "replace"), is_external=kind == 64)


def _symbol_table(tree: int, heap: int, medium: Medium) -> Iterator[Link]:
    prefix = medium.at(heap, 8 + 2 * medium.length_bytes + medium.address_bytes)
    prefix.expect(b"HEAP")
    prefix.skip(4)
    size = medium.length(prefix)
    medium.length(prefix)
    names = medium.at(medium.address(prefix), size).take(size)
    for node in _tree_leaves(tree, medium, depth=0, seen=set()):
        yield from _symbol_node(node, names, medium)


def _tree_leaves(address: int, medium: Medium, *, depth: int, seen: set[int]) -> Iterator[int]:
    """Addresses of the symbol table nodes below a version 1 B-tree node, in order."""
    if depth > _MAX_TREE_DEPTH or address in seen or len(seen) > MAX_TENSORS:
        raise Damaged("a B-tree that runs in circles", where=medium.reader.where)
    seen.add(address)
    prefix = medium.at(address, 8 + 2 * medium.address_bytes)
    prefix.expect(b"TREE")
    kind, level, used = prefix.uint(1), prefix.uint(1), prefix.uint(2)
    if kind != 0:
        raise Damaged(f"a B-tree of kind {kind} where a group's is expected", where=medium.reader.where)
    start = address + 8 + 2 * medium.address_bytes
    entries = medium.at(start, used * (medium.length_bytes + medium.address_bytes))
    for _ in range(used):
        medium.length(entries)
        child = medium.address(entries)
        if level == 0:
            yield child
        else:
            yield from _tree_leaves(child, medium, depth=depth + 1, seen=seen)


def _symbol_node(address: int, names: bytes, medium: Medium) -> Iterator[Link]:
    prefix = medium.at(address, 8)
    prefix.expect(b"SNOD")
    prefix.skip(2)
    count = prefix.uint(2)
    entries = medium.at(address + 8, count * (2 * medium.address_bytes + 24))
    for _ in range(count):
        name_offset, header = medium.address(entries), medium.address(entries)
        cache_kind = entries.uint(4)
        entries.skip(4)
        scratch = entries.take(16)
        name = _heap_name(names, name_offset, medium)
        if cache_kind == 2:
            yield Link(name, target=_heap_name(names, int.from_bytes(scratch[:4], "little"), medium))
        else:
            yield Link(name, header)


def _heap_name(names: bytes, offset: int, medium: Medium) -> str:
    end = names.find(b"\x00", offset)
    if not 0 <= offset < len(names) or end < 0:
        raise Damaged(f"a name at {offset} of a local heap of {len(names)} bytes", where=medium.reader.where)
    return names[offset:end].decode("utf-8", "replace")


def _dense(info: Cursor, medium: Medium, *, record_prefix: int) -> Iterator[Cursor]:
    """Objects of a fractal heap, in the order of the name index whose records hold their heap ids.

    Args:
        info: stands at the addresses of the heap and of the name index.
        record_prefix: bytes before the heap id in a record: 4 for links (hash), 0 for attributes.
    """
    heap_address, index_address = medium.address(info), medium.address(info)
    if medium.is_undefined(heap_address):
        return
    heap = _fractal_heap(heap_address, medium)
    for record in _index_records(index_address, medium):
        record.skip(record_prefix)
        yield _heap_object(record, heap, medium)


def _fractal_heap(address: int, medium: Medium) -> _Heap:
    a, n = medium.address_bytes, medium.length_bytes
    raw = medium.at(address, 26 + 12 * n + 3 * a)
    raw.expect(b"FRHP")
    raw.skip(3)
    if raw.uint(2):
        raise Damaged("a filtered fractal heap, which is not read", where=medium.reader.where)
    raw.skip(1)
    max_managed = raw.uint(4)
    raw.skip(n + a + n + a + 8 * n)
    width, start_block, max_direct = raw.uint(2), medium.length(raw), medium.length(raw)
    heap_bits = raw.uint(2)
    raw.skip(2)
    root, rows = medium.address(raw), raw.uint(2)
    offset_bytes = (heap_bits + 7) // 8
    length_limit = min(max_direct, max_managed)
    if not (width and start_block and max_direct >= start_block and heap_bits <= 64):
        raise Damaged("a fractal heap with impossible block sizes", where=medium.reader.where)
    return _Heap(offset_bytes, (length_limit.bit_length() + 7) // 8, width, start_block, max_direct, root, rows)


def _heap_object(identifier: Cursor, heap: _Heap, medium: Medium) -> Cursor:
    if identifier.uint(1) & 0x30:
        raise Damaged("a huge or tiny object in a fractal heap, which is not read", where=medium.reader.where)
    offset, length = identifier.uint(heap.offset_bytes), identifier.uint(heap.length_bytes)
    address, rows, begin = heap.root, heap.rows, 0
    for _ in range(_MAX_TREE_DEPTH):
        if rows == 0:  # a direct block
            return medium.at(address + offset - begin, length)
        row, column, begin = _block_of(offset, begin, heap)
        if row >= rows:
            raise Damaged("a heap object beyond the end of its heap", where=medium.reader.where)
        size = _row_block_bytes(row, heap)
        entry = 5 + medium.address_bytes + heap.offset_bytes + (row * heap.width + column) * medium.address_bytes
        address = medium.address(medium.at(address + entry, medium.address_bytes))
        rows = 0 if size <= heap.max_direct else _rows_within(size, heap)
    raise Damaged("a fractal heap that is too deep", where=medium.reader.where)


def _row_block_bytes(row: int, heap: _Heap) -> int:
    return heap.start_block << max(0, row - 1)


def _block_of(offset: int, begin: int, heap: _Heap) -> tuple[int, int, int]:
    """Row, column and first heap offset of the block of an indirect block (from `begin`) that covers an offset."""
    row = 0
    while offset - begin >= heap.width * _row_block_bytes(row, heap) and row < 64:
        begin += heap.width * _row_block_bytes(row, heap)
        row += 1
    column = (offset - begin) // _row_block_bytes(row, heap)
    return row, column, begin + column * _row_block_bytes(row, heap)


def _rows_within(size: int, heap: _Heap) -> int:
    """Number of rows of an indirect block that covers `size` bytes."""
    return (size // heap.width).bit_length() - heap.start_block.bit_length() + 1


def _index_records(address: int, medium: Medium) -> Iterator[Cursor]:
    """Records of a version 2 B-tree, one cursor each."""
    raw = medium.at(address, 16 + medium.address_bytes + 2 + medium.length_bytes)
    raw.expect(b"BTHD")
    raw.skip(2)
    node_bytes, record_bytes, depth = raw.uint(4), raw.uint(2), raw.uint(2)
    raw.skip(2)
    root, count = medium.address(raw), raw.uint(2)
    if record_bytes == 0 or node_bytes < 10 + record_bytes or depth > _MAX_TREE_DEPTH:
        raise Damaged("a B-tree with impossible sizes", where=medium.reader.where)
    if medium.is_undefined(root):
        return
    # Sizes of the counts in child pointers follow from how many records can be below (spec III.A.2).
    largest = (node_bytes - 10) // record_bytes
    count_bytes = (largest.bit_length() + 7) // 8
    totals = _total_bytes(node_bytes, record_bytes, depth, medium)
    budget = [MAX_TENSORS]
    yield from _index_node(root, count, depth, (record_bytes, count_bytes, totals), medium, budget)


def _total_bytes(node_bytes: int, record_bytes: int, depth: int, medium: Medium) -> list[int]:
    """For each level, bytes of a pointer's total count of records: 0 at leaves and just above them."""
    largest = (node_bytes - 10) // record_bytes
    count_bytes = (largest.bit_length() + 7) // 8
    below, sizes = largest, [0]
    for level in range(1, depth + 1):
        pointer = medium.address_bytes + count_bytes + sizes[level - 1]
        records = max(0, (node_bytes - 10 - pointer) // (record_bytes + pointer))
        below = (records + 1) * below + records
        sizes.append((below.bit_length() + 7) // 8)
    return sizes


def _index_node(
    address: int, count: int, level: int, sizes: tuple[int, int, list[int]], medium: Medium, budget: list[int]
) -> Iterator[Cursor]:
    record_bytes, count_bytes, totals = sizes
    budget[0] -= count + 1
    if budget[0] < 0:
        raise LimitExceeded(f"more than {MAX_TENSORS} entries in one group", where=medium.reader.where)
    prefix = medium.at(address, 6)
    prefix.expect(b"BTIN" if level else b"BTLF")
    records = medium.at(address + 6, count * record_bytes)
    for _ in range(count):
        start = records.start + records.position
        yield Cursor(records.take(record_bytes), start=start, where=medium.reader.where)
    if level == 0:
        return
    total_bytes = totals[level - 1] if level > 1 else 0
    pointer_bytes = medium.address_bytes + count_bytes + total_bytes
    pointers = medium.at(address + 6 + count * record_bytes, (count + 1) * pointer_bytes)
    for _ in range(count + 1):
        child, below = medium.address(pointers), pointers.uint(count_bytes)
        pointers.skip(total_bytes)
        yield from _index_node(child, below, level - 1, sizes, medium, budget)

"""HDF5 datatypes, dataspaces and the values of attributes.

Source: HDF5 File Format Specification 3.0, sections III.E (global heap), IV.A.2.b, d, i and m.
"""

from __future__ import annotations

import struct
from typing import TypeAlias

import msgspec

from regraft.errors import Damaged, LimitExceeded
from regraft.package.formats.cursor import Cursor
from regraft.package.formats.hdf5_objects import Medium, Message, MessageType, read_messages
from regraft.package.limits import MAX_TEXT_BYTES

Scalar: TypeAlias = str | int | float | None
Value: TypeAlias = Scalar | tuple[Scalar, ...]
"""What an attribute holds: one value, or the flattened array; None stands for what cannot be told."""

_MAX_RANK = 32
_MAX_TYPE_DEPTH = 16
_MAX_ELEMENTS = 1_000_000
_FLOATS = {2: "e", 4: "f", 8: "d"}
_FLOAT8 = {2: "float8_e5m2", 3: "float8_e4m3"}
_CLASSES = {2: "time", 4: "bitfield", 5: "opaque", 6: "compound", 7: "reference", 11: "complex"}


class Datatype(msgspec.Struct, frozen=True):
    """How one element is stored.

    Attributes:
        dtype: the element in words: float32, int8, string, bool, compound, …
        size: bytes of one element in place (a variable-length one: of its reference).
        kind: `integer`, `float`, `string`, `vlen-string`, `vlen`, or `other`, whose values are not read.
        is_signed, is_big_endian: of a number.
    """

    dtype: str
    size: int
    kind: str = "other"
    is_signed: bool = False
    is_big_endian: bool = False


def parse_datatype(raw: Cursor, *, depth: int = 0) -> Datatype:
    """The datatype at the cursor.

    Raises:
        Damaged: it is cut off or nested beyond reason.
    """
    if depth > _MAX_TYPE_DEPTH:
        raise LimitExceeded(f"a datatype nested deeper than {_MAX_TYPE_DEPTH}")
    head = raw.uint(1)
    bits = raw.uint(3)
    size = raw.uint(4)
    kind, version = head & 0x0F, head >> 4
    big = bool(bits & 1)
    if kind == 0:
        raw.skip(4)
        signed = bool(bits & 8)
        return Datatype(f"{'int' if signed else 'uint'}{size * 8}", size, "integer", signed, big)
    if kind == 1:
        return _float(raw, size, is_big_endian=big)
    if kind == 3:
        return Datatype("string", size, "string")
    if kind == 8:
        return _enumeration(raw, size, bits & 0xFFFF, version, depth)
    if kind == 9:
        if bits & 0x0F == 1:
            return Datatype("string", size, "vlen-string")
        return Datatype(f"vlen {parse_datatype(raw, depth=depth + 1).dtype}", size, "vlen")
    if kind == 10:
        rank = raw.uint(1)
        raw.skip((3 if version < 3 else 0) + 4 * rank * (2 if version < 3 else 1))
        return Datatype(f"array of {parse_datatype(raw, depth=depth + 1).dtype}", size)
    return Datatype(_CLASSES.get(kind, f"class {kind}"), size)


def _float(raw: Cursor, size: int, *, is_big_endian: bool) -> Datatype:
    raw.skip(4)  # bit offset, precision
    raw.skip(3)  # exponent location and size, mantissa location
    mantissa = raw.uint(1)
    raw.skip(4)
    if size == 1:
        return Datatype(_FLOAT8.get(mantissa, "float8"), size)
    if size == 2 and mantissa == 7:
        return Datatype("bfloat16", size)
    return Datatype(f"float{size * 8}", size, "float" if size in _FLOATS else "other", True, is_big_endian)


def _enumeration(raw: Cursor, size: int, members: int, version: int, depth: int) -> Datatype:
    base = parse_datatype(raw, depth=depth + 1)
    names = []
    for _ in range(members):
        begin = raw.position
        names.append(raw.text())
        if version < 3:
            raw.skip(-(raw.position - begin) % 8)
    name = "bool" if sorted(names) == ["FALSE", "TRUE"] else base.dtype
    return msgspec.structs.replace(base, dtype=name, size=size)


def parse_dataspace(raw: Cursor, medium: Medium) -> tuple[int, ...] | None:
    """The extents at the cursor; `()` for a scalar, None for an empty (null) dataspace.

    Raises:
        Damaged: unknown version or more axes than HDF5 allows.
    """
    version, rank, flags = raw.uint(1), raw.uint(1), raw.uint(1)
    if version not in (1, 2) or rank > _MAX_RANK:
        raise Damaged(f"a dataspace of version {version} with {rank} axes", where=medium.reader.where)
    if version == 1:
        raw.skip(5)
    elif raw.uint(1) == 2:
        return None
    extents = tuple(medium.length(raw) for _ in range(rank))
    if flags & 1:
        raw.skip(rank * medium.length_bytes)
    return extents


def resolve(message: Message, medium: Medium) -> Cursor:
    """The body of a message, followed to where it is shared from.

    Raises:
        Damaged: it is shared by a way that cannot be followed.
    """
    if not message.is_shared:
        return Cursor(message.body, start=message.start, where=medium.reader.where)
    return _shared(Cursor(message.body, start=message.start, where=medium.reader.where), message.type, medium)


def _shared(raw: Cursor, kind: int, medium: Medium) -> Cursor:
    version, way = raw.uint(1), raw.uint(1)
    if version == 1:
        raw.skip(6)
    elif version == 3 and way == 1:
        raise Damaged("a message in the shared message heap, which is not read", where=medium.reader.where)
    for message in read_messages(medium, medium.address(raw)):
        if message.type == kind and not message.is_shared:
            return Cursor(message.body, start=message.start, where=medium.reader.where)
    raise Damaged("a shared message is not where it should be", where=medium.reader.where)


def parse_attribute(raw: Cursor, medium: Medium) -> tuple[str, Value]:
    """Name and value of an attribute message.

    Raises:
        Damaged, LimitExceeded: its content is inconsistent or too large.
    """
    version = raw.uint(1)
    if version not in (1, 2, 3):
        raise Damaged(f"an attribute of version {version}", where=medium.reader.where)
    flags = raw.uint(1)
    name_size, type_size, space_size = raw.uint(2), raw.uint(2), raw.uint(2)
    raw.skip(1 if version == 3 else 0)
    pieces = []
    for size in (name_size, type_size, space_size):
        start = raw.start + raw.position
        piece = raw.take(size)
        raw.skip(min(-size % 8, raw.left) if version == 1 else 0)
        pieces.append(Cursor(piece, start=start, where=medium.reader.where))
    name = pieces[0].take(name_size).split(b"\x00")[0].decode("utf-8", "replace")
    is_shared = version > 1 and bool(flags & 1)
    datatype = parse_datatype(_shared(pieces[1], MessageType.DATATYPE, medium) if is_shared else pieces[1])
    shape = parse_dataspace(pieces[2], medium)
    return name, _value(raw, datatype, shape, medium)


def _value(raw: Cursor, datatype: Datatype, shape: tuple[int, ...] | None, medium: Medium) -> Value:
    if shape is None:
        return None
    count = 1
    for extent in shape:
        count *= extent
    if count > _MAX_ELEMENTS or count * datatype.size > MAX_TEXT_BYTES:
        raise LimitExceeded(f"an attribute of {count} elements", where=medium.reader.where)
    values = tuple(_scalar(raw, datatype, medium) for _ in range(count))
    return values if shape else values[0]


def _scalar(raw: Cursor, datatype: Datatype, medium: Medium) -> Scalar:
    data = raw.take(datatype.size)
    if datatype.kind == "integer":
        order = "big" if datatype.is_big_endian else "little"
        return int.from_bytes(data, order, signed=datatype.is_signed)  # type: ignore[arg-type]
    if datatype.kind == "float":
        order = ">" if datatype.is_big_endian else "<"
        return float(struct.unpack(order + _FLOATS[datatype.size], data)[0])
    if datatype.kind == "string":
        return data.split(b"\x00")[0].decode("utf-8", "replace")
    if datatype.kind == "vlen-string":
        return _heap_text(Cursor(data, where=medium.reader.where), medium)
    return None


def _heap_text(reference: Cursor, medium: Medium) -> str:
    length = reference.uint(4)
    address = medium.address(reference)
    index = reference.uint(4)
    if length == 0 or medium.is_undefined(address) or address == 0:
        return ""
    if address not in medium.heaps:
        medium.heaps[address] = _global_heap(medium, address)
    if index not in medium.heaps[address]:
        raise Damaged(f"the global heap has no object {index}", where=medium.reader.where)
    return medium.heaps[address][index][:length].decode("utf-8", "replace")


def _global_heap(medium: Medium, address: int) -> dict[int, bytes]:
    """Index → content of every object of one global heap collection."""
    prefix = medium.at(address, 8 + medium.length_bytes)
    prefix.expect(b"GCOL")
    prefix.skip(4)
    size = medium.length(prefix)
    prefix_bytes = 8 + medium.length_bytes
    raw = medium.at(address + prefix_bytes, max(0, size - prefix_bytes))
    objects: dict[int, bytes] = {}
    while raw.left >= 8 + medium.length_bytes:
        index = raw.uint(2)
        raw.skip(6)
        length = medium.length(raw)
        if index == 0:  # the free space at the end
            break
        objects[index] = raw.take(length)
        raw.skip(min(-length % 8, raw.left))
    return objects

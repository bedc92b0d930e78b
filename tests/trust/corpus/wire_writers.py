"""Small writers of binary formats: protobuf fields, FlatBuffers tables, GGUF, safetensors."""

from __future__ import annotations

import json
import struct
from typing import Any


def varint(value: int) -> bytes:
    """A number as protobuf packs it."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, content: bytes | str | int) -> bytes:
    """A field of a protobuf message: text, bytes or message, or a number."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    raw = content.encode() if isinstance(content, str) else content
    return varint(number << 3 | 2) + varint(len(raw)) + raw


def flatbuffer(root: dict[int, Any], identifier: bytes) -> bytes:
    """A FlatBuffer; a table is a dict of field number → bytes (inline scalar), bytearray (vector of bytes), tuple (of
    32-bit integers), str, table, or list of these.
    """
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    builder.Finish(_table(builder, root), file_identifier=identifier)
    return bytes(builder.Output())


def _table(builder: Any, fields: dict[int, Any]) -> int:
    offsets = {slot: _stored(builder, item) for slot, item in fields.items() if not isinstance(item, bytes)}
    builder.StartObject(max(fields, default=-1) + 1)
    for slot, item in fields.items():
        if isinstance(item, bytes):
            width = {1: builder.PrependUint8Slot, 4: builder.PrependUint32Slot}[len(item)]
            width(slot, int.from_bytes(item, "little"), 0)
        else:
            builder.PrependUOffsetTRelativeSlot(slot, offsets[slot], 0)
    return int(builder.EndObject())


def _stored(builder: Any, item: Any) -> int:
    if isinstance(item, str):
        return int(builder.CreateString(item))
    if isinstance(item, dict):
        return _table(builder, item)
    if isinstance(item, bytearray):
        return int(builder.CreateByteVector(bytes(item)))
    if isinstance(item, tuple):
        builder.StartVector(4, len(item), 4)
        for number in reversed(item):
            builder.PrependInt32(number)
        return int(builder.EndVector())
    stored = [_stored(builder, inner) for inner in item]
    builder.StartVector(4, len(stored), 4)
    for offset in reversed(stored):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())


def gguf(facts: dict[str, str], *, tensors: int = 0, count: int | None = None) -> bytes:
    """A GGUF of version 3 with texts for metadata; `count` contradicts their number."""
    out = b"GGUF" + struct.pack("<IQQ", 3, tensors, len(facts) if count is None else count)
    for key, value in facts.items():
        for part, kind in ((key, b""), (value, struct.pack("<I", 8))):
            raw = part.encode()
            out += kind + struct.pack("<Q", len(raw)) + raw
    return out + bytes(-len(out) % 32)


def safetensors(header: Any, data: bytes = b"", *, length: int | None = None) -> bytes:
    """A safetensors file; `length` contradicts that of the header."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data

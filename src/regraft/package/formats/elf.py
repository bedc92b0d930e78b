"""ELF files as a dynamic loader sees them: names of symbols by the program headers, which sections need not agree with.

Source: System V ABI, chapters 4 and 5 (ELF header, program header, dynamic section).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from regraft.package.formats.interface import Probe

MAGIC = b"\x7fELF"
_PT_LOAD, _PT_DYNAMIC = 1, 2
_DT_NULL, _DT_STRTAB, _DT_STRSZ = 0, 5, 10
_MAX_SEGMENTS = 256
_MAX_DYNAMIC_BYTES = 64 << 10
_LEAST_NAMES_BYTES, _MAX_NAMES_BYTES = 1 << 20, 64 << 20
"""A loader does not hold itself to the size that a file states for its names: that much is looked at in any case."""


class _Segment(NamedTuple):
    kind: int
    offset: int
    address: int
    size: int


def symbol_names(probe: Probe) -> bytes:
    """Where a loader would look for the names of symbols, and some bytes behind; empty for what it would not open."""
    head = probe.head
    if not head.startswith(MAGIC) or len(head) < 64 or head[4] not in (1, 2) or head[5] not in (1, 2):
        return b""
    order, is_wide = "<>"[head[5] - 1], head[4] == 2
    segments = list(_segments(probe, order, is_wide=is_wide))
    entry = struct.Struct(f"{order}{'QQ' if is_wide else 'II'}")
    found: dict[int, int] = {}
    for segment in segments:
        if segment.kind != _PT_DYNAMIC:
            continue
        table = _mapped(probe, segments, segment.address, _MAX_DYNAMIC_BYTES)
        for tag, value in entry.iter_unpack(table[: len(table) // entry.size * entry.size]):
            if tag == _DT_NULL:
                break
            found[tag] = value
    if _DT_STRTAB not in found:
        return b""
    size = min(max(found.get(_DT_STRSZ, 0), _LEAST_NAMES_BYTES), _MAX_NAMES_BYTES)
    return _mapped(probe, segments, found[_DT_STRTAB], size)


def _segments(probe: Probe, order: str, *, is_wide: bool) -> Iterator[_Segment]:
    if is_wide:
        at, sizes = struct.unpack_from(f"{order}Q", probe.head, 32)[0], struct.unpack_from(f"{order}HH", probe.head, 54)
        row, places = struct.Struct(f"{order}IIQQQQQQ"), (0, 2, 3, 5)
    else:
        at, sizes = struct.unpack_from(f"{order}I", probe.head, 28)[0], struct.unpack_from(f"{order}HH", probe.head, 42)
        row, places = struct.Struct(f"{order}IIIIIIII"), (0, 1, 2, 4)
    entry_size, count = sizes
    if entry_size != row.size:  # loaders refuse it
        return
    table = probe.reader.read_at(at, min(count, _MAX_SEGMENTS) * row.size)
    for fields in row.iter_unpack(table[: len(table) // row.size * row.size]):
        yield _Segment(*(fields[place] for place in places))


def _mapped(probe: Probe, segments: list[_Segment], address: int, limit: int) -> bytes:
    """Up to `limit` bytes at an address, of the segment that is mapped there last."""
    for segment in reversed(segments):
        inside = address - segment.address
        if segment.kind == _PT_LOAD and 0 <= inside < segment.size:
            return probe.reader.read_at(segment.offset + inside, min(limit, segment.size - inside))
    return b""

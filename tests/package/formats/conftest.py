"""Damage for parsers, and a FlatBuffers writer small enough to be checked by eye."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from typing import Any

import pytest

from regraft.errors import RegraftError
from regraft.package.formats.interface import Description, Format, Probe
from regraft.package.reader import BytesReader

Hammer = Callable[..., int]


@pytest.fixture
def hammer() -> Hammer:
    """Cut and flip a file in many ways: `matches` must never raise, `describe` only errors of ours.

    Returns how many of the damaged files were still described.
    """

    def hit(member: Format, data: bytes, *, name: str = "damaged", rounds: int = 150, head: int = 2048) -> int:
        rng = random.Random(len(data))  # reproducible
        described = 0
        for round_ in range(rounds):
            broken = bytearray(data)
            if round_ % 3 == 0:
                del broken[rng.randrange(len(data)) :]
            else:
                for _ in range(rng.randrange(1, 8)):
                    at = rng.randrange(min(len(broken), head if round_ % 3 == 1 else len(broken)))
                    broken[at] ^= 1 << rng.randrange(8) if round_ % 2 else 0xFF
            probe = Probe(BytesReader(bytes(broken), where=name), name)
            assert member.matches(probe) in (True, False)
            try:
                assert isinstance(member.describe(probe), Description)
                described += 1
            except RegraftError:
                pass
        return described

    return hit


@pytest.fixture
def flatbuffer() -> Callable[..., bytes]:
    """Writes a FlatBuffer.

    A table is a dict of field number → value; a value is bytes (an inline scalar), str, a dict (table),
    a list of dicts or of str, or a tuple (struct code, numbers) for a vector of scalars.
    """

    def write(root: dict[int, Any], identifier: bytes) -> bytes:
        out = bytearray(b"\0\0\0\0" + identifier)
        position = _table(out, root)
        out[:4] = struct.pack("<I", position)
        return bytes(out)

    return write


def _table(out: bytearray, fields: dict[int, Any]) -> int:
    """Append a vtable, the table, then what it refers to; returns the table's position."""
    _align(out)
    slots, inline, patches = {}, bytearray(4), {}
    for field, value in sorted(fields.items()):
        while len(inline) % 8:
            inline.append(0)
        slots[field] = len(inline)
        if isinstance(value, bytes):
            inline += value
        else:
            patches[len(inline)] = value
            inline += bytes(4)
    vtable = bytearray(struct.pack("<HH", 4 + 2 * (max(fields, default=-1) + 1), len(inline)))
    for field in range(max(fields, default=-1) + 1):
        vtable += struct.pack("<H", slots.get(field, 0))
    vtable_at = len(out)
    out += vtable
    _align(out)
    table_at = len(out)
    out += inline
    out[table_at : table_at + 4] = struct.pack("<i", table_at - vtable_at)
    for at, value in patches.items():
        _refer(out, table_at + at, value)
    return table_at


def _refer(out: bytearray, at: int, value: Any) -> None:
    _align(out)
    if isinstance(value, dict):
        target = _table(out, value)
    elif isinstance(value, str):
        target = len(out)
        raw = value.encode()
        out += struct.pack("<I", len(raw)) + raw + b"\0"
    elif isinstance(value, tuple):
        target = len(out)
        code, numbers = value
        out += struct.pack("<I", len(numbers)) + struct.pack(f"<{len(numbers)}{code}", *numbers)
    else:
        target = len(out)
        out += struct.pack("<I", len(value)) + bytes(4 * len(value))
        for index, item in enumerate(value):
            _refer(out, target + 4 + 4 * index, item)
    out[at : at + 4] = struct.pack("<I", target - at)


def _align(out: bytearray) -> None:
    while len(out) % 8:
        out.append(0)

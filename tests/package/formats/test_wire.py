"""The protobuf walker: what it yields, what it does not read, what it refuses."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regraft.errors import Damaged, LimitExceeded
from regraft.package.formats.wire import Message, fields, integers_of, signed
from regraft.package.reader import BytesReader


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def span(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def walk(data: bytes) -> list[tuple[int, int, int | bytes]]:
    found = fields(BytesReader(data, where="x"))
    return [(n, kind, v.bytes(limit=1 << 20) if isinstance(v, Message) else v) for n, kind, v in found]


FIELD = st.tuples(
    st.integers(1, (1 << 29) - 1),
    st.one_of(st.integers(0, (1 << 64) - 1), st.binary(max_size=700)),
)


@given(st.lists(FIELD, max_size=30))
def test_what_was_written_is_walked(written: list[tuple[int, int | bytes]]) -> None:
    data = b"".join(
        span(number, value) if isinstance(value, bytes) else varint(number << 3) + varint(value)
        for number, value in written
    )
    assert walk(data) == [(n, 2 if isinstance(v, bytes) else 0, v) for n, v in written]


@given(st.binary(max_size=300))
def test_any_bytes_are_fields_or_damage(data: bytes) -> None:
    with contextlib.suppress(Damaged):
        walk(data)


@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_signed(value: int) -> None:
    assert signed(value & ((1 << 64) - 1)) == value


def test_fixed_width_fields_and_packed_integers() -> None:
    data = b"\x0d" + (7).to_bytes(4, "little") + b"\x11" + (9).to_bytes(8, "little")
    assert walk(data) == [(1, 5, 7), (2, 1, 9)]
    packed = span(1, varint(3) + varint((1 << 64) - 1))
    assert [list(integers_of(kind, value)) for _, kind, value in fields(BytesReader(packed, where="x"))] == [[3, -1]]


def test_spans_are_stepped_over() -> None:
    reader = BytesReader(b"".join(span(9, bytes(1 << 20)) for _ in range(8)) + b"\x08\x01", where="x")
    assert [number for number, _, _ in fields(reader)] == [9] * 8 + [1]
    assert reader.meter.bytes_read < 8192


@pytest.mark.parametrize(
    "data",
    [
        b"\x0a\x05abc",  # a span beyond the end
        b"\x08",  # a tag without its value
        b"\x08" + b"\xff" * 11,  # an integer without end
        b"\x02\x00",  # field number 0
        b"\x0b\x0c",  # a group
        b"\x0d\x00\x00",  # four bytes of which two are there
        b"\x11\x00",
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",  # a length of 2⁶⁴ - 1
    ],
)
def test_damage(data: bytes) -> None:
    with pytest.raises(Damaged):
        walk(data)


def test_depth_is_bounded() -> None:
    data = b""
    for _ in range(300):
        data = span(1, data)

    def descend(found: Message) -> None:
        for value in found.spans(1):
            descend(value)

    (outer,) = (value for _, _, value in fields(BytesReader(data, where="x")))
    assert isinstance(outer, Message)
    with pytest.raises(LimitExceeded):
        descend(outer)


def test_text_is_bounded_and_never_fails() -> None:
    (found,) = (value for _, _, value in fields(BytesReader(span(1, b"\xff" + b"a" * 5000), where="x")))
    assert isinstance(found, Message)
    assert found.text(limit=3) == "�aa"

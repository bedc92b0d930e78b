"""FlatBuffers: fields, vectors and strings are read where they are, and nothing is read where they are not."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regraft.errors import Damaged, RegraftError
from regraft.package.formats.flatbuffer import Buffer, Table, has_identifier
from regraft.package.reader import BytesReader

Write = Callable[..., bytes]


def root(data: bytes) -> Table:
    return Buffer(BytesReader(data, where="x")).root()


def test_every_kind_of_field(flatbuffer: Write) -> None:
    fields: dict[int, Any] = {
        0: struct.pack("<I", 7),
        1: "text ü",
        2: {0: struct.pack("<b", -1)},
        4: ("i", [1, -2, 3]),
        5: [{1: "a"}, {1: "b"}],
        6: ["x", "yz"],
        7: ("B", [1, 2, 3]),
    }
    table = root(flatbuffer(fields, b"TEST"))
    assert table.uint(0, 4) == 7
    assert table.text(1) == "text ü"
    nested = table.table(2)
    assert nested is not None
    assert nested.sint(0, 1) == -1
    assert (table.uint(3, 4, 42), table.text(3), table.table(30)) == (42, None, None)
    assert table.sints(4, 4) == (1, -2, 3)
    assert [item.text(1) for item in table.tables(5)] == ["a", "b"]
    assert list(table.texts(6)) == ["x", "yz"]
    assert table.length(7) == 3
    assert table.blob(7, limit=2) == b"\x01\x02"


def test_a_buffer_across_pages(flatbuffer: Write) -> None:
    long = "y" * 20_000
    table = root(flatbuffer({0: long, 1: [{0: f"name {index}"} for index in range(2000)]}, b"TEST"))
    assert table.text(0) == long
    assert [item.text(0) for item in table.tables(1)][-1] == "name 1999"


@pytest.mark.parametrize("data", [b"", b"\0" * 4, b"\xff" * 64, struct.pack("<I", 8) + b"TEST" + b"\0" * 8])
def test_no_root(data: bytes) -> None:
    with pytest.raises(Damaged):
        root(data)


def test_a_vector_of_billions_is_refused(flatbuffer: Write) -> None:
    data = bytearray(flatbuffer({0: ("i", [5])}, b"TEST"))
    at = data.index(struct.pack("<II", 1, 5))
    data[at : at + 4] = b"\xff\xff\xff\x7f"
    with pytest.raises(RegraftError):
        list(root(bytes(data)).tables(0))


@given(st.binary(min_size=0, max_size=200))
def test_any_bytes_end_in_an_answer_or_an_error_of_ours(data: bytes) -> None:
    try:
        table = root(data)
        for field in range(4):
            table.text(field)
            table.sints(field, 4)
            for item in table.tables(field):
                item.uint(0, 4)
    except RegraftError:
        pass


def test_the_identifier() -> None:
    assert has_identifier(struct.pack("<I", 16) + b"TFL3" + b"\0" * 8, b"TFL3")
    assert not has_identifier(struct.pack("<I", 0) + b"TFL3" + b"\0" * 8, b"TFL3")
    assert not has_identifier(b"TFL3", b"TFL3")

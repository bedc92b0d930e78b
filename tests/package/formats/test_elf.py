"""ELF files of every width and order, made of headers alone: nothing in them could be run."""

from __future__ import annotations

import struct

import pytest

from regraft.package.formats.elf import symbol_names
from regraft.package.formats.interface import Probe
from regraft.package.reader import BytesReader

NAMES = b"\0main\0sort\0"


def _elf(order: str, *, is_wide: bool, address: int = 0x1000, names_at: int | None = None) -> bytes:
    """Two segments: one that is mapped, and the dynamic table in it, which says where the names are."""
    ident = b"\x7fELF" + bytes([2 if is_wide else 1, "<>".index(order) + 1, 1]) + bytes(9)
    head, row, entry = (64, 56, "QQ") if is_wide else (52, 32, "II")
    dynamic = head + 2 * row
    table_size = 3 * struct.calcsize(f"{order}{entry}")
    names = dynamic + table_size
    size = names + len(NAMES)
    pointed = address + names if names_at is None else names_at
    table = b"".join(struct.pack(f"{order}{entry}", *pair) for pair in ((5, pointed), (10, 1), (0, 0)))
    fields = (ident, 3, 0, 1, 0, head, 0, 0, head, row, 2, 0, 0, 0)
    start = struct.pack(f"{order}16sHHI{'QQQ' if is_wide else 'III'}IHHHHHH", *fields)
    segments = b""
    for kind, offset, length in ((1, 0, size), (2, 0xBAD, table_size)):  # loaders go by the address of the second
        place = address + (0 if kind == 1 else dynamic)
        if is_wide:
            segments += struct.pack(f"{order}IIQQQQQQ", kind, 4, offset, place, 0, length, length, 8)
        else:
            segments += struct.pack(f"{order}IIIIIIII", kind, offset, place, 0, length, length, 4, 4)
    return start + segments + table + NAMES


def _names(content: bytes) -> bytes:
    return symbol_names(Probe(BytesReader(content, where="test"), "x.so"))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("is_wide", [True, False])
def test_names_are_found_by_the_program_headers(order: str, is_wide: bool) -> None:
    assert _names(_elf(order, is_wide=is_wide)) == NAMES, "the stated size of one byte is not believed"


@pytest.mark.parametrize("names_at", [0, (1 << 64) - 1])
def test_names_that_nothing_maps_are_none(names_at: int) -> None:
    assert _names(_elf("<", is_wide=True, names_at=names_at)) == b""


def test_what_is_cut_off_has_no_names() -> None:
    whole = _elf("<", is_wide=True)
    for length in range(len(whole) - len(NAMES)):
        assert _names(whole[:length]) == b""

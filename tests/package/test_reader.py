from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regraft.errors import Damaged, LimitExceeded
from regraft.package.reader import BytesReader, FileReader


@given(st.binary(max_size=300), st.integers(-5, 320), st.integers(-5, 320))
def test_read_at_is_a_slice(data: bytes, offset: int, length: int) -> None:
    expected = data[offset : offset + length] if offset >= 0 and length > 0 else b""
    assert BytesReader(data, where="x").read_at(offset, length) == expected


@given(st.binary(min_size=10, max_size=300), st.data())
def test_sections_nest(data: bytes, draw: st.DataObject) -> None:
    start = draw.draw(st.integers(0, len(data)))
    length = draw.draw(st.integers(0, len(data) - start))
    outer = BytesReader(data, where="x").section(start, length)
    inner_start = draw.draw(st.integers(0, length))
    inner = outer.section(inner_start, length - inner_start)
    assert inner.read_all() == data[start + inner_start : start + length]


def test_what_lies_outside_is_damage() -> None:
    reader = BytesReader(b"12345", where="x")
    for offset, length in ((0, 6), (5, 1), (-1, 2), (0, -1), (1 << 70, 1)):
        with pytest.raises(Damaged):
            reader.read_exactly(offset, length)
        with pytest.raises(Damaged):
            reader.section(offset, length)


def test_reading_whole_is_bounded() -> None:
    with pytest.raises(LimitExceeded):
        BytesReader(b"x" * 11, where="x").read_all(limit=10)


def test_the_meter_counts_what_was_handed_out(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(bytes(1000))
    reader = FileReader(path)
    reader.read_at(990, 100)
    reader.section(10, 20).read_at(0, 5)
    assert reader.meter.bytes_read == 15
    reader.close()
    reader.close()


def test_a_file_object_seeks_and_reads(tmp_path: Path) -> None:
    data = bytes(range(256)) * 2000
    path = tmp_path / "f"
    path.write_bytes(data)
    file = FileReader(path).as_file()
    file.seek(-10, 2)
    assert file.read() == data[-10:]
    file.seek(70_000)
    assert file.read(100_000) == data[70_000:170_000]
    with pytest.raises(OSError, match="negative"):
        file.seek(-1)


def test_a_fingerprint_sees_size_head_and_tail() -> None:
    base = bytes(300_000)
    prints = {
        BytesReader(data, where="x").fingerprint() for data in (base, base + b"\0", b"\1" + base[1:], base[:-1] + b"\1")
    }
    assert len(prints) == 4


def test_sha256_streams(tmp_path: Path) -> None:
    data = bytes(3 << 20) + b"tail"
    path = tmp_path / "f"
    path.write_bytes(data)
    assert FileReader(path).sha256() == hashlib.sha256(data).hexdigest()


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="needs /proc")
def test_a_file_that_hides_its_size_is_not_taken_for_an_empty_one() -> None:
    with pytest.raises(OSError, match="does not tell its size"):
        FileReader(Path("/proc/cpuinfo"))

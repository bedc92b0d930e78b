from __future__ import annotations

import random
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regraft.errors import Damaged, LimitExceeded
from regraft.package import lazy_expansion, reader
from regraft.package.lazy_expansion import LazyExpansion
from regraft.package.reader import Meter

CONTENT = random.Random(1).randbytes(100_000)


def lazily(content=CONTENT, size=None, taken=None, ends=None, piece_bytes=1000):
    def pieces():
        for start in range(0, len(content), piece_bytes):
            if taken is not None:
                taken.append(start)
            yield content[start : start + piece_bytes]

    return LazyExpansion(
        pieces(),
        len(content) if size is None else size,
        where="x",
        packed_meter=Meter(),
        on_end=lambda size, crc32: ends.append((size, crc32)) if ends is not None else None,
    )


@settings(max_examples=80)
@given(st.lists(st.tuples(st.integers(0, 110_000), st.integers(0, 20_000)), max_size=6))
def test_every_read_is_the_slice(reads):
    content = lazily()
    for offset, length in reads:
        assert content.read_at(offset, length) == CONTENT[offset : offset + length]


def test_no_more_is_expanded_than_was_read_and_nothing_twice():
    taken: list[int] = []
    content = lazily(taken=taken)
    content.read_at(0, 1500)
    content.read_at(10, 10)
    assert taken == [0, 1000]


def test_the_end_is_told_once_with_size_and_checksum():
    ends: list[tuple[int, int]] = []
    content = lazily(ends=ends)
    content.read_at(0, 10)
    assert ends == []
    content.read_at(99_000, 1000)
    content.read_at(0, 10)
    assert ends == [(len(CONTENT), zlib.crc32(CONTENT))]


def test_a_stream_shorter_than_declared_is_damaged_where_it_ends():
    content = lazily(size=len(CONTENT) + 1)
    assert content.read_at(0, 1000) == CONTENT[:1000]
    with pytest.raises(Damaged):
        content.read_at(99_999, 2)


def test_a_stream_longer_than_declared_is_not_expanded_on():
    taken: list[int] = []
    ends: list[tuple[int, int]] = []
    content = lazily(size=5_000, taken=taken, ends=ends)
    assert content.read_at(0, 9_999) == CONTENT[:5_000]
    assert len(taken) <= 6
    assert ends[0][0] > 5_000


def test_beyond_the_memory_it_goes_to_a_file(monkeypatch):
    monkeypatch.setattr(lazy_expansion, "_IN_MEMORY_BYTES", 10_000)
    content = lazily()
    assert content.read_at(50_000, 100) == CONTENT[50_000:50_100]
    assert content.read_at(0, 60_000) == CONTENT[:60_000]
    content.close()
    content.close()


def test_the_budget_of_an_examination_holds(monkeypatch):
    monkeypatch.setattr(reader, "MAX_EXPANDED_BYTES", 20_000)
    with pytest.raises(LimitExceeded):
        lazily().read_at(50_000, 1)


def test_many_threads():
    content = lazily(piece_bytes=97)
    offsets = [i * 7919 % 99_000 for i in range(200)]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda offset: content.read_at(offset, 500), offsets))
    assert results == [CONTENT[offset : offset + 500] for offset in offsets]

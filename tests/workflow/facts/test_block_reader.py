import pytest
from hypothesis import given
from hypothesis import strategies as st

from regraft.errors import Damaged
from regraft.package.reader import BytesReader
from regraft.workflow.facts.block_reader import BlockReader

DATA = bytes(range(256)) * 100


@given(st.lists(st.tuples(st.integers(0, len(DATA) + 10), st.integers(0, 20_000)), max_size=12))
def test_it_reads_what_the_inner_reader_reads_and_never_more_than_there_is(ranges):
    inner = BytesReader(DATA, where="x")
    reader = BlockReader(inner)
    for offset, length in ranges:
        assert reader.read_at(offset, length) == DATA[offset : offset + length]
    assert inner.meter.bytes_read <= len(DATA)


def test_what_is_read_twice_is_fetched_once():
    inner = BytesReader(DATA, where="x")
    reader = BlockReader(inner)
    for _ in range(5):
        reader.read_at(100, 50)
        reader.section(90, 100).read_at(0, 60)
    assert inner.meter.bytes_read == 1024


def test_content_that_is_too_large_to_keep_is_still_read():
    inner = BytesReader(bytes(40 << 20), where="x")
    assert len(BlockReader(inner).read_at(0, 40 << 20)) == 40 << 20


def test_the_end_is_the_end():
    with pytest.raises(Damaged):
        BlockReader(BytesReader(b"abc", where="x")).read_exactly(1, 3)

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from regraft.errors import AccessDenied, LimitExceeded, NetworkFailure, NotFound
from regraft.package.reader import Meter
from regraft.package.sources import http_reader
from regraft.package.sources.http import HttpClient
from regraft.package.sources.http_reader import BLOCK_BYTES, HttpReader

BODY = os.urandom(1_000_003)


def reader_of(server, **options):
    return HttpReader(HttpClient(Meter()), f"{server.url}/x", **options)


def test_only_what_is_read_is_transferred(server, new_page):
    server.pages["/x"] = new_page(BODY, etag='"1"')
    reader = reader_of(server)
    assert reader.size == len(BODY)
    assert reader.read_at(10, 20) == BODY[10:30]
    assert reader.read_at(len(BODY) - 5, 99) == BODY[-5:]
    assert len(server.requests) == 2
    assert server.sent_bytes <= 2 * BLOCK_BYTES


def test_neighbouring_blocks_come_in_one_request(server, new_page):
    server.pages["/x"] = new_page(BODY, etag='"1"')
    reader = reader_of(server, size=len(BODY))
    assert server.requests == []
    assert reader.read_at(BLOCK_BYTES * 2 + 5, BLOCK_BYTES * 3) == BODY[BLOCK_BYTES * 2 + 5 :][: BLOCK_BYTES * 3]
    assert len(server.requests) == 1
    assert reader.read_at(BLOCK_BYTES * 4, 100) == BODY[BLOCK_BYTES * 4 :][:100]
    assert len(server.requests) == 1


def test_reading_in_order_reads_ahead(server, new_page):
    body = os.urandom(12 << 20)
    server.pages["/x"] = new_page(body, etag='"1"')
    reader = reader_of(server, size=len(body))
    assert b"".join(reader.chunks()) == body
    assert len(server.requests) <= 6
    assert server.sent_bytes == len(body)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    reads=st.lists(st.tuples(st.integers(-5, len(BODY) + 5), st.integers(-1, 400_000)), max_size=6), known=st.booleans()
)
def test_every_read_is_the_slice(server, new_page, reads, known):
    server.pages["/x"] = new_page(BODY, etag='"1"')
    reader = reader_of(server, size=len(BODY) if known else None)
    for offset, length in reads:
        expected = BODY[offset : offset + max(0, length)] if offset >= 0 else b""
        assert reader.read_at(offset, length) == expected


def test_many_threads(server, new_page):
    server.pages["/x"] = new_page(BODY, etag='"1"')
    reader = reader_of(server)
    with ThreadPoolExecutor(8) as pool:
        offsets = [i * 9973 % (len(BODY) - 1000) for i in range(60)]
        assert list(pool.map(lambda o: reader.read_at(o, 1000), offsets)) == [BODY[o : o + 1000] for o in offsets]


def test_a_server_that_ignores_ranges_sends_the_file_once(server, new_page):
    server.pages["/x"] = new_page(BODY, ranges=False)
    reader = reader_of(server)
    assert reader.is_whole
    assert reader.read_at(500_000, 10) == BODY[500_000:500_010]
    assert reader.sha256() == reader.sha256()
    assert len(server.requests) == 2


def test_a_file_without_content(server, new_page):
    server.pages["/x"] = new_page(b"", etag='"1"')
    for size in (None, 0):
        reader = reader_of(server, size=size)
        assert (reader.size, reader.read_at(0, 10)) == (0, b"")


@pytest.mark.parametrize("change", ["etag", "size", "no ranges any more"])
def test_a_file_that_changes_midway_raises(server, new_page, change):
    server.pages["/x"] = new_page(BODY, etag='"1"')
    reader = reader_of(server)
    server.pages["/x"] = {
        "etag": new_page(BODY, etag='"2"'),
        "size": new_page(BODY[:-1], etag='"1"'),
        "no ranges any more": new_page(BODY, etag='"1"', ranges=False),
    }[change]
    with pytest.raises(NetworkFailure, match="changed"):
        reader.read_at(500_000, 10)


def test_another_size_than_declared(server, new_page):
    server.pages["/x"] = new_page(BODY)
    with pytest.raises(NetworkFailure, match="declares"):
        reader_of(server, size=len(BODY) - 1).read_at(0, 10)
    server.pages["/x"] = new_page(BODY, ranges=False)
    with pytest.raises(NetworkFailure, match="declares"):
        reader_of(server, size=len(BODY) - 1).read_at(0, 10)


def test_a_connection_that_breaks_off_is_resumed(server, new_page):
    server.pages["/x"] = new_page(BODY, etag='"1"', cut_after=100_000, cuts=3)
    reader = reader_of(server, size=len(BODY))
    assert reader.read_at(0, 400_000) == BODY[:400_000]


def test_a_connection_that_always_breaks_off(server, new_page):
    server.pages["/x"] = new_page(BODY, etag='"1"', cut_after=1_000, cuts=99)
    with pytest.raises(NetworkFailure):
        reader_of(server, size=len(BODY)).read_at(0, 400_000)


def test_an_answer_with_another_range(server, new_page):
    server.pages["/x"] = new_page(BODY[:70_000], status=206, headers={"Content-Range": f"bytes 5-70004/{len(BODY)}"})
    with pytest.raises(NetworkFailure, match="another range"):
        reader_of(server)


def test_a_file_beyond_the_bound(server, new_page, monkeypatch):
    monkeypatch.setattr(http_reader, "MAX_DOWNLOAD_BYTES", 1000)
    server.pages["/x"] = new_page(BODY)
    with pytest.raises(LimitExceeded):
        reader_of(server)


def test_no_access_and_nothing_there(server, new_page):
    with pytest.raises(NotFound):
        reader_of(server)
    server.pages["/x"] = new_page(status=403)
    with pytest.raises(AccessDenied):
        reader_of(server)


def test_a_redirect_is_remembered_until_it_expires(server, other_server, new_page):
    server.pages["/x"] = new_page(status=302, headers={"Location": f"{other_server.url}/signed1"})
    other_server.pages["/signed1"] = new_page(BODY, etag='"1"')
    reader = reader_of(server, headers={"Authorization": "Bearer t"})
    reader.read_at(500_000, 10)
    assert (len(server.requests), len(other_server.requests)) == (1, 2)
    other_server.pages["/signed1"] = new_page(status=403)
    other_server.pages["/signed2"] = new_page(BODY, etag='"1"')
    server.pages["/x"] = new_page(status=302, headers={"Location": f"{other_server.url}/signed2"})
    assert reader.read_at(900_000, 10) == BODY[900_000:900_010]
    assert all("authorization" not in headers for _, _, headers in other_server.requests)
    assert all(headers["authorization"] == "Bearer t" for _, _, headers in server.requests)


def test_reading_on_after_close(server, new_page):
    server.pages["/x"] = new_page(BODY, etag='"1"')
    reader = reader_of(server)
    reader.close()
    reader.close()
    assert reader.read_at(3, 3) == BODY[3:6]

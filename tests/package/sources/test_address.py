from __future__ import annotations

import pytest

from regraft.errors import NetworkFailure
from regraft.package.sources.address import check_address, is_loopback, printable


@pytest.mark.parametrize(
    "url", ["http://a.example/x", "ftp://a.example", "file:///etc/passwd", "https://", "https://[::1", "x"]
)
def test_addresses_that_nobody_is_asked_at(url, monkeypatch):
    monkeypatch.delenv("PIP_TRUSTED_HOST", raising=False)
    with pytest.raises(NetworkFailure):
        check_address(url)


def test_plain_http_where_the_user_said_so(monkeypatch):
    monkeypatch.setenv("PIP_TRUSTED_HOST", "a.example b.example")
    check_address("http://b.example/x")


@pytest.mark.parametrize(
    ("host", "expected"),
    [("localhost", True), ("127.8.9.1", True), ("::1", True), ("10.0.0.1", False), ("localhost.a.example", False)],
)
def test_loopback_by_name(host, expected):
    assert is_loopback(host) is expected


def test_what_is_printed_of_an_address():
    assert printable("https://user:pw@host:1/a/b?sig=1#f") == "https://host:1/a/b"

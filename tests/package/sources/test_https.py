from __future__ import annotations

import os

import pytest

from regraft.errors import NetworkFailure, NotFound
from regraft.package.package import open_package
from regraft.package.sources.https import file_name
from regraft.package.sources.interface import SourceOptions


def test_one_file_by_ranges(server, new_page):
    body = os.urandom(1_000_000)
    server.pages["/a/model.bin"] = new_page(body, etag='"1"')
    options = SourceOptions()
    with open_package(f"{server.url}/a/model.bin?download=1", options=options) as package:
        assert [(e.path, e.size_bytes) for e in package.entries] == [("model.bin", len(body))]
        assert package.open("model.bin").read_at(900_000, 5) == body[900_000:900_005]
        assert options.traffic.bytes_read <= 2 * 65536
        assert package.manifest(compute=True).entries[0].size_bytes == len(body)


def test_inside_an_archive(server, new_page, make_wheel):
    server.pages["/demo.whl"] = new_page(make_wheel({"demo/a": b"x", "demo/b": b"y"}), etag='"1"')
    with open_package(f"{server.url}/demo.whl#demo/b") as package:
        assert [entry.path for entry in package.entries] == ["demo/b"]
        assert package.open("demo/b").read_at(0, 9) == b"y"


def test_plain_http_elsewhere_is_refused():
    with pytest.raises(NetworkFailure) as caught:
        open_package("http://a.example/model.bin")
    assert "https" in caught.value.hint


def test_nothing_there(server):
    with pytest.raises(NotFound):
        open_package(f"{server.url}/gone.bin")


@pytest.mark.parametrize(
    ("url", "name"),
    [("https://h/a/b.bin?x=1", "b.bin"), ("https://h/", "content"),
     ("https://h", "content"), ("https://h/a/..%2f..", "content"),
     ("https://h/a/%2e%2e", "content"), ("https://h/a%20b", "a b"), ("https://h/x/", "x")],
)  # fmt: skip
def test_the_name_of_the_file(url, name):
    assert file_name(url) == name

from __future__ import annotations

import pytest

from regraft.package.reader import Meter
from regraft.package.sources.git_lfs import LfsPointer, _safe, ask_for_objects, parse_pointer
from regraft.package.sources.http import HttpClient

OID = "ab" * 32


def test_a_pointer():
    text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{OID}\nsize 12345\n".encode()
    assert parse_pointer(text) == LfsPointer(OID, 12345)
    extended = f"version https://git-lfs.github.com/spec/v1\next-0-foo sha256:{OID}\noid sha256:{OID}\nsize 1\n"
    assert parse_pointer(extended.encode()) == LfsPointer(OID, 1)


@pytest.mark.parametrize(
    "text",
    ["", "version https://git-lfs.github.com/spec/v1\n", f"oid sha256:{OID}\nsize 1\n",
     f"version https://git-lfs.github.com/spec/v1\noid sha256:{OID[:-1]}\nsize 1\n",
     f"version https://git-lfs.github.com/spec/v1\noid sha256:{OID}\nsize -1\n",
     f"version https://git-lfs.github.com/spec/v1\noid sha256:{OID}\nsize {'9' * 40}\n"],
)  # fmt: skip
def test_no_pointer(text):
    assert parse_pointer(text.encode()) is None


def test_a_server_without_lfs_offers_nothing(server, new_page):
    client = HttpClient(Meter())
    assert ask_for_objects(client, f"{server.url}/x", [LfsPointer(OID, 1)]) == {}
    for body in (b"", b"[]", b'{"objects": [{"oid": 1}]}', b'{"objects": [{"oid": "other", "actions": {}}]}'):
        server.posts["/x.git/info/lfs/objects/batch"] = lambda _, body=body: new_page(body)
        assert ask_for_objects(client, f"{server.url}/x", [LfsPointer(OID, 1)]) == {}


def test_headers_that_would_change_the_request_are_dropped():
    assert _safe({"Authorization": "x", "Host": "evil", "Range": "bytes=0-1", "X-A": "a\r\nB: c", "B d": "e"}) == {
        "Authorization": "x"
    }

from __future__ import annotations

import hashlib
import json
import os

import pytest

from regraft.errors import (
    AccessDenied,
    AmbiguousReference,
    Damaged,
    DigestMismatch,
    NetworkFailure,
    NotFound,
    Offline,
)
from regraft.package.package import open_package
from regraft.package.sources.interface import SourceOptions
from regraft.record.store import open_store


@pytest.fixture
def index(server, new_page, monkeypatch):
    """`index(name → bytes, **page options)` publishes files of the project demo."""
    monkeypatch.setenv("PIP_INDEX_URL", f"{server.url}/simple/")

    def publish(files, *, yanked=(), sha256=None, sizes=True, **options):
        listed = []
        for name, data in files.items():
            server.pages[f"/files/{name}"] = new_page(data, etag='"1"', **options)
            item = {
                "filename": name,
                "url": f"../../files/{name}",
                "hashes": {"sha256": sha256 or hashlib.sha256(data).hexdigest()},
                "yanked": "broken" if name in yanked else False,
            }
            listed.append(item | ({"size": len(data)} if sizes else {}))
        body = json.dumps({"meta": {"api-version": "1.1"}, "name": "demo", "files": listed}).encode()
        server.pages["/simple/demo/"] = new_page(body, "application/vnd.pypi.simple.v1+json")

    return publish


def opened(reference, **options):
    return open_package(reference, options=SourceOptions(**options))


def test_a_wheel_is_read_where_it_lies(index, server, make_wheel):
    wheel = make_wheel({"demo/weights.bin": os.urandom(2_000_000), "demo/config.json": b"{}"}, deflate=False)
    index({"demo-1.0-py3-none-any.whl": wheel})
    options = SourceOptions()
    with open_package("pypi://Demo==1.0#demo", options=options) as package:
        assert [entry.path for entry in package.entries] == ["demo/config.json", "demo/weights.bin"]
        assert package.open("demo/config.json").read_at(0, 9) == b"{}"
        assert (package.ref.revision, package.ref.archive) == ("1.0", "demo-1.0-py3-none-any.whl")
        assert package.ref.sha256 == hashlib.sha256(wheel).hexdigest()
        assert options.traffic.bytes_read < 300_000
        assert package.manifest(compute=True).digest_kind == "computed"


def test_the_newest_final_version_that_was_not_withdrawn(index, make_wheel):
    wheel = make_wheel({"demo/a": b""})
    names = [f"demo-{v}-py3-none-any.whl" for v in ("1.0", "1.2", "1.10", "2.0rc1", "1.11")]
    index(dict.fromkeys(names, wheel), yanked={"demo-1.11-py3-none-any.whl"})
    assert opened("pypi://demo").ref.revision == "1.10"
    assert opened("pypi://demo==1.11").ref.revision == "1.11"
    assert opened("pypi://demo==2.0.rc1").ref.revision == "2.0rc1"


def test_only_pre_releases(index, make_wheel):
    index({f"demo-{v}-py3-none-any.whl": make_wheel({}) for v in ("0.1a1", "0.1a2")})
    assert opened("pypi://demo").ref.revision == "0.1a2"


def test_an_unknown_version_names_near_ones(index, make_wheel):
    index({f"demo-{v}-py3-none-any.whl": make_wheel({}) for v in ("1.0", "1.1", "2.0")})
    for version in ("1.2", "nonsense"):
        with pytest.raises(NotFound) as caught:
            opened(f"pypi://demo=={version}")
        assert "newest: 2.0, 1.1, 1.0" in caught.value.hint


def test_an_unknown_package(index, server, monkeypatch):
    with pytest.raises(NotFound, match="no package 'nothing'"):
        opened("pypi://nothing")


def test_a_wheel_for_every_platform_comes_before_one_for_this(index, make_wheel):
    from packaging.tags import sys_tags

    own = str(next(iter(sys_tags())))
    index({f"demo-1.0-{own}.whl": make_wheel({"own": b""}), "demo-1.0-py2.py3-none-any.whl": make_wheel({"any": b""})})
    assert opened("pypi://demo").ref.archive == "demo-1.0-py2.py3-none-any.whl"
    index({f"demo-1.0-{own}.whl": make_wheel({}), "demo-1.0-cp39-cp39-win_amd64.whl": b"", "demo-1.0.tar.gz": b""})
    assert opened("pypi://demo").ref.archive == f"demo-1.0-{own}.whl"


def test_no_wheel_that_fits_lists_the_choices(index, server):
    index({"demo-1.0-cp39-cp39-win_amd64.whl": b"", "demo-1.0-cp39-cp39-win32.whl": b"", "demo-1.0.tar.gz": b""})
    with pytest.raises(AmbiguousReference) as caught:
        opened("pypi://demo")
    assert f"{server.url}/files/demo-1.0-cp39-cp39-win32.whl" in caught.value.hint


def test_an_sdist_is_fetched_whole_and_checked(index, server, make_tarball):
    sdist = make_tarball({"demo-1.0/setup.py": b"raise SystemExit('never run')", "demo-1.0/w.bin": b"weights"})
    index({"demo-1.0.tar.gz": sdist})
    with opened("pypi://demo") as package:
        assert [entry.path for entry in package.entries] == ["demo-1.0/setup.py", "demo-1.0/w.bin"]
        assert package.ref.sha256 == hashlib.sha256(sdist).hexdigest()
    index({"demo-1.0.tar.gz": sdist}, sha256="0" * 64)
    with pytest.raises(DigestMismatch):
        opened("pypi://demo")


def test_a_server_without_ranges_sends_the_wheel_once_and_it_is_checked(index, make_wheel):
    wheel = make_wheel({"demo/w.bin": os.urandom(300_000)})
    index({"demo-1.0-py3-none-any.whl": wheel}, ranges=False)
    with opened("pypi://demo") as package:
        assert package.manifest().digest_kind == "computed"
    index({"demo-1.0-py3-none-any.whl": wheel}, ranges=False, sha256="0" * 64)
    with pytest.raises(DigestMismatch):
        opened("pypi://demo")


def test_a_connection_that_breaks_off_in_the_middle_of_an_sdist(index, make_tarball):
    sdist = make_tarball({"demo-1.0/w.bin": os.urandom(900_000)})
    index({"demo-1.0.tar.gz": sdist}, cut_after=300_000, cuts=2)
    assert opened("pypi://demo").ref.sha256 == hashlib.sha256(sdist).hexdigest()


def test_an_html_index(server, new_page, make_wheel, monkeypatch):
    wheel = make_wheel({"demo/a": b"x"})
    monkeypatch.setenv("PIP_INDEX_URL", f"{server.url}/simple")
    server.pages["/f/demo-1.0-py3-none-any.whl"] = new_page(wheel, etag='"1"')
    page = (
        '<a href="/f/demo-2.0-py3-none-any.whl" data-yanked="">demo</a>'
        f'<a href="/f/demo-1.0-py3-none-any.whl#sha256={hashlib.sha256(wheel).hexdigest()}">demo</a><a>none</a>'
    )
    server.pages["/simple/demo/"] = new_page(page.encode(), "text/html; charset=utf-8")
    package = opened("pypi://demo")
    assert (package.ref.revision, package.ref.sha256) == ("1.0", hashlib.sha256(wheel).hexdigest())


@pytest.mark.parametrize(
    ("body", "media_type"),
    [(b"{}", "application/json"), (b"[" * 100_000, "application/json"), (b"\xff", "application/json"),
     (b'{"files": [{"filename": 1}]}', "application/json"), (b"x", "image/png")],
)  # fmt: skip
def test_an_index_that_answers_nonsense(server, new_page, monkeypatch, body, media_type):
    monkeypatch.setenv("PIP_INDEX_URL", server.url)
    server.pages["/demo/"] = new_page(body, media_type)
    with pytest.raises(NetworkFailure):
        opened("pypi://demo")


def test_file_names_that_are_none(index):
    index({"demo.exe": b"", "..-1.0-py3-none-any.whl": b"", "demo-1.0-py3.whl": b"", "README": b""})
    with pytest.raises(NotFound, match="no wheel or sdist"):
        opened("pypi://demo")


def test_a_wheel_that_is_no_zip(index):
    index({"demo-1.0-py3-none-any.whl": b"PK\x03\x04" + bytes(500)})
    with pytest.raises(Damaged):
        opened("pypi://demo")


def test_no_access(server, new_page, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", server.url)
    server.pages["/demo/"] = new_page(status=403)
    with pytest.raises(AccessDenied):
        opened("pypi://demo")


def test_credentials_of_the_index_stay_there(server, other_server, new_page, make_wheel, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", server.url.replace("//", "//me:secret@"))
    files = [{"filename": "demo-1.0-py3-none-any.whl", "url": f"{other_server.url}/w", "hashes": {}}]
    server.pages["/demo/"] = new_page(json.dumps({"files": files}).encode(), "application/json")
    other_server.pages["/w"] = new_page(make_wheel({"demo/a": b""}))
    assert opened("pypi://demo").ref.sha256 is None
    assert server.requests[0][2]["authorization"].startswith("Basic ")
    assert all("authorization" not in headers for _, _, headers in other_server.requests)


def test_offline_without_a_kept_copy(index, server, make_wheel):
    index({"demo-1.0-py3-none-any.whl": make_wheel({})})
    for store in (None, open_store()):
        with pytest.raises(Offline) as caught:
            opened("pypi://demo==1.0", offline=True, store=store)
        assert caught.value.hint == "regraft fetch 'pypi://demo==1.0'"
    assert server.requests == []


@pytest.mark.network
def test_the_real_index():
    options = SourceOptions()
    with open_package("pypi://idna==3.10", options=options) as package:
        assert package.ref.sha256 == "946d195a0d259cbba61165e88e65941f16e9b36ea6ddb97f00452bae8b1287d3"
        assert "idna/core.py" in [entry.path for entry in package.entries]
        assert package.manifest(compute=True).digest_kind == "computed"
        assert options.traffic.bytes_read < 1_000_000

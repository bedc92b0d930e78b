from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from regraft.errors import DigestMismatch, NetworkFailure, NotFound, Offline
from regraft.package.fetch import fetch
from regraft.package.package import open_package
from regraft.package.sources import kept
from regraft.package.sources.interface import SourceOptions
from regraft.record.store import Store


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def index(server, new_page, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", f"{server.url}/simple/")

    def publish(files, **options):
        listed = []
        for name, data in files.items():
            server.pages[f"/{name}"] = new_page(data, etag='"1"', **options)
            listed.append({"filename": name, "url": f"/{name}", "hashes": {"sha256": hashlib.sha256(data).hexdigest()}})
        page = new_page(json.dumps({"files": listed}).encode(), "application/vnd.pypi.simple.v1+json")
        server.pages["/simple/demo/"] = page

    return publish


def kept_by(store, reference):
    return open_package(reference, options=SourceOptions(offline=True, store=store))


def test_what_was_fetched_is_there_offline(index, server, store, make_wheel):
    wheel = make_wheel({"demo/model.bin": b"weights", "demo/a.py": b""})
    index({"demo-1.0-py3-none-any.whl": wheel})
    evidence = fetch("pypi://demo", store=store)
    assert (evidence.kind, evidence.verdict, evidence.outcome) == ("fetch", "pass", "fetched")
    assert {subject.digest for subject in evidence.subject} == {"computed"}
    assert [a.sha256 for a in evidence.artifacts] == [hashlib.sha256(wheel).hexdigest()]
    measured = {m.name: m.value for m in evidence.measurements}
    assert measured["bytes_fetched"] == len(wheel) + len(server.pages["/simple/demo/"].body)
    server.requests.clear()
    for reference in ("pypi://demo", "pypi://demo==1.0", "pypi://demo==1.0#demo", "pypi://demo#demo/model.bin"):
        with kept_by(store, reference) as package:
            assert package.open("demo/model.bin").read_at(0, 99) == b"weights"
            assert (package.ref.revision, package.ref.archive) == ("1.0", "demo-1.0-py3-none-any.whl")
    with kept_by(store, "pypi://demo") as package:
        assert package.manifest().digest == evidence.subject[0].sha256
    assert fetch("pypi://demo", store=store, offline=True).subject == evidence.subject
    assert server.requests == []


def test_an_exact_reference_that_is_kept_needs_no_network_and_an_open_one_does(index, server, store, make_wheel):
    index({"demo-1.0-py3-none-any.whl": make_wheel({"demo/a": b"1"})})
    fetch("pypi://demo", store=store)
    server.requests.clear()
    options = SourceOptions(store=store)
    assert open_package("pypi://demo==1.0", options=options).ref.revision == "1.0"
    assert fetch("pypi://demo==1.0", store=store).verdict == "pass"
    assert server.requests == []
    index({f"demo-{v}-py3-none-any.whl": make_wheel({"demo/a": v.encode()}) for v in ("1.0", "2.0")})
    assert open_package("pypi://demo", options=options).ref.revision == "2.0"
    assert kept_by(store, "pypi://demo").ref.revision == "1.0"
    fetch("pypi://demo", store=store)
    assert kept_by(store, "pypi://demo").ref.revision == "2.0"
    assert kept_by(store, "pypi://demo==1.0").ref.revision == "1.0"


def test_another_index_is_another_answer(index, store, make_wheel, monkeypatch):
    index({"demo-1.0-py3-none-any.whl": make_wheel({"demo/a": b""})})
    fetch("pypi://demo", store=store)
    monkeypatch.setenv("PIP_INDEX_URL", "https://other.example/simple")
    with pytest.raises(Offline):
        kept_by(store, "pypi://demo")


def test_offline_without_a_kept_copy(store):
    with pytest.raises(Offline) as caught:
        fetch("pypi://demo", store=store, offline=True)
    assert caught.value.hint == "regraft fetch 'pypi://demo'"


def test_bytes_in_the_store_that_were_changed_are_not_used(index, store, make_wheel):
    wheel = make_wheel({"demo/model.bin": b"weights" * 100}, deflate=False)
    index({"demo-1.0-py3-none-any.whl": wheel})
    evidence = fetch("pypi://demo==1.0", store=store)
    assert kept_by(store, "pypi://demo==1.0").entries
    blob = store.blob_path(evidence.artifacts[0].sha256)
    blob.chmod(0o644)
    blob.write_bytes(wheel.replace(b"weights", b"hacked!"))
    with pytest.raises(DigestMismatch):
        kept_by(store, "pypi://demo==1.0")
    assert fetch("pypi://demo==1.0", store=store).subject == evidence.subject  # mended
    assert kept_by(store, "pypi://demo==1.0").open("demo/model.bin").read_at(0, 7) == b"weights"


def test_an_archive_is_hashed_once_per_process(index, store, make_wheel, monkeypatch):
    index({"demo-1.0-py3-none-any.whl": make_wheel({"demo/a": b""})})
    fetch("pypi://demo==1.0", store=store)
    hashed = []
    monkeypatch.setattr(kept, "digest_file", lambda path: hashed.append(path) or kept.Digest(path.name))
    kept._hashed.clear()
    for _ in range(3):
        kept_by(store, "pypi://demo==1.0")
    assert len(hashed) == 1


def test_a_blob_that_was_removed(index, store, make_wheel):
    index({"demo-1.0-py3-none-any.whl": make_wheel({"demo/a": b""})})
    evidence = fetch("pypi://demo==1.0", store=store)
    store.blob_path(evidence.artifacts[0].sha256).unlink()
    with pytest.raises(Offline):
        kept_by(store, "pypi://demo==1.0")
    assert fetch("pypi://demo==1.0", store=store).verdict == "pass"
    assert kept_by(store, "pypi://demo==1.0").entries


def test_a_wrong_digest_keeps_nothing(index, server, store, make_wheel):
    index({"demo-1.0-py3-none-any.whl": make_wheel({"demo/a": b""})})
    server.pages["/demo-1.0-py3-none-any.whl"].body += b"x"
    with pytest.raises(DigestMismatch):
        fetch("pypi://demo", store=store)
    assert not list(store.root.rglob("steps/*"))
    assert not [path for path in store.root.rglob("blobs/sha256/*/*") if path.is_file()]


def test_a_connection_that_always_breaks_off_keeps_nothing(index, store, make_wheel):
    index({"demo-1.0-py3-none-any.whl": make_wheel({"demo/a": os.urandom(900_000)})}, cut_after=100_000, cuts=99)
    with pytest.raises(NetworkFailure):
        fetch("pypi://demo", store=store)
    assert not [path for path in store.root.rglob("blobs/sha256/**/*") if path.is_file()]
    with pytest.raises(Offline):
        kept_by(store, "pypi://demo")


def test_a_fetch_that_is_killed_leaves_nothing_that_looks_complete(index, server, store, make_wheel, new_page):
    wheel = make_wheel({"demo/a": os.urandom(3_000_000)})
    index({"demo-1.0-py3-none-any.whl": wheel}, delay_s=0.02)
    code = (
        "import sys; from pathlib import Path; from regraft.package.fetch import fetch\n"
        "from regraft.record.store import Store; fetch('pypi://demo', store=Store(Path(sys.argv[1])))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, "-c", code, str(store.root)], env=environment)
    while server.sent_bytes < 500_000 and process.poll() is None:
        time.sleep(0.005)
    assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    with pytest.raises(Offline):
        kept_by(store, "pypi://demo")
    server.pages["/demo-1.0-py3-none-any.whl"] = new_page(wheel, etag='"1"')
    assert fetch("pypi://demo", store=store).verdict == "pass"


def test_a_damaged_member_makes_it_incomplete_not_impossible(index, store, make_wheel):
    wheel = bytearray(make_wheel({"demo/a": b"a" * 1000, "demo/b": b"b" * 1000}, deflate=False))
    at = wheel.index(b"a" * 1000)
    wheel[at : at + 10] = b"0123456789"
    index({"demo-1.0-py3-none-any.whl": bytes(wheel)})
    evidence = fetch("pypi://demo", store=store)
    assert (evidence.verdict, evidence.outcome) == ("inconclusive", "incomplete")
    assert [finding.where.file for finding in evidence.findings] == ["demo/a"]
    assert "demo/b" in [subject.name for subject in evidence.subject]
    assert kept_by(store, "pypi://demo").entries


def test_an_address_and_what_is_inside_it(server, new_page, store, make_wheel):
    server.pages["/demo.whl"] = new_page(make_wheel({"demo/a": b"x"}), etag='"1"')
    fetch(f"{server.url}/demo.whl#demo/a", store=store)
    with kept_by(store, f"{server.url}/demo.whl") as package:
        assert [entry.path for entry in package.entries] == ["demo.whl"]
        assert package.manifest().digest_kind == "computed"
    with kept_by(store, f"{server.url}/demo.whl#demo/a") as package:
        assert package.open("demo/a").read_at(0, 9) == b"x"


def test_files_are_kept_one_by_one_with_their_obstacles(store):
    import fsspec

    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pipe({"/f/a": b"x", "/f/sub/b": b"y"})
    evidence = fetch("memory://f", store=store)
    assert evidence.verdict == "pass"
    system.store.clear()
    with kept_by(store, "memory://f") as package:
        assert [entry.path for entry in package.entries] == ["a", "sub/b"]
        assert package.open("sub/b").read_at(0, 9) == b"y"
        assert package.manifest(compute=False).digest == evidence.subject[0].sha256
    with kept_by(store, "memory://f#sub") as package:
        assert [entry.path for entry in package.entries] == ["sub/b"]
    with pytest.raises(NotFound):
        fetch("memory://f", store=store)


def test_a_part_of_listed_files_is_kept_as_a_part(store):
    import fsspec

    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pipe({"/f/a": b"x", "/f/sub/b": b"y"})
    fetch("memory://f#sub", store=store)
    with kept_by(store, "memory://f#sub") as package:
        assert [entry.path for entry in package.entries] == ["sub/b"]
    with pytest.raises(Offline):
        kept_by(store, "memory://f")
    system.store.clear()


def test_local_files_are_hashed_where_they_are(tmp_path, store):
    (tmp_path / "package").mkdir()
    (tmp_path / "package/a").write_text("x")
    (tmp_path / "package/out").symlink_to("/etc/passwd")
    evidence = fetch(tmp_path / "package", store=store)
    assert (evidence.verdict, evidence.outcome) == ("inconclusive", "incomplete")
    assert [subject.name for subject in evidence.subject] == ["package", "a"]
    assert evidence.artifacts == ()
    assert not store.root.exists()

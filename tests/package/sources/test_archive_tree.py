from __future__ import annotations

import contextlib
import hashlib
import io
import tarfile
import zipfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from regraft.errors import AccessDenied, Damaged, NotFound, RegraftError
from regraft.package.manifest import build_manifest
from regraft.package.reader import BytesReader
from regraft.package.reference import ModelRef
from regraft.package.sources.archive_tree import open_archive_tree

REF = ModelRef("pypi", "demo", "1.0")


def tree_of(data: bytes):
    return open_archive_tree(REF, BytesReader(data, where="archive"))


def tar_of(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for info, data in members:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def info(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    result = tarfile.TarInfo(name)
    result.type, result.linkname = kind, target
    return result


def test_members_of_a_wheel_with_the_digests_that_its_record_declares(make_wheel):
    tree = tree_of(make_wheel({"demo/model.bin": b"weights", "demo/__init__.py": b""}))
    by_path = {entry.path: entry for entry in tree.entries}
    assert by_path["demo/model.bin"].sha256 == hashlib.sha256(b"weights").hexdigest()
    assert by_path["demo-1.0.dist-info/RECORD"].sha256 is None
    assert tree.open("demo/model.bin").read_at(0, 99) == b"weights"
    assert build_manifest(tree.entries, tree.open, compute=False).digest_kind == "partial"  # RECORD itself
    assert build_manifest(tree.entries, tree.open, compute=True).digest_kind == "computed"


def test_a_record_that_lies_is_found_out_when_the_bytes_are_hashed(make_wheel):
    tree = tree_of(make_wheel({"demo/model.bin": b"weights"}, wrong="demo/model.bin"))
    manifest = build_manifest(tree.entries, tree.open, compute=True)
    (flaw,) = manifest.flaws
    assert flaw.path == "demo/model.bin"
    assert flaw.computed == hashlib.sha256(b"weights").hexdigest() != flaw.declared
    assert flaw.computed in {entry.sha256 for entry in manifest.entries}


@pytest.mark.parametrize("record", [b"\xff\x00", b"a,sha256=!!!,1\n" * 3, b'"unclosed', b"a", b"a,md5=x\n", b""])
def test_a_damaged_record_declares_nothing(record):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a", b"x")
        archive.writestr("d.dist-info/RECORD", record)
    assert all(entry.sha256 is None for entry in tree_of(out.getvalue()).entries)


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", "C:\\x", "a\\..\\..\\x"])
def test_names_that_lead_out_are_listed_and_never_opened(name):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("ok", b"fine")
        archive.writestr(name, b"bad")
    tree = tree_of(out.getvalue())
    obstacles = {entry.path: entry.obstacle for entry in tree.entries}
    assert obstacles.pop("ok") is None
    assert list(obstacles.values()) != [None]
    with pytest.raises(AccessDenied):
        tree.open(next(iter(obstacles)))


@pytest.mark.parametrize("name", ["a\nb", "\u202egnp.exe", "a b", "ünïcode", "..x", "a..b/c"])
def test_odd_names_are_kept(name):
    tree = tree_of(tar_of((info(name), b"data")))
    assert [(entry.path, entry.obstacle) for entry in tree.entries] == [(name, None)]
    assert tree.open(name).read_at(0, 9) == b"data"


def test_of_members_with_one_name_the_last_counts_and_the_others_are_told(recwarn):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a", b"first")
        archive.writestr("a", b"second")
    tree = tree_of(out.getvalue())
    assert sorted((entry.obstacle or "") != "" for entry in tree.entries) == [False, True]
    assert tree.open("a").read_at(0, 99) == b"second"
    assert len(build_manifest(tree.entries, tree.open, compute=True).entries) == 1


def test_links_are_followed_inside_the_archive_alone():
    tree = tree_of(
        tar_of(
            (info("p/real"), b"weights"),
            (info("p/soft", tarfile.SYMTYPE, "real"), b""),
            (info("p/sub/up", tarfile.SYMTYPE, "../soft"), b""),
            (info("hard", tarfile.LNKTYPE, "p/real"), b""),
            (info("out", tarfile.SYMTYPE, "../../etc/passwd"), b""),
            (info("absolute", tarfile.SYMTYPE, "/etc/passwd"), b""),
            (info("loop", tarfile.SYMTYPE, "loop"), b""),
            (info("device", tarfile.CHRTYPE), b""),
            (info("pipe", tarfile.FIFOTYPE), b""),
        )
    )
    good = {entry.path for entry in tree.entries if entry.obstacle is None}
    assert good == {"p/real", "p/soft", "p/sub/up", "hard"}
    assert {tree.open(path).read_at(0, 99) for path in good} == {b"weights"}
    assert len(tree.entries) == 9


def test_a_large_compressed_member_is_expanded_only_as_far_as_it_is_read(make_wheel):
    import random

    weights = random.Random(0).randbytes(4 << 20)
    reader = BytesReader(make_wheel({"demo/model.bin": weights}), where="archive")
    tree = open_archive_tree(REF, reader)
    before = reader.meter.bytes_read
    content = tree.open("demo/model.bin")
    assert content.size == len(weights)
    assert content.read_at(0, 100) == weights[:100]
    assert reader.meter.bytes_read - before < 600_000
    assert content.read_at(len(weights) - 100, 200) == weights[-100:]
    assert content.read_at(5, 5) == weights[5:10]


def test_what_is_no_archive():
    with pytest.raises(NotFound):
        tree_of(b"plain bytes")
    with pytest.raises(Damaged):
        tree_of(b"PK\x03\x04" + b"\x00" * 100)


def test_what_is_not_a_member(make_wheel):
    tree = tree_of(make_wheel({"demo/a": b""}))
    for path in ("b", "demo", "demo/", "../demo/a", "demo//a"):
        with pytest.raises(NotFound):
            tree.open(path)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_raises_nothing_else(make_wheel, data):
    whole = bytearray(make_wheel({"demo/model.bin": bytes(3000), "demo/text": b"abc" * 500}))
    for _ in range(data.draw(st.integers(0, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    cut = data.draw(st.integers(0, len(whole)))
    try:
        tree = tree_of(bytes(whole[:cut] if data.draw(st.booleans()) else whole))
    except RegraftError:
        return
    for entry in tree.entries:
        with contextlib.suppress(RegraftError):
            tree.open(entry.path).sha256()

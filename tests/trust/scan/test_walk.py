from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from tests.trust.corpus.archive_writers import packed_7z

from regraft.package.package import open_package
from regraft.record.evidence import Verdict
from regraft.trust.scan import scan, walk
from regraft.trust.scan.walk import Walk

CALL = b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x0aecho pwned\x85R."  # os.system("echo pwned"), never run


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/"), content)
    return buffer.getvalue()


def tarred(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def walked(root: Path) -> tuple[list[tuple[str, str | None]], Walk]:
    with open_package(root) as package:
        walk = Walk(package)
        return [(site.file, site.member) for site in walk.sites()], walk


def test_every_file_and_member_is_a_site(tmp_path):
    (tmp_path / "a.txt").write_text("hello")
    (tmp_path / "b.zip").write_bytes(zipped(x=b"1", d__y=b"2"))
    sites, walk = walked(tmp_path)
    assert set(sites) == {("a.txt", None), ("b.zip", None), ("b.zip", "x"), ("b.zip", "d/y")}
    assert (walk.files, walk.members) == (2, 2)


def test_containers_within_containers_are_opened(tmp_path):
    inner = zipped(deep=b"1")
    (tmp_path / "a.zip").write_bytes(zipped(b=gzip.compress(tarred("c.zip", inner))))
    sites, _ = walked(tmp_path)
    assert ("a.zip", "b!c.zip!deep") in sites


@pytest.mark.parametrize("wrap", [gzip.compress, bz2.compress, lzma.compress, lambda b: zipped(x=b)])
@pytest.mark.parametrize("inner", [lambda b: b, lambda b: zipped(y=b), lambda b: tarred("z", b)])
def test_a_harmful_pickle_is_found_in_any_wrapping(tmp_path, wrap, inner):
    (tmp_path / "weights").write_bytes(wrap(inner(CALL)))
    assert scan(tmp_path).verdict is Verdict.FAIL


def test_zstd_and_lz4_too(tmp_path):
    lz4 = pytest.importorskip("lz4.frame")
    zstandard = pytest.importorskip("zstandard")
    for name, content in {"a": lz4.compress(CALL), "b": zstandard.ZstdCompressor().compress(CALL)}.items():
        (tmp_path / name).write_bytes(content)
        assert scan(tmp_path / name).verdict is Verdict.FAIL


def test_nesting_beyond_the_limit_is_inconclusive(tmp_path):
    content = CALL
    for _ in range(12):
        content = zipped(x=content)
    (tmp_path / "a.zip").write_bytes(content)
    evidence = scan(tmp_path)
    assert evidence.verdict is Verdict.INCONCLUSIVE
    assert "RGS-WLK-002" in {f.rule for f in evidence.findings}


def test_more_members_than_the_limit_is_inconclusive(tmp_path, monkeypatch):
    monkeypatch.setattr(walk, "MAX_MEMBERS", 10)
    (tmp_path / "a.zip").write_bytes(zipped(**{f"m{i}": b"x" for i in range(20)}))
    assert "RGS-WLK-002" in {f.rule for f in scan(tmp_path).findings}


def test_what_cannot_be_opened_is_a_finding_and_the_rest_is_still_judged(tmp_path):
    (tmp_path / "a.7z").write_bytes(b"7z\xbc\xaf\x27\x1c" + bytes(64))
    (tmp_path / "b.gz").write_bytes(gzip.compress(os.urandom(5000))[:-200])
    (tmp_path / "c.pkl").write_bytes(CALL)
    evidence = scan(tmp_path)
    assert evidence.verdict is Verdict.FAIL
    unopened = {f.where.file for f in evidence.findings if f.severity.verdict is Verdict.INCONCLUSIVE}
    assert {"a.7z", "b.gz"} <= unopened


@pytest.mark.parametrize("head", [b"!<arch>\ndebian-binary   ", b"hsqs", b"\xed\xab\xee\xdb", b"070701"])
def test_containers_that_cannot_be_opened_are_inconclusive(tmp_path, head):
    (tmp_path / "a").write_bytes(head + bytes(range(256)))
    evidence = scan(tmp_path)
    assert evidence.verdict is Verdict.INCONCLUSIVE
    assert "RGS-WLK-001" in {f.rule for f in evidence.findings}


def test_a_link_out_of_the_package_is_listed_not_followed(tmp_path):
    root = tmp_path / "p"
    root.mkdir()
    (tmp_path / "outside").write_bytes(CALL)
    (root / "in.txt").write_text("x")
    (root / "link").symlink_to(tmp_path / "outside")
    evidence = scan(root)
    assert evidence.verdict is Verdict.INCONCLUSIVE
    assert [f.rule for f in evidence.findings if f.where.file == "link"] == ["RGS-WLK-001"]


def test_tensors_of_a_checkpoint_are_not_taken_for_files(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("m/data.pkl", b"\x80\x02}q\x00.")
        archive.writestr("m/data/0", CALL)
        archive.writestr("m/version", "3\n")
    (tmp_path / "m.pt").write_bytes(buffer.getvalue())
    assert ("m.pt", "m/data/0") not in walked(tmp_path)[0]


def test_no_descriptor_stays_open(tmp_path):
    for i in range(50):
        (tmp_path / f"{i}.txt").write_text("hello")
    before = len(os.listdir("/proc/self/fd"))
    scan(tmp_path)
    assert len(os.listdir("/proc/self/fd")) <= before


def test_a_bomb_fails_and_zeros_of_arrays_do_not(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/weights.bin.gz").write_bytes(gzip.compress(bytes(40 << 20)))
    assert "RGS-WLK-003" in {f.rule for f in scan(tmp_path / "a").findings}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, w=np.zeros(5 << 20, np.float64))
    (tmp_path / "b").mkdir()
    (tmp_path / "b/w.npz").write_bytes(buffer.getvalue())
    assert "RGS-WLK-003" not in {f.rule for f in scan(tmp_path / "b").findings}


def test_members_of_7z_are_visited(tmp_path):
    (tmp_path / "m.7z").write_bytes(packed_7z("model.pkl", CALL))
    evidence = scan(tmp_path)
    assert evidence.verdict is Verdict.FAIL
    assert {f.where.member for f in evidence.findings} == {"model.pkl"}

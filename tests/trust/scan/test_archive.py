from __future__ import annotations

import io
import tarfile
import zipfile

import pytest

from regraft.record.evidence import Verdict


def zipped(*members: tuple[str, bytes], prefix: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    buffer.write(prefix)
    with zipfile.ZipFile(buffer, "a" if prefix else "w") as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


def tarred(*infos: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for info in infos:
            archive.addfile(info, io.BytesIO(bytes(info.size)))
    return buffer.getvalue()


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def test_an_ordinary_archive_has_nothing_odd(rules_of):
    assert not {r for r in rules_of({"a.zip": zipped(("x/y.txt", b"hello"))}) if r.startswith("RGS-ARC")}


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", "..\\x", "C:/x"])
def test_names_that_lead_out(rules_of, name):
    assert "RGS-ARC-001" in rules_of({"a.zip": zipped((name, b"x"))})


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_members_that_share_a_name(rules_of):
    assert "RGS-ARC-003" in rules_of({"a.zip": zipped(("x", b"1"), ("x", b"2"))})


def test_names_that_differ_in_case_are_noted(rules_of):
    assert "RGS-ARC-010" in rules_of({"a.zip": zipped(("x", b"1"), ("X", b"2"))})


@pytest.mark.parametrize("name", ["a\u202etxt.exe", "a\nb", "a\u200bb"])
def test_names_that_hide_what_they_are(rules_of, name):
    assert "RGS-ARC-008" in rules_of({"a.zip": zipped((name, b"x"))})


def test_odd_file_names_in_the_package_itself(rules_of):
    assert "RGS-ARC-008" in rules_of({"a\u202etxt.bin": "x"})


@pytest.mark.parametrize("head", [b"#!/bin/sh\nexit\n", b"MZ" + bytes(64), b"\x7fELF" + bytes(64)])
def test_a_program_with_an_archive_behind_it(scan_files, head):
    evidence = scan_files({"model.llamafile": zipped(("x", b"1"), prefix=head)})
    assert "RGS-ARC-007" in {f.rule for f in evidence.findings}
    assert evidence.verdict is Verdict.FAIL


def test_something_else_before_the_archive(rules_of):
    assert "RGS-ARC-006" in rules_of({"a.zip": zipped(("x", b"1"), prefix=b"GIF89a" + bytes(64))})


def test_links_that_lead_out(rules_of):
    for target in ("/etc/passwd", "../../x", "../x"):
        assert "RGS-ARC-002" in rules_of({"a.tar": tarred(link("l", target))}), target
    assert "RGS-ARC-002" in rules_of({"b.tar": tarred(link("d/h", "/etc/passwd", tarfile.LNKTYPE))})


def test_links_within_are_fine(rules_of):
    content = tarred(tarfile.TarInfo("d/x"), link("d/l", "x"), link("e/l", "../d/x"))
    assert "RGS-ARC-002" not in rules_of({"a.tar": content})


def test_a_wrong_checksum(rules_of):
    data = bytearray(zipped(("x", b"hello hello")))
    data[data.index(b"hello")] ^= 1
    assert "RGS-ARC-009" in rules_of({"a.zip": bytes(data)})

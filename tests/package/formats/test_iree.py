"""Modules of IREE: a zip that begins with their bytecode, native code among its members."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from regraft.errors import RegraftError
from regraft.package.formats import recognise
from regraft.package.formats.interface import Loading, Probe
from regraft.package.formats.iree import IreeModule
from regraft.package.reader import BytesReader
from regraft.record.evidence import Verdict
from regraft.trust.scan import scan


def _module(*names: str, method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name in names:
            archive.writestr(name, b"\x7fELF" + bytes(60) if name.endswith(".so") else bytes(64))
    return buffer.getvalue()


def _probe(data: bytes) -> Probe:
    return Probe(BytesReader(data, where="test"), "model.vmfb")


def test_it_is_code_with_its_libraries_named() -> None:
    probe = _probe(_module("module.fb", "tiny_embedded_elf_x86_64.so"))
    found = recognise(probe)
    assert found is not None
    assert (found.name, found.loading) == ("iree", Loading.CODE)
    described = found.describe(probe)
    assert described.metadata == {"native_code": "tiny_embedded_elf_x86_64.so"}
    assert described.problems == ()


@pytest.mark.parametrize(
    "data",
    [
        _module("data.pkl", "module.fb"),
        _module("module.fbx.txt"),
        _module("module.f"),
        _module("module.fb", method=zipfile.ZIP_DEFLATED),
        b"PK\x03\x04",
        b"",
    ],
)
def test_other_archives_are_none(data: bytes) -> None:
    assert not IreeModule().matches(_probe(data))


@pytest.mark.parametrize("name", ["module.fb", "module.fbx.txt"])
def test_a_zip_that_begins_as_a_module_hides_nothing(tmp_path: Path, name: str) -> None:
    buffer = io.BytesIO(_module(name, "a.so"))
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("evil.pkl", b"cos\nsystem\n(S'true'\ntR.")
    (tmp_path / "model.vmfb").write_bytes(buffer.getvalue())
    evidence = scan(tmp_path)
    assert evidence.verdict is Verdict.FAIL
    assert "RGS-PKL-001" in {finding.rule for finding in evidence.findings}


def test_a_module_is_judged_as_one_piece(tmp_path: Path) -> None:
    (tmp_path / "model.vmfb").write_bytes(_module("module.fb", "a.so"))
    evidence = scan(tmp_path)
    assert [finding.rule for finding in evidence.findings] == ["RGS-COD-005"]


def test_a_cut_module_is_damage() -> None:
    whole = _module("module.fb", "a.so")
    for length in (45, 60, 150, len(whole) - 10):
        probe = _probe(whole[:length])
        assert IreeModule().matches(probe)
        try:
            IreeModule().describe(probe)
        except RegraftError:
            continue
        assert length > 60

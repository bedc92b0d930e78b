"""Libraries of TVM: ELF files by their symbols, with what a conversion wrote into a section of its own."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from regraft.package.formats import Loading, Port, recognise
from regraft.package.formats.interface import Probe
from regraft.package.formats.tvm import SECTION, TvmLibrary, stated_in
from regraft.package.reader import BytesReader
from regraft.record.evidence import Verdict
from regraft.trust.scan import scan

SYMBOLS = b"\0__tvm_ffi_main\0__tvm_ffi__library_bin\0"
STATED: dict[str, Any] = {
    "target": {"triple": "x86_64-unknown-linux-gnu", "cpu": "znver4", "features": ["avx512f"]},
    "inputs": [["x", "float32", ["batch", 3]]],
    "outputs": [["y", "int64", None]],
    "precision": "float32",
}


def _elf(symbols: bytes = SYMBOLS, stated: bytes = b"", *, has_sections: bool = True) -> bytes:
    """Headers and names alone: nothing in it could ever be run."""
    sections = {b".dynstr": symbols, SECTION.encode(): stated, b".shstrtab": b""}
    names = b"\0" + b"".join(name + b"\0" for name in sections)
    sections[b".shstrtab"] = names
    segments = 64 + 2 * 56
    dynamic = struct.pack("<6Q", 5, segments + 48, 10, 0, 0, 0)  # a size of 0, which no loader looks at
    body, rows = bytes(segments) + dynamic, [bytes(64)]
    for name, content in sections.items():
        rows.append(struct.pack("<IIQQQQIIQQ", names.index(name), 1, 0, 0, len(body), len(content), 0, 0, 1, 0))
        body += content
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    at, count = (len(body), len(rows)) if has_sections else (0, 0)
    head = struct.pack("<16sHHIQQQIHHHHHH", ident, 3, 0x3E, 1, 0, 64, at, 0, 64, 56, 2, 64, count, max(count - 1, 0))
    head += struct.pack("<IIQQQQQQ", 1, 4, 0, 0, 0, len(body), len(body), 4096)
    head += struct.pack("<IIQQQQQQ", 2, 4, segments, segments, 0, len(dynamic), len(dynamic), 8)
    return head + body[segments:] + b"".join(rows if has_sections else ())


def _probe(data: bytes) -> Probe:
    return Probe(BytesReader(data, where="test"), "model.so")


def test_it_is_code_that_says_for_which_processor_it_is() -> None:
    probe = _probe(_elf(stated=json.dumps(STATED).encode()))
    found = recognise(probe)
    assert found is not None
    assert (found.name, found.loading) == ("tvm", Loading.CODE)
    described = found.describe(probe)
    assert described.metadata == {"target": "x86_64-unknown-linux-gnu znver4"}
    assert described.inputs == (Port("x", "float32", ("batch", 3)),)
    assert described.outputs == (Port("y", "int64", None),)


def test_a_strangers_library_is_one_that_says_nothing() -> None:
    for symbols, has_sections in ((SYMBOLS, True), (SYMBOLS, False), (b"\0__tvm_dev_mblob\0", True)):
        probe = _probe(_elf(symbols, has_sections=has_sections))
        found = recognise(probe)
        assert found is not None
        assert found.name == "tvm"
        assert (found.describe(probe).metadata, stated_in(probe.reader)) == ({}, b"")


@pytest.mark.parametrize("symbols", [b"\0main\0", b"", b"\0not__tvm_ffi__library_bin_at_all\0"])
def test_other_libraries_stay_what_they_are(symbols: bytes) -> None:
    found = recognise(_probe(_elf(symbols)))
    assert found is not None
    assert found.name == "native-code"


@pytest.mark.parametrize("stated", [b"{", b"[1]", b'{"target": 3}', json.dumps({**STATED, "inputs": 3}).encode()])
def test_what_cannot_be_read_of_it_is_a_problem(stated: bytes) -> None:
    described = TvmLibrary().describe(_probe(_elf(stated=stated)))
    assert [problem.what[:40] for problem in described.problems] == ["what it says of its own target cannot be"]


def test_hostile_bytes_raise_nothing(hammer: Callable[..., int]) -> None:
    assert hammer(TvmLibrary(), _elf(stated=json.dumps(STATED).encode())) > 0


@pytest.mark.parametrize(("name", "has_sections"), [("model.so", True), ("model.bin", True), ("model.so", False)])
def test_a_scan_clears_none(tmp_path: Path, name: str, has_sections: bool) -> None:
    (tmp_path / name).write_bytes(_elf(stated=json.dumps(STATED).encode(), has_sections=has_sections))
    evidence = scan(tmp_path)
    assert evidence.verdict is Verdict.INCONCLUSIVE
    assert "RGS-COD-005" in {finding.rule for finding in evidence.findings}

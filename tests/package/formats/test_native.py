"""Compiled code."""

from __future__ import annotations

import importlib.util
import marshal
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from regraft.package.formats.interface import Format, Loading, Probe
from regraft.package.formats.native import NativeCode, PythonBytecode
from regraft.package.reader import BytesReader, FileReader

PE = b"MZ".ljust(60, b"\0") + struct.pack("<I", 64) + b"PE\0\0" + struct.pack("<H", 0x8664)
PYC = importlib.util.MAGIC_NUMBER + bytes(12) + marshal.dumps(compile("x = 1", "x", "exec"))


def probe_of(data: bytes) -> Probe:
    return Probe(BytesReader(data, where="x"), "no-suffix")


def test_this_interpreter_is_elf_or_the_like() -> None:
    probe = Probe(FileReader(Path(sys.executable).resolve()), "python")
    assert NativeCode().matches(probe)


@pytest.mark.parametrize(
    ("data", "facts"),
    [
        (PE, {"kind": "pe", "machine": "x86_64"}),
        (b"\x7fELF\x02\x01\x01".ljust(18, b"\0") + b"\x3e\0" + bytes(40), {"kind": "elf", "machine": "x86_64"}),
        (b"\xcf\xfa\xed\xfe" + bytes(20), {"kind": "mach-o"}),
        (b"\xca\xfe\xba\xbe\0\0\0\x02", {"kind": "mach-o universal"}),
        (b"\xca\xfe\xba\xbe\0\0\0\x41", {"kind": "java class"}),
        (b"\0asm\x01\0\0\0", {"kind": "webassembly"}),
        (b"!<arch>\n", {"kind": "static library"}),
    ],
)
def test_kinds(data: bytes, facts: dict[str, str]) -> None:
    assert NativeCode().matches(probe_of(data))
    assert NativeCode().describe(probe_of(data)).metadata == facts


def test_bytecode() -> None:
    assert PythonBytecode().matches(probe_of(PYC))
    assert PythonBytecode().describe(probe_of(PYC)).version == str(int.from_bytes(PYC[:2], "little"))
    assert PythonBytecode().loading is Loading.CODE


@pytest.mark.parametrize("data", [b"", b"MZ", b"MZ is a nice text about a program" * 4, b"\x7fELF", b"\xa7\r\r\n"])
def test_other_content(data: bytes) -> None:
    assert not NativeCode().matches(probe_of(data))
    assert not PythonBytecode().matches(probe_of(data))


@pytest.mark.parametrize(("member", "data"), [(NativeCode(), PE), (PythonBytecode(), PYC)])
def test_damage_never_escapes(member: Format, data: bytes, hammer: Callable[..., int]) -> None:
    hammer(member, data, rounds=90)

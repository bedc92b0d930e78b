"""ExecuTorch programs, written by hand after the schema: no package in reach carries one."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from regraft.package.formats.executorch import ExecuTorch
from regraft.package.formats.interface import Probe
from regraft.package.reader import BytesReader


def program() -> dict[int, Any]:
    call = lambda index: {0: b"\x01", 1: {0: struct.pack("<i", index)}}  # noqa: E731
    values = [{0: b"\x04", 1: {0: b"\x06", 2: ("i", [1, 3])}}, {0: b"\x01", 1: {0: struct.pack("<q", 5)}}]
    plan = {
        0: "forward", 2: values, 3: ("i", [0]), 4: ("i", [1]),
        5: [{2: [call(0), call(1), call(0), {0: b"\x02", 1: {}}]}],
        6: [{0: "aten::add", 1: "out"}, {0: "aten::mul", 1: "out"}],
        7: [{0: "XnnpackBackend"}],
    }  # fmt: skip
    return {0: struct.pack("<I", 0), 1: [plan], 4: [{}, {}]}


def probe_of(data: bytes) -> Probe:
    return Probe(BytesReader(data, where="x"), "model.pte")


def test_methods_kernels_delegates_and_ports(flatbuffer: Callable[..., bytes]) -> None:
    probe = probe_of(flatbuffer(program(), b"ET12"))
    assert ExecuTorch().matches(probe)
    description = ExecuTorch().describe(probe)
    assert description.operators == {"aten::add.out": 2, "aten::mul.out": 1, "delegate": 1}
    assert description.metadata["methods"] == "forward"
    assert description.metadata["delegates"] == "XnnpackBackend"
    assert description.metadata["segments"] == "2"
    assert [(port.dtype, port.shape) for port in description.inputs] == [("float32", (1, 3))]
    assert [(port.dtype, port.shape) for port in description.outputs] == [("unknown", None)]
    assert description.tensors is None  # unknown, not none


def test_other_identifiers_are_other_formats(flatbuffer: Callable[..., bytes]) -> None:
    assert not ExecuTorch().matches(probe_of(flatbuffer(program(), b"ETXX")))
    assert not ExecuTorch().matches(probe_of(b"\x10\0\0\0ET12"))


def test_damage_never_escapes(flatbuffer: Callable[..., bytes], hammer: Callable[..., int]) -> None:
    hammer(ExecuTorch(), flatbuffer(program(), b"ET12"), rounds=400)

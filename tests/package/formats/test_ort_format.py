"""ONNX Runtime's own format, written by hand after its schema."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from regraft.package.formats.interface import Probe, Tensor
from regraft.package.formats.ort_format import OrtFormat
from regraft.package.reader import BytesReader


def session() -> dict[int, Any]:
    i32 = lambda number: struct.pack("<i", number)  # noqa: E731
    shape = {0: [{0: {0: b"\x02", 2: "batch"}}, {0: {0: b"\x01", 1: struct.pack("<q", 8)}}, {0: {0: b"\x00"}}]}
    value = {0: "x", 2: {1: b"\x01", 2: {0: i32(1), 1: shape}}}
    weight = {0: "w", 2: ("q", [2, 3]), 3: i32(10), 4: ("B", [0] * 12)}
    graph = {0: [weight], 1: [value], 2: [{5: "Gemm"}, {5: "Relu"}, {5: "Gemm"}], 5: ["x"], 6: ["y"]}
    model = {
        0: struct.pack("<q", 9), 1: [{1: struct.pack("<q", 17)}, {0: "com.microsoft", 1: struct.pack("<q", 1)}],
        2: "pytorch", 7: graph,
    }  # fmt: skip
    return {0: "5", 1: model}


def probe_of(data: bytes) -> Probe:
    return Probe(BytesReader(data, where="x"), "model.ort")


def test_graph_opsets_ports_and_weights(flatbuffer: Callable[..., bytes]) -> None:
    probe = probe_of(flatbuffer(session(), b"ORTM"))
    assert OrtFormat().matches(probe)
    description = OrtFormat().describe(probe)
    assert description.version == "5"
    assert description.operators == {"Gemm": 2, "Relu": 1}
    assert description.opsets == {"ai.onnx": 17, "com.microsoft": 1}
    assert description.tensors == (Tensor("w", "float16", (2, 3), 12),)
    assert [(port.name, port.dtype, port.shape) for port in description.inputs] == [
        ("x", "float32", ("batch", 8, None))
    ]
    assert [(port.name, port.dtype) for port in description.outputs] == [("y", "unknown")]
    assert description.metadata == {"ir_version": "9", "producer_name": "pytorch"}


def test_a_session_without_a_graph_is_a_problem(flatbuffer: Callable[..., bytes]) -> None:
    assert OrtFormat().describe(probe_of(flatbuffer({0: "5"}, b"ORTM"))).problems


def test_damage_never_escapes(flatbuffer: Callable[..., bytes], hammer: Callable[..., int]) -> None:
    hammer(OrtFormat(), flatbuffer(session(), b"ORTM"), rounds=400)

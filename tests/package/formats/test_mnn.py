"""MNN models, written by hand after the schema."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from regraft.package.formats import recognise
from regraft.package.formats.interface import Port, Probe, Tensor
from regraft.package.formats.mnn import Mnn, note_of
from regraft.package.reader import BytesReader
from regraft.record.evidence import Verdict
from regraft.trust.scan import scan

Writer = Callable[..., bytes]


def _i(value: int) -> bytes:
    return struct.pack("<i", value)


def model(plugin: int = 69) -> dict[int, Any]:
    """An input, a constant, a convolution, and an operator of that number."""
    first = {1: b"\x15", 2: {0: ("i", [1, 3, -1, 8]), 1: _i(1)}, 3: "x", 4: ("i", [0]), 5: _i(34)}
    constant = {1: b"\x07", 2: {0: ("i", [2, 5]), 2: _i(1), 7: ("f", [0.5] * 10)}, 3: "table", 4: ("i", [1]), 5: _i(11)}
    convolution = {
        0: ("i", [0]), 1: b"\x09", 2: {1: ("f", [0.1] * 27), 2: ("f", [0.2])}, 3: "conv", 4: ("i", [2]), 5: _i(12),
    }  # fmt: skip
    last = {0: ("i", [2]), 1: b"\x1e", 2: {0: "TheirOwn"}, 3: "last", 4: ("i", [3]), 5: _i(plugin)}
    return {
        0: '{"a": 1}', 3: [first, constant, convolution, last], 4: ["y"], 6: b"\x03", 7: ["x", "table", "c", "y"],
        12: {2: "3.6.1"},
    }  # fmt: skip


def _content(flatbuffer: Writer, root: dict[int, Any]) -> bytes:
    """The writer puts an identifier behind the first four bytes; MNN has none there, and does not look."""
    return flatbuffer(root, bytes(4))


def _probe(data: bytes) -> Probe:
    return Probe(BytesReader(data, where="x"), "renamed")


def test_operators_signature_constants_and_the_note(flatbuffer: Writer) -> None:
    probe = _probe(_content(flatbuffer, model()))
    found = recognise(probe)
    assert found is not None
    assert found.name == "mnn"
    description = found.describe(probe)
    assert description.version == "3.6.1"
    assert description.operators == {"Input": 1, "Const": 1, "Convolution": 1, "ReLU": 1}
    assert description.inputs == (Port("x", "float32", (1, 3, None, 8)),)
    assert [port.name for port in description.outputs] == ["y"]
    assert description.tensors == (
        Tensor("table", "float32", (2, 5)), Tensor("conv.weight", "float32", (27,), 108),
        Tensor("conv.bias", "float32", (1,), 4),
    )  # fmt: skip
    assert description.parameters == 10 + 27 + 1
    assert description.metadata == {"converted_from": "ONNX", "note": '{"a": 1}'}
    assert note_of(probe) == '{"a": 1}'


def test_a_plugin_is_code_that_is_not_here(flatbuffer: Writer, tmp_path: Path) -> None:
    (tmp_path / "model.mnn").write_bytes(_content(flatbuffer, model(plugin=256)))
    evidence = scan(tmp_path)
    assert evidence.verdict is Verdict.INCONCLUSIVE
    assert [(one.rule, one.data["name"]) for one in evidence.findings] == [("RGS-OPR-007", "Plugin:TheirOwn")]


def test_data_alone_passes_and_a_cut_file_does_not(flatbuffer: Writer, tmp_path: Path) -> None:
    content = _content(flatbuffer, model())
    (tmp_path / "model.mnn").write_bytes(content)
    assert scan(tmp_path).verdict is Verdict.PASS
    (tmp_path / "model.mnn").write_bytes(content[: len(content) // 2])
    assert scan(tmp_path).verdict is Verdict.INCONCLUSIVE


def test_other_tables_are_none(flatbuffer: Writer) -> None:
    without_operators, unknown, nameless = model(), model(), model()
    del without_operators[3], nameless[7]
    unknown[3][0][5] = _i(9999)
    for root in (without_operators, unknown, nameless):
        assert not Mnn().matches(_probe(_content(flatbuffer, root)))
    for data in (b"", b"\x10\0\0\0", bytes(64), b"\xff" * 64):
        assert not Mnn().matches(_probe(data))


def test_a_shape_that_cannot_be_is_a_problem(flatbuffer: Writer) -> None:
    root = model()
    root[3][1][2][0] = ("i", [-2, 5])
    description = Mnn().describe(_probe(_content(flatbuffer, root)))
    assert [problem.what for problem in description.problems] == ["constant 'table' has the shape (-2, 5)"]


def test_damage_never_escapes(flatbuffer: Writer, hammer: Callable[..., int]) -> None:
    assert hammer(Mnn(), _content(flatbuffer, model()), rounds=400) > 0

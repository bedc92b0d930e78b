"""ncnn's graphs as text and as numbers, PNNX's, and what only looks like one."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from regraft.errors import Damaged
from regraft.package.formats import recognise
from regraft.package.formats.interface import Description, Port, Probe
from regraft.package.formats.ncnn import NcnnBinaryParam, NcnnParam
from regraft.package.reader import BytesReader
from regraft.record.evidence import Verdict
from regraft.trust.scan import scan

GRAPH = b"""7767517
6 7
Input            data   0 1 data 0=12 1=10 2=3
Convolution      conv   1 1 data c 0=8 1=3 5=1 6=216
Split            split  1 2 c a b
BatchNorm        norm   1 1 a n 0=8
BinaryOp         add    2 1 n b s 0=0
InnerProduct     fc     1 2 s y z 0=5 1=1 2=40 -23303=2,1.0,2.0
"""
NUMBERS = struct.pack(
    "<32i", 7767517, 2, 2,
    16, 0, 1, 0, 0, 12, 1, 10, 2, 3, -233,  # Input: blob 0, (3, 10, 12)
    6, 1, 1, 0, 1, 0, 8, 1, 3, 5, 1, 6, 216, -23311, 2, 7, 7, -233,  # Convolution from blob 0 to blob 1, an array
)  # fmt: skip


def _probe(data: bytes, name: str = "renamed.txt") -> Probe:
    return Probe(BytesReader(data, where="test"), name)


def _described(data: bytes) -> tuple[str, Description]:
    probe = _probe(data)
    found = recognise(probe)
    assert found is not None
    return found.name, found.describe(probe)


def test_a_graph_as_text() -> None:
    name, description = _described(GRAPH)
    assert name == "ncnn-param"
    assert description.operators == {
        "Input": 1, "Convolution": 1, "Split": 1, "BatchNorm": 1, "BinaryOp": 1, "InnerProduct": 1,
    }  # fmt: skip
    assert description.inputs == (Port("data", "unknown", (3, 10, 12)),)
    assert [port.name for port in description.outputs] == ["y", "z"]
    assert description.parameters == 216 + 8 + 4 * 8 + 40 + 5
    assert description.problems == ()


def test_a_graph_as_numbers_is_the_same() -> None:
    name, description = _described(NUMBERS)
    assert name == "ncnn-param-binary"
    assert description.operators == {"Input": 1, "Convolution": 1}
    assert description.inputs == (Port("0", "unknown", (3, 10, 12)),)
    assert [port.name for port in description.outputs] == ["1"]
    assert description.parameters == 216 + 8


def test_weights_that_are_not_counted_are_unknown_not_none() -> None:
    _, description = _described(GRAPH.replace(b"BatchNorm ", b"LSTM      "))
    assert description.parameters is None


def test_lines_that_nothing_reads_are_said() -> None:
    _, description = _described(GRAPH + b"ReLU r 1 1 y w\n")
    assert [problem.what for problem in description.problems] == [
        "1 lines behind the last of its 6 layers, which nothing reads"
    ]


def test_operators_of_pytorch_are_another_format() -> None:
    name, description = _described(GRAPH.replace(b"Input  ", b"pnnx.Input").replace(b"BinaryOp", b"torch.add"))
    assert name == "pnnx-param"
    assert description.operators["torch.add"] == 1


@pytest.mark.parametrize(
    "data",
    [
        GRAPH.replace(b"6 7", b"7 7"),
        GRAPH.replace(b"0 1 data 0", b"0 9 data 0"),
        GRAPH.replace(b"1 1 data c", b"x 1 data c"),
        GRAPH.replace(b"norm ", b"norm\xff"),
        b"7767517\n1 1 Input data 0 1 data\n",
    ],
)
def test_what_is_no_graph_is_damage(data: bytes) -> None:
    with pytest.raises(Damaged):
        NcnnParam().describe(_probe(data))


@pytest.mark.parametrize("data", [b"7767517", b"7767517 and counting", b"77675170\n1 1\nInput", b"", NUMBERS[:23]])
def test_others_are_none(data: bytes) -> None:
    assert not NcnnParam().matches(_probe(data))
    assert not NcnnBinaryParam().matches(_probe(data))


def test_damage_never_escapes(hammer: Callable[..., int]) -> None:
    assert hammer(NcnnParam(), GRAPH, rounds=300) > 0
    hammer(NcnnBinaryParam(), NUMBERS, rounds=300)


def test_numbers_that_lie_are_damage() -> None:
    for place, value in ((4, 1 << 30), (12 + 4, -5), (12 + 48, 1 << 30)):
        lying = NUMBERS[:place] + struct.pack("<i", value) + NUMBERS[place + 4 :]
        with pytest.raises(Damaged):
            NcnnBinaryParam().describe(_probe(lying))


def test_the_weights_beside_it_are_numbers_to_a_scan(tmp_path: Path) -> None:
    weights = bytes(range(256)) * 40
    (tmp_path / "a.ncnn.param").write_bytes(GRAPH)
    (tmp_path / "a.ncnn.bin").write_bytes(weights)
    assert scan(tmp_path).verdict is Verdict.PASS
    (tmp_path / "a.ncnn.bin").rename(tmp_path / "b.ncnn.bin")  # nothing says what it is
    assert scan(tmp_path).verdict is Verdict.INCONCLUSIVE


def test_a_cut_graph_is_no_pass(tmp_path: Path) -> None:
    (tmp_path / "a.param").write_bytes(GRAPH[:-60])
    assert scan(tmp_path).verdict is Verdict.INCONCLUSIVE

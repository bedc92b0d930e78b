"""OpenVINO IR: a written network with all that is read, hostile XML, and XML of others."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regraft.errors import Damaged, LimitExceeded
from regraft.package.formats import recognise
from regraft.package.formats.interface import Description, Port, Probe, Tensor
from regraft.package.formats.openvino import OpenVino
from regraft.package.reader import BytesReader, FileReader

Asset = Callable[[str, str, str], Path]

IR = b"""<?xml version="1.0"?>
<net name="torch-jit-export" version="11">
  <layers>
    <layer id="0" name="input" type="Parameter" version="opset1">
      <data shape="?,3,224,224" element_type="f32"/>
      <output>
        <port id="0" precision="FP32" names="input"><dim>-1</dim><dim>3</dim><dim>224</dim><dim>224</dim></port>
      </output>
    </layer>
    <layer id="1" name="conv.weight" type="Const" version="opset1">
      <data element_type="f16" shape="8, 3, 3, 3" offset="0" size="432"/>
      <output><port id="0" precision="FP16"><dim>8</dim><dim>3</dim><dim>3</dim><dim>3</dim></port></output>
    </layer>
    <layer id="2" name="scale" type="Const" version="opset1">
      <data element_type="i8" shape="" offset="432" size="1"/></layer>
    <layer id="3" name="conv" type="Convolution" version="opset1"><data strides="1, 1"/></layer>
    <layer id="4" name="loop" type="TensorIterator" version="opset8">
      <body><layers><layer id="0" name="in" type="Parameter" version="opset1">
      <data shape="1,8" element_type="f32"/></layer>
      <layer id="1" name="relu" type="ReLU" version="opset1"/></layers></body>
    </layer>
    <layer id="5" name="fused" type="MyOp" version="extension"/>
    <layer id="6" name="output" type="Result" version="opset1">
      <input><port id="0" precision="FP32"><dim>-1</dim><dim>8</dim></port></input>
    </layer>
  </layers>
  <edges><edge from-layer="0" from-port="0" to-layer="3" to-port="0"/></edges>
  <rt_info><MO_version value="2024.1"/><Runtime_version value="2024.1.0-15008"/></rt_info>
</net>
"""


def described(data: bytes) -> Description:
    return OpenVino().describe(Probe(BytesReader(data, where="x"), "x"))


def test_a_network() -> None:
    probe = Probe(BytesReader(IR, where="x"), "renamed.txt")
    found = recognise(probe)
    assert found is not None
    assert found.name == "openvino-ir"
    description = found.describe(probe)
    assert description.version == "11"
    assert description.inputs == (Port("input", "float32", (None, 3, 224, 224)),)
    assert description.outputs == (Port("output", "float32", (None, 8)),)
    assert description.tensors == (
        Tensor("conv.weight", "float16", (8, 3, 3, 3), 432),
        Tensor("scale", "int8", (), 1),
    )
    assert description.operators["Parameter"] == 2  # the body of the loop has one
    assert description.operators["ReLU"] == description.operators["Convolution"] == 1
    assert description.opsets == {"opset": 8, "extension": 1}
    assert description.metadata == {
        "graph_name": "torch-jit-export", "MO_version": "2024.1", "Runtime_version": "2024.1.0-15008",
    }  # fmt: skip


@pytest.mark.parametrize(
    "data",
    [
        IR.replace(b"<net", b'<!DOCTYPE net [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><net', 1),
        IR.replace(b"<net", b'<!DOCTYPE net SYSTEM "file:///etc/passwd"><net', 1),
        IR[:-10],
        IR.replace(b"8, 3, 3, 3", b"8, x"),
        IR.replace(b"8, 3, 3, 3", b"999999999999999999,999999999999999999"),
        IR.replace(b"<dim>8</dim>", b"<dim>" + b"9" * 5000 + b"</dim>"),
        IR.replace(b'<?xml version="1.0"?>', b'<?xml version="1.0" encoding="no-such"?>'),
        b"",
    ],
)
def test_hostile_xml_is_damage(data: bytes) -> None:
    with pytest.raises(Damaged):
        described(data)


def test_depth_is_bounded() -> None:
    with pytest.raises(LimitExceeded):
        described(b'<net version="11"><layers>' + b"<a>" * 100_000)


def test_other_xml_is_no_network(asset: Asset) -> None:
    path = asset("pypi", "scikit-image", "0.26.0") / "skimage/data/lbpcascade_frontalface_opencv.xml"
    assert not OpenVino().matches(Probe(FileReader(path), "model.xml"))
    assert not OpenVino().matches(Probe(BytesReader(b"<network/>", where="x"), "model.xml"))


@given(st.binary(max_size=60), st.integers(0, len(IR)))
def test_inserted_bytes_are_described_or_damage(inserted: bytes, at: int) -> None:
    with contextlib.suppress(Damaged):
        described(IR[:at] + inserted + IR[at:])


def test_damaged_files(hammer: Callable[..., int]) -> None:
    assert hammer(OpenVino(), IR, rounds=400) > 0

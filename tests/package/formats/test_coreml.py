"""Core ML: a real package, and small written models for what it does not have."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from regraft.errors import Damaged
from regraft.package.formats import recognise
from regraft.package.formats.coreml import CoreMl, CoreMlManifest, CoreMlWeights
from regraft.package.formats.interface import Description, Port, Probe
from regraft.package.reader import BytesReader, FileReader

Asset = Callable[[str, str, str], Path]
PACKAGE = "basic_pitch/saved_models/icassp_2022/nmp.mlpackage"


def described(path: Path, name: str) -> Description:
    probe = Probe(FileReader(path), "file")
    found = recognise(probe)
    assert found is not None
    assert found.name == name
    return found.describe(probe)


def test_a_model_package(asset: Asset) -> None:
    folder = asset("pypi", "basic-pitch", "0.4.0") / PACKAGE
    model = described(folder / "Data/com.apple.CoreML/model.mlmodel", "coreml")
    assert model.version == "6"
    assert model.metadata["model_type"] == "mlProgram"
    assert model.metadata["com.github.apple.coremltools.version"] == "7.0"
    assert model.operators["conv"] == 32
    assert model.inputs == (Port("input_2", "float32", (1, 43844, 1)),)
    assert [port.shape for port in model.outputs] == [(1, 172, 264), (1, 172, 88), (1, 172, 88)]
    manifest = described(folder / "Manifest.json", "coreml-manifest")
    assert manifest.metadata["root_model"] == "com.apple.CoreML/model.mlmodel"
    assert manifest.problems == ()
    weights = described(folder / "Data/com.apple.CoreML/weights/weight.bin", "coreml-weights")
    assert len(weights.tensors or ()) == 21
    assert {tensor.dtype for tensor in weights.tensors or ()} == {"float32"}
    assert sum(tensor.elements for tensor in weights.tensors or ()) == 36010  # the ONNX has 27 scalars more


def span(number: int, content: bytes) -> bytes:
    key, out = number << 3 | 2, b""
    for value in (key, len(content)):
        while value > 0x7F:
            out += bytes([value & 0x7F | 0x80])
            value >>= 7
        out += bytes([value])
    return out + content


def test_a_neural_network_classifier() -> None:
    image = span(1, b"photo") + span(3, span(4, b"\x08\xe0\x01\x10\xe0\x01"))
    label = span(1, b"label") + span(3, span(3, b""))
    description = span(1, image) + span(10, label) + span(11, b"label") + span(100, span(4, b"MIT") + span(3, b"Ada"))
    layers = span(1, span(1, b"c") + span(100, b"")) + span(1, span(175, b"")) + span(1, span(777, b""))
    probe = Probe(BytesReader(b"\x08\x01" + span(2, description) + span(403, layers), where="x"), "x")
    assert CoreMl().matches(probe)
    found = CoreMl().describe(probe)
    assert found.inputs == (Port("photo", "image", (224, 224)),)
    assert found.outputs == (Port("label", "string", None),)
    assert found.operators == {"convolution": 1, "softmax": 1, "layer_777": 1}
    assert found.metadata == {
        "model_type": "neuralNetworkClassifier", "license": "MIT", "author": "Ada", "predicted_feature": "label",
    }  # fmt: skip


def test_nested_blocks_are_bounded() -> None:
    block = span(3, span(1, b"relu"))
    for _ in range(60):
        block = span(3, span(1, b"cond") + span(4, block))
    function = span(3, span(1, b"CoreML5") + span(2, block))
    program = span(2, span(1, b"main") + span(2, function))
    with pytest.raises(Damaged):
        CoreMl().describe(Probe(BytesReader(b"\x08\x06" + span(2, b"") + span(502, program), where="x"), "x"))


def test_a_manifest_that_points_outside() -> None:
    whole = {"itemInfoEntries": {"a": {"path": "../../x"}}, "rootModelIdentifier": "a", "fileFormatVersion": "1.0.0"}
    probe = Probe(BytesReader(json.dumps(whole).encode(), where="x"), "Manifest.json")
    assert CoreMlManifest().matches(probe)
    assert [problem.kind for problem in CoreMlManifest().describe(probe).problems] == ["path-escape"]


def test_damaged_files(asset: Asset, hammer: Callable[..., int]) -> None:
    data = asset("pypi", "basic-pitch", "0.4.0") / PACKAGE / "Data/com.apple.CoreML"
    hammer(CoreMl(), (data / "model.mlmodel").read_bytes(), rounds=120)
    assert hammer(CoreMlWeights(), (data / "weights/weight.bin").read_bytes()) > 0

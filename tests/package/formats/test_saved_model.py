"""TensorFlow graphs: a SavedModel, meta graphs of version 1, a frozen graph."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from regraft.errors import Damaged
from regraft.package.formats import recognise
from regraft.package.formats.interface import Description, Port, Probe
from regraft.package.formats.saved_model import MetaGraph, SavedModel
from regraft.package.reader import BytesReader, FileReader

Asset = Callable[[str, str, str], Path]
PITCH = "basic_pitch/saved_models/icassp_2022/nmp/saved_model.pb"


def described(path: Path, name: str) -> Description:
    probe = Probe(FileReader(path), "file")
    found = recognise(probe)
    assert found is not None
    assert found.name == name
    return found.describe(probe)


def test_a_saved_model(asset: Asset) -> None:
    found = described(asset("pypi", "basic-pitch", "0.4.0") / PITCH, "tf-saved-model")
    assert found.version == "1"
    assert found.metadata["tensorflow_version"] == "2.4.1"
    assert found.metadata["tags"] == "serve"
    assert "serving_default" in found.metadata["signatures"]
    assert found.inputs == (Port("input_2", "float32", (None, 43844, 1)),)  # as the TFLite of the same network
    assert {(port.name, port.shape) for port in found.outputs} == {
        ("contour", (None, 172, 264)),
        ("note", (None, 172, 88)),
        ("onset", (None, 172, 88)),
    }
    assert found.operators["Conv2D"] > 0
    assert found.operators["StatefulPartitionedCall"] > 0  # in functions


def test_a_meta_graph(asset: Asset) -> None:
    found = described(asset("pypi", "musicnn", "0.1.0") / "musicnn/MSD_vgg/.meta", "tf-meta-graph")
    assert found.metadata["tensorflow_version"] == "1.12.0"
    assert found.operators["VariableV2"] == 86  # as many as its checkpoint has tensors
    assert Port("model/Placeholder", "float32", (None, 187, 96)) in found.inputs


def test_a_cut_off_saved_model_is_recognised_and_damaged(asset: Asset) -> None:
    data = (asset("pypi", "basic-pitch", "0.4.0") / PITCH).read_bytes()
    probe = Probe(BytesReader(data[:500_000], where="x"), "x")
    assert SavedModel().matches(probe)
    with pytest.raises(Damaged):
        SavedModel().describe(probe)


def test_damaged_files(asset: Asset, hammer: Callable[..., int]) -> None:
    saved = (asset("pypi", "basic-pitch", "0.4.0") / PITCH).read_bytes()
    hammer(SavedModel(), saved, rounds=25, head=100_000)
    hammer(MetaGraph(), (asset("pypi", "musicnn", "0.1.0") / "musicnn/MSD_vgg/.meta").read_bytes(), rounds=25)

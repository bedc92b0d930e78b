"""A file that can only be data is not loaded from a package that scan fails; what scan leaves open is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from safetensors.numpy import save_file

from regraft.errors import PermitRefused
from regraft.workflow.load import load, load_weights

HARMFUL = b"cos\nsystem\n(S'echo harm'\ntR."
OPEN = b"csome.module\nThing\n)R."


@pytest.fixture
def model(tmp_path: Path) -> Path:
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ports[:1], ports[1:])
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_danger_beside_it_refuses_it_and_naming_the_file_does_not(model: Path) -> None:
    (model.parent / "tokenizer.pkl").write_bytes(HARMFUL)
    with pytest.raises(PermitRefused, match="danger"):
        load(model.parent)
    loaded = load(model)
    assert loaded({"x": np.ones((1, 4), np.float32)})["y"].shape == (1, 4)


def test_what_is_only_open_does_not(model: Path) -> None:
    (model.parent / "other.pkl").write_bytes(OPEN)
    assert load(model.parent).runtime == "onnxruntime"


def test_weights_alike(tmp_path: Path) -> None:
    save_file({"w": np.ones(3, np.float32)}, tmp_path / "model.safetensors")
    assert load_weights(tmp_path).tensors["w"].shape == (3,)
    (tmp_path / "extra.pkl").write_bytes(HARMFUL)
    with pytest.raises(PermitRefused, match="danger"):
        load_weights(tmp_path)

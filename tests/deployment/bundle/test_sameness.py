"""The check of a plain bundle: only a number's size may differ, and that by rounding."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from regraft.deployment.bundle.runners.sameness import LIMIT, error
from regraft.workflow.bundle import bundle

F = np.float32


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (F([np.nan, 1]), F([2, 1])),
        (F([2, 1]), F([np.nan, 1])),
        (F([np.inf, 1]), F([2, 1])),
        (F([-np.inf, 1]), F([np.inf, 1])),
        (F([[1, 1]]), F([[1, 1], [1, 1]])),
        (F([1, 1]), np.float64([1, 1])),
        (np.int64([1_000_000]), np.int64([1_000_001])),
        (np.array(["cat"], dtype=object), np.array(["dog"])),
        (F([1, 1.01]), F([1, 1])),
    ],
)
def test_another_answer(found: Any, wanted: Any) -> None:
    assert not error(found, wanted) <= LIMIT


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (F([np.nan, np.inf, 1 + 1e-6]), F([np.nan, np.inf, 1])),
        (np.array(["cat"], dtype=object), np.array(["cat"])),
        (np.int64([7]), np.int64([7])),
        (np.zeros((0, 3), F), np.zeros((0, 3), F)),
    ],
)
def test_the_same_answer(found: Any, wanted: Any) -> None:
    assert error(found, wanted) <= LIMIT


def test_a_network_that_turned_to_nan_is_not_the_same_model(tiny: Any, tmp_path: Path) -> None:
    bundle(tiny.write(tmp_path / "net.onnx"), layout="plain", out=tmp_path / "out")
    path = tmp_path / "out/model/net.onnx"
    model = onnx.load(path)
    nan = np.full((16, 4), np.nan, F)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(nan, "w"))
    onnx.save(model, path)
    done = subprocess.run(
        [sys.executable, "run.py", "--check"], cwd=tmp_path / "out", capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "NOT the same model" in done.stdout


def test_labels_as_strings_are_kept_and_checked(tmp_path: Path) -> None:
    """A classifier that answers words, as scikit-learn's converters write it."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])
    label = helper.make_tensor_value_info("label", TensorProto.STRING, ["batch"])
    names = numpy_helper.from_array(np.array(["cat", "dog", "owl"], dtype=object), "names")
    nodes = [
        helper.make_node("ArgMax", ["x"], ["best"], axis=1, keepdims=0),
        helper.make_node("Gather", ["names", "best"], ["label"]),
    ]
    graph = helper.make_graph(nodes, "words", [x], [label], [names])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "words.onnx"
    )
    bundle(tmp_path / "words.onnx", layout="plain", out=tmp_path / "out")
    with np.load(tmp_path / "out/sample/answers.npz") as kept:  # refuses pickled objects
        assert set(kept["label"]) <= {"cat", "dog", "owl"}
    done = subprocess.run(
        [sys.executable, "run.py", "--check"], cwd=tmp_path / "out", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr

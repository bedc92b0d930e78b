"""What the tests of several compilers begin with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper


@pytest.fixture(scope="session")
def saved_graph() -> Callable[..., Path]:
    """Writes a graph from `ids` (batch, tokens) of nodes that may use a table and a projection."""

    def saved(path: Path, nodes: list[onnx.NodeProto], output: str = "the.scores") -> Path:
        rng = np.random.default_rng(0)
        ends = [
            helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "tokens"]),
            helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", 4]),
        ]
        weights = {"table": rng.normal(size=(9, 6)), "w": rng.normal(size=(6, 4)), "b": rng.normal(size=4)}
        stored = [numpy_helper.from_array(value.astype("float32"), name) for name, value in weights.items()]
        graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], stored)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
        return path

    return saved

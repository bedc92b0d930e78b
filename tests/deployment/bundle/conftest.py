"""A network of one product, with its weights inside or beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper


class Tiny:
    """Writes y = x w, (B, 16) → (B, 4)."""

    def write(self, path: Path, *, weights: str = "", input_name: str = "x") -> Path:
        """Args: weights: file for the external data; empty to keep them in the graph."""
        path.parent.mkdir(parents=True, exist_ok=True)
        weight = np.random.default_rng(0).normal(0, 0.25, (16, 4)).astype(np.float32)
        x = helper.make_tensor_value_info(input_name, TensorProto.FLOAT, ["batch", 16])
        y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])
        node = helper.make_node("MatMul", [input_name, "w"], ["y"])
        graph = helper.make_graph([node], "tiny", [x], [y], [numpy_helper.from_array(weight, "w")])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        if weights:  # by hand: onnx refuses a location that the working directory happens to have
            (stored,) = model.graph.initializer
            (path.parent / weights).write_bytes(stored.raw_data)
            stored.ClearField("raw_data")
            stored.data_location = TensorProto.EXTERNAL
            stored.external_data.add(key="location", value=weights)
        path.write_bytes(model.SerializeToString())
        return path


@pytest.fixture
def tiny() -> Tiny:
    return Tiny()

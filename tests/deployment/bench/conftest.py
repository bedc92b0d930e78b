"""A small network to measure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper


@pytest.fixture(scope="session")
def network() -> Callable[..., Path]:
    """Writes two layers over the last of (batch, tokens, 32), with one weight that is `factor` times itself."""
    return _network


def _network(path: Path, *, factor: float = 1.0, name: str = "x", seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    first, second = (rng.normal(0, 0.2, shape).astype(np.float32) for shape in ((32, 64), (64, 8)))
    second[3, 3] *= np.float32(factor)
    x = helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", "tokens", 32])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "tokens", 8])
    nodes = [
        helper.make_node("MatMul", [name, "a"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "b"], ["y"]),
    ]
    stored = [numpy_helper.from_array(first, "a"), numpy_helper.from_array(second, "b")]
    graph = helper.make_graph(nodes, "layers", [x], [y], stored)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path

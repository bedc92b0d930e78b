"""What a converter made is run at once: at none of the sizes, or with other shapes, it is refused."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from regraft.deployment.convert.completeness import shortfall
from regraft.deployment.convert.proving import prove_graph
from regraft.errors import Unsupported
from regraft.runtime.onnxruntime_model import OnnxRuntimeModel


def graph(batch: int | str, operator: str = "Relu", **settings: int) -> bytes:
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, 3]) for name in "xy"]
    if operator != "Relu":
        ports[1] = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    nodes = [helper.make_node(operator, ["x"], ["y"], **settings)]
    made = helper.make_model(
        helper.make_graph(nodes, "g", ports[:1], ports[1:]), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    return onnx.ModelProto.SerializeToString(made)


SOURCE = OnnxRuntimeModel(graph("batch"))
CASES = [{"x": np.ones((rows, 3), np.float32)} for rows in (3, 2)]


def test_one_size_will_do_and_what_it_refuses_is_a_shortfall() -> None:
    prove_graph(graph(2), SOURCE, CASES)
    lacks = shortfall(SOURCE, OnnxRuntimeModel(graph(2)), CASES)
    assert not lacks.is_loss
    assert "(3, 3)" in lacks.message


def test_no_size_and_other_shapes_are_refused() -> None:
    with pytest.raises(Unsupported, match="does not run"):
        prove_graph(graph(5), SOURCE, CASES)
    with pytest.raises(Unsupported, match="returns"):
        prove_graph(graph("batch", "Flatten", axis=0), SOURCE, CASES)

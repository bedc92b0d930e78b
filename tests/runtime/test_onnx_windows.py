from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from regraft.deployment.verify import verify
from regraft.record.evidence import Verdict
from regraft.runtime.onnx_windows import unfit_window
from regraft.runtime.onnxruntime_model import OnnxRuntimeModel
from regraft.runtime.openvino_model import OpenVinoModel, graph_from_bytes


def pooled(operator: str = "MaxPool", **settings: object) -> bytes:
    """A convolution that halves, and a pool behind it."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 1, "height", "width"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    w = numpy_helper.from_array(np.ones((1, 1, 2, 2), np.float32), "w")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["h"], strides=[2, 2], pads=[1, 1, 0, 0]),
        helper.make_node(operator, ["h"], ["y"], "the_pool", kernel_shape=[2, 2], **settings),
    ]
    graph = helper.make_graph(nodes, "pooled", [x], [y], [w])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


@pytest.mark.parametrize(
    ("settings", "size", "fits"),
    [
        ({"strides": [2, 2]}, 2, False),
        ({"strides": [2, 2]}, 3, True),
        ({"strides": [2, 2], "pads": [1, 0, 0, 1]}, 2, True),
        ({"strides": [2, 2], "auto_pad": "SAME_UPPER"}, 2, True),
        ({"strides": [2, 2], "ceil_mode": 1}, 2, True),
        ({"strides": [2, 2], "dilations": [3, 3]}, 5, False),
    ],
)
def test_windows_that_have_no_result_by_the_standard_are_told(settings, size, fits):
    model = OnnxRuntimeModel(pooled(**settings), where="pooled")
    said = unfit_window(model.proto, {"x": (1, 1, size, size)})
    assert (said == "") is fits, said
    assert fits or "the_pool" in said


def test_a_candidate_is_not_asked_for_what_the_standard_does_not_define():
    """ONNX Runtime answers at 1 × 1, OpenVINO does not; both are compared where there is something to compare."""
    content = pooled(strides=[2, 2])
    model = OnnxRuntimeModel(content, where="pooled")
    candidate = OpenVinoModel(graph_from_bytes(content), precision="float32")
    evidence = verify(model, candidate, localise=False)
    assert evidence.verdict is Verdict.PASS, evidence.findings
    refused = [one for one in evidence.findings if one.rule == "feeds.refused_by_reference"]
    assert "window of 2 over 1 elements" in refused[0].message

"""Sizes that a converter wrote down as it saw them once."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from regraft.compare.localise import localise
from regraft.runtime.onnx_graph import OnnxGraph

LENGTHS = np.array([2, 4, 1], np.int64)


def masked(size: int | None) -> onnx.ModelProto:
    """x where its position is below a row's length, else 0; the number of positions computed, or baked in."""
    stored = {"last": np.array(1), "zero": np.array(0), "one": np.array(1), "axis": np.array([1]),
              "nothing": np.float32(0), "row": np.array([0])}  # fmt: skip
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"], "shape"),
        helper.make_node("Gather", ["shape", "last"], ["size"], "size", axis=0),
    ]
    if size is not None:
        nodes, stored["size"] = [], np.array(size)
    nodes += [
        helper.make_node("Range", ["zero", "size", "one"], ["places"], "range"),
        helper.make_node("Unsqueeze", ["places", "row"], ["columns"], "columns"),
        helper.make_node("Unsqueeze", ["lengths", "axis"], ["rows"], "rows"),
        helper.make_node("Less", ["columns", "rows"], ["is_there"], "less"),
        helper.make_node("Where", ["is_there", "x", "nothing"], ["y"], "where"),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", "t"])
    lengths = helper.make_tensor_value_info("lengths", TensorProto.INT64, ["n"])
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in stored.items()]
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", [x, lengths], [y], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_a_size_that_was_baked_in_is_blamed_on_the_operator_that_measured_it() -> None:
    feeds = {"x": np.random.default_rng(0).normal(size=(3, 7)).astype(np.float32), "lengths": LENGTHS}
    assert localise(OnnxGraph(masked(None)), OnnxGraph(masked(7)), feeds).origins == ()
    (origin,) = localise(OnnxGraph(masked(None)), OnnxGraph(masked(5)), feeds).origins
    assert (origin.reference, origin.cause) == (("shape",), "baked_size")

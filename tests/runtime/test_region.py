from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from regraft.errors import Unsupported
from regraft.runtime.onnx_graph import OnnxGraph
from regraft.runtime.onnxruntime_model import OnnxRuntimeModel
from regraft.runtime.region import onnx_from_region, region_between


@pytest.fixture
def graph():
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="matmul"),
        helper.make_node("Split", ["a"], ["l", "r"], name="split", axis=-1),
        helper.make_node("Relu", ["l"], ["p"], name="relu"),
        helper.make_node("Add", ["p", "r"], ["s"], name="sum"),
        helper.make_node("Tanh", ["s"], ["y"], name="tanh"),
    ]
    weight = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    content = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weight, "w")],
    )
    return OnnxGraph(helper.make_model(content, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), threads=1)


@pytest.fixture
def feeds():
    return {"x": np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)}


def test_a_region_holds_what_lies_between_and_nothing_else(graph):
    region = region_between(graph, "s", ["a"])
    assert [node.name for node in region.nodes] == ["split", "relu", "sum"]
    assert region.inputs == ("a",)
    assert [node.name for node in region_between(graph, "y", ["x"]).behind(["r"])] == ["sum", "tanh"]


def test_what_else_it_depends_on_is_named(graph):
    with pytest.raises(Unsupported, match="y depends on x as well"):
        region_between(graph, "y", ["l"])


def test_a_region_runs_as_the_whole_does(graph, feeds):
    whole = region_between(graph, "y", ["x"]).run(feeds)
    part = region_between(graph, "y", ["a"]).run({"a": whole["a"]})
    np.testing.assert_array_equal(part["y"], whole["y"])
    exact = region_between(graph, "y", ["x"]).run(feeds, precision="float64")
    assert exact["y"].dtype == np.float64
    # float32 against float64: a product of four terms and a tanh, a few units of 6e-8
    np.testing.assert_allclose(whole["y"], exact["y"], atol=5e-7)


def test_results_that_are_given_are_not_computed(graph, feeds):
    region = region_between(graph, "y", ["x"])
    assert (region.run({**feeds, "s": np.zeros((5, 3), np.float32)})["y"] == 0).all()


@pytest.mark.parametrize("starts", [["x"], ["a"], ["l", "r"], ["p", "r"]])
def test_the_model_of_a_region_computes_the_same(graph, feeds, starts):
    whole = region_between(graph, "y", ["x"]).run(feeds)
    region = region_between(graph, "y", starts)
    inputs = {name: whole[name] for name in region.inputs}
    model = onnx_from_region(region, inputs)
    assert len(model.graph.node) == len(region.nodes)
    assert [one.name for one in model.graph.initializer] == (["w"] if "x" in starts else [])
    found = OnnxRuntimeModel(model.SerializeToString(), optimise=False)(inputs)["y"]
    np.testing.assert_array_equal(found, whole["y"])


def test_a_region_may_take_one_result_of_an_operator_and_make_another(graph, feeds):
    whole = region_between(graph, "y", ["x"]).run(feeds)
    region = region_between(graph, "s", ["a", "r"])
    assert set(region.inputs) == {"a", "r"}
    inputs = {"a": whole["a"], "r": whole["r"] + 1}
    model = OnnxRuntimeModel(onnx_from_region(region, inputs).SerializeToString(), optimise=False)
    np.testing.assert_array_equal(model(inputs)["s"], whole["p"] + (whole["r"] + 1))


def test_other_sizes_can_be_tried_where_shapes_are_not_declared(graph, feeds):
    region = region_between(graph, "a", ["x"])
    fixed, free = (onnx_from_region(region, feeds, is_fixed=fixed).SerializeToString() for fixed in (True, False))
    assert OnnxRuntimeModel(free)({"x": feeds["x"][:2]})["a"].shape == (2, 6)
    with pytest.raises(Exception, match="x"):
        OnnxRuntimeModel(fixed)({"x": feeds["x"][:2]})

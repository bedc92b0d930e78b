"""ONNX operator by operator in other precisions: without the rounding of float32, and with a coarser one."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from regraft.compare.noise import unit_roundoff
from regraft.errors import Unsupported
from regraft.runtime.onnx_stepwise import OnnxStepwiseModel
from regraft.runtime.onnxruntime_model import OnnxRuntimeModel
from regraft.runtime.rounding import round_to

RNG = np.random.default_rng(0)
WEIGHT = RNG.normal(size=(12, 5)).astype(np.float32)
FEEDS = {"x": RNG.normal(size=(3, 12)).astype(np.float32)}


def model(*nodes, weights=None) -> OnnxRuntimeModel:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 12])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    stored = [numpy_helper.from_array(value, name) for name, value in (weights or {"w": WEIGHT}).items()]
    graph = helper.make_graph(list(nodes), "g", [x], [y], stored)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return OnnxRuntimeModel(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())


def test_a_product_and_an_erf_are_exact() -> None:
    from math import erf

    narrow = model(helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Erf", ["m"], ["y"]))
    exact = narrow.cast("float64")
    assert exact.effective_precision == "float64"
    assert [port.dtype for port in exact.signature.inputs] == ["float64"]
    wide = {"x": FEEDS["x"].astype(np.float64)}
    wanted = np.vectorize(erf)(wide["x"] @ WEIGHT.astype(np.float64))
    np.testing.assert_allclose(exact(wide)["y"], wanted, rtol=1e-13, atol=1e-16, err_msg="a few roundoffs of float64")
    assert [tap.name for tap in exact.trace(wide)] == ["m", "y"]
    assert 0 < np.abs(narrow(FEEDS)["y"] - wanted).max() < 1e-6, "float32 does round"


def test_the_largest_of_a_row_keeps_its_channels() -> None:
    shape = numpy_helper.from_array(np.array([0, 4, 3]), "shape")
    narrow = model(
        helper.make_node("Reshape", ["x", "shape"], ["r"]), helper.make_node("GlobalMaxPool", ["r"], ["y"]),
        weights={"shape": numpy_helper.to_array(shape)},
    )  # fmt: skip
    wide = {"x": FEEDS["x"].astype(np.float64)}
    np.testing.assert_array_equal(narrow.cast("float64")(wide)["y"], wide["x"].reshape(3, 4, 3).max(-1, keepdims=True))


def test_an_operator_of_the_runtime_alone_has_no_float64() -> None:
    narrow = model(
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("BiasGelu", ["m", "b"], ["y"], domain="com.microsoft"),
        weights={"w": WEIGHT, "b": WEIGHT[0]},
    )
    exact = narrow.cast("float64")
    with pytest.raises(Unsupported, match="BiasGelu"):
        exact({"x": FEEDS["x"].astype(np.float64)})


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_lower_precision_rounds_weights_inputs_and_every_result(precision) -> None:
    narrow = model(helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Tanh", ["m"], ["y"]))
    low = narrow.cast(precision)
    assert low.effective_precision == precision
    assert low.signature == narrow.signature
    product = round_to(round_to(FEEDS["x"], precision) @ round_to(WEIGHT, precision), precision)
    wanted = round_to(np.tanh(product), precision)
    found = low(FEEDS)["y"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(round_to(found, precision), found)
    np.testing.assert_allclose(found, wanted, rtol=2 * unit_roundoff(precision), err_msg="one rounding the other way")
    assert np.abs(found - narrow(FEEDS)["y"]).max() > 2e-4, "which float32 does not do"
    assert [tap.name for tap in low.trace(FEEDS)] == ["m", "y"]


def test_no_other_precision() -> None:
    narrow = model(helper.make_node("MatMul", ["x", "w"], ["y"]))
    with pytest.raises(Unsupported):
        narrow.cast("int8")
    assert isinstance(narrow.cast("float64").cast("bfloat16"), OnnxStepwiseModel)

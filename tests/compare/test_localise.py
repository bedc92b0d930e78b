"""Faults are found where they were planted, also in renamed, rounded and fused networks, and none where none is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from regraft.compare.localise import Localisation, localise
from regraft.runtime.onnx_graph import OnnxGraph
from regraft.runtime.rounding import round_to

from .graphs import (
    FEEDS,
    insert_after,
    network,
    node,
    optimised,
    remove,
    renamed,
    rewire,
    set_attribute,
    set_weight,
)

Change = Callable[[onnx.GraphProto], None]


def bfloat16(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = renamed(model)
    for tensor in copy.graph.initializer:
        if list(tensor.dims):
            value = round_to(onnx.numpy_helper.to_array(tensor), "bfloat16")
            tensor.CopyFrom(onnx.numpy_helper.from_array(value, tensor.name))
    return copy


VARIANTS = {"named": lambda model: model, "renamed": renamed, "bfloat16": bfloat16, "optimised": optimised}


def located(change: Change | None, variant: str = "named") -> Localisation:
    candidate = VARIANTS[variant](network(change))
    return localise(OnnxGraph(network()), OnnxGraph(candidate), FEEDS)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_rewriting_has_no_origin(variant: str) -> None:
    found = located(None, variant)
    assert found.origins == ()
    assert found.complete
    assert found.lowered == ("bfloat16" if variant == "bfloat16" else None)
    worst = max(match.ratio.rms for match in found.pairs.values() if match.ratio is not None)
    assert worst < 5, "no more than twice the largest ratio that benign rewritings of real networks show"


def tanh_gelu(graph: onnx.GraphProto) -> None:
    """Written out: erf becomes the tanh of a polynomial of its input."""
    place = list(graph.node).index(node(graph, "gelu_erf"))
    graph.node.remove(node(graph, "gelu_erf"))
    z = np.float32(2.0**0.5)
    constants = {"z": z, "cubic": np.float32(0.044715), "slope": np.float32((2 / np.pi) ** 0.5)}
    graph.initializer.extend(onnx.numpy_helper.from_array(np.array(v), k) for k, v in constants.items())
    steps = [
        ("Mul", ["g1", "z"], "u1"), ("Mul", ["u1", "u1"], "u2"), ("Mul", ["u2", "u1"], "u3"),
        ("Mul", ["u3", "cubic"], "u4"), ("Add", ["u1", "u4"], "u5"), ("Mul", ["u5", "slope"], "u6"),
        ("Tanh", ["u6"], "g2"),
    ]  # fmt: skip
    for offset, (operator, inputs, output) in enumerate(steps):
        graph.node.insert(place + offset, onnx.helper.make_node(operator, inputs, [output], f"tanh_{offset}"))


FAULTS: dict[str, tuple[Change, str, set[str]]] = {
    "epsilon of the batch norm": (lambda g: set_attribute(g, "norm", "epsilon", 1e-3), "norm", {"epsilon"}),
    "epsilon of the layer norm": (lambda g: set_attribute(g, "layer_norm", "epsilon", 1e-3), "layer_norm", {"epsilon"}),
    "softmax over the wrong axis": (lambda g: set_attribute(g, "softmax", "axis", 1), "softmax", {"softmax_axis"}),
    "transposed weight": (lambda g: set_weight(g, "w1", lambda w: w.T), "up", {"weight_transposed"}),
    "BGR": (lambda g: set_weight(g, "conv", lambda w: w[:, ::-1]), "conv", {"channel_order"}),
    "missing relu": (lambda g: remove(g, "relu"), "relu", {"activation_missing"}),
    "one relu too many": (lambda g: insert_after(g, "residual", "Relu"), "residual", {"node_inserted"}),
    "another source of the residual": (lambda g: rewire(g, "residual", "t", "m"), "residual", {"residual_source"}),
    "tanh GELU": (tanh_gelu, "gelu_erf", {"gelu_approximation"}),
    "padding at the end": (lambda g: set_attribute(g, "conv", "pads", [0, 0, 2, 2]), "conv", {"padding"}),
    "another constant": (lambda g: set_weight(g, "half", lambda w: w * 1.1), "gelu_half", {"constant_value"}),
}


@pytest.mark.parametrize("variant", ["named", "renamed", "bfloat16"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_at_its_operator_with_its_cause(fault: str, variant: str) -> None:
    change, where, causes = FAULTS[fault]
    found = located(change, variant)
    assert [(origin.reference, origin.cause in causes) for origin in found.origins] == [((where,), True)]
    (origin,) = found.origins
    assert origin.by == "proven"
    if origin.residual is not None:
        assert origin.residual.rms < 8, "mended, it is within the rounding of one operator"


@pytest.mark.parametrize("fault", FAULTS)
def test_in_a_fused_graph_the_region_is_small_and_holds_the_fault(fault: str) -> None:
    change, where, _ = FAULTS[fault]
    found = located(change, "optimised")
    assert len(found.origins) == 1
    assert where in found.origins[0].reference
    assert len(found.origins[0].reference) <= 3


def test_two_faults_are_both_found_and_propagation_is_not_blamed() -> None:
    def both(graph: onnx.GraphProto) -> None:
        set_attribute(graph, "norm", "epsilon", 1e-3)
        set_weight(graph, "w2", lambda w: w.T)

    found = located(both, "renamed")
    assert [origin.reference for origin in found.origins] == [("norm",), ("down",)]
    assert [origin.cause for origin in found.origins] == ["epsilon", "weight_transposed"]


def test_an_output_that_lacks_its_last_operator_is_no_match() -> None:
    def cut(graph: onnx.GraphProto) -> None:
        graph.node.remove(node(graph, "softmax"))
        node(graph, "layer_norm").output[0] = "y"

    (origin,) = located(cut).origins
    assert (origin.reference, origin.cause) == (("softmax",), "node_missing")


def test_an_operator_that_stops_is_the_origin() -> None:
    def wrong_shape(graph: onnx.GraphProto) -> None:
        set_weight(graph, "w2", lambda w: w[:5])

    (origin,) = located(wrong_shape).origins
    assert origin.candidate == ("down",)


def test_layouts_are_found_and_not_assumed() -> None:
    def channels_last(graph: onnx.GraphProto) -> None:
        """The relu on transposed data, and no transpose behind it."""
        set_attribute(graph, "transpose", "perm", [0, 2, 3, 1])
        moving, relu = node(graph, "transpose"), node(graph, "relu")
        moving.input[0], moving.output[0], relu.input[0], relu.output[0] = "n", "r", "r", "t"
        nodes = [one for one in graph.node if one.name not in ("relu", "transpose")]
        first, rest = nodes[:2], nodes[2:]
        ordered = [*first, moving, relu, *rest]
        copies = [onnx.NodeProto.FromString(one.SerializeToString()) for one in ordered]
        del graph.node[:]
        graph.node.extend(copies)

    found = located(channels_last)
    assert found.origins == ()
    assert found.pairs["r"].layout.axes is not None


def test_a_sigmoid_of_very_negative_numbers_is_no_fault() -> None:
    """onnxruntime's is exact to a unit of one: it says 0 for −20, and 1 / (1 + exp(20)) is 2e-9."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 5])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    one = numpy_helper.from_array(np.float32([1.0]), "one")
    spelt_out = [
        helper.make_node("Neg", ["x"], ["n"]),
        helper.make_node("Exp", ["n"], ["e"]),
        helper.make_node("Add", ["e", "one"], ["s"]),
        helper.make_node("Reciprocal", ["s"], ["y"]),
    ]
    protos = [
        helper.make_model(
            helper.make_graph(nodes, "g", [x], [y], [one]), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
        )
        for nodes in ([helper.make_node("Sigmoid", ["x"], ["y"])], spelt_out)
    ]
    values = np.random.default_rng(0).normal(-20, 3, size=(40, 5)).astype(np.float32)
    assert not localise(*map(OnnxGraph, protos), {"x": values}).origins

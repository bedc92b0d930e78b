"""Faults inside of If, Loop and Scan: the cause is named, whatever the body's tensors are called."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from regraft.compare.localise import Origin, localise
from regraft.runtime.onnx_graph import OnnxGraph

RNG = np.random.default_rng(0)
WEIGHT = RNG.normal(0, 0.5, (4, 4)).astype(np.float32)
FEEDS = {"x": RNG.normal(size=(5, 3, 4)).astype(np.float32), "h": RNG.normal(size=(3, 4)).astype(np.float32)}
Nodes = list[onnx.NodeProto]


def tensor(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)


def row(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4])


def body(name: str, nodes: Nodes, inputs: list[onnx.ValueInfoProto], *outputs: str) -> onnx.GraphProto:
    weights = [numpy_helper.from_array(WEIGHT, f"{name}_w"), numpy_helper.from_array(np.float32(0.5), f"{name}_half")]
    return helper.make_graph(nodes, name, inputs, [row(output) for output in outputs], weights)


def network() -> onnx.ModelProto:
    """A Scan over x with a state, a Loop of three rounds on its last state, and an If on the mean of that."""
    scan = body("scan", [
        helper.make_node("MatMul", ["s", "scan_w"], ["m"], "product"),
        helper.make_node("Add", ["m", "slice"], ["a"], "sum"),
        helper.make_node("Relu", ["a"], ["r"], "relu"),
        helper.make_node("Mul", ["r", "scan_half"], ["next"], "half"),
        helper.make_node("Neg", ["next"], ["seen"], "seen"),
    ], [row("s"), row("slice")], "next", "seen")  # fmt: skip
    number = helper.make_tensor_value_info("i", TensorProto.INT64, [])
    go = helper.make_tensor_value_info("go", TensorProto.BOOL, [])
    loop = body("loop", [
        helper.make_node("Identity", ["go"], ["goes_on"]),
        helper.make_node("MatMul", ["state", "loop_w"], ["p"], "step"),
        helper.make_node("Sub", ["p", "last"], ["moved"], "difference"),
    ], [number, go, row("state")], "moved")  # fmt: skip
    loop.output.insert(0, helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []))
    branches = {
        "then_branch": body("then", [helper.make_node("LeakyRelu", ["ends"], ["t"], "leaky", alpha=0.1)], [], "t"),
        "else_branch": body("else", [helper.make_node("Mul", ["ends", "else_half"], ["e"], "smaller")], [], "e"),
    }
    nodes = [
        helper.make_node("Scan", ["h", "x"], ["last", "states"], "scan", num_scan_inputs=1, body=scan),
        helper.make_node("Loop", ["rounds", "", "last"], ["ends"], "loop", body=loop),
        helper.make_node("ReduceMax", ["ends"], ["most"], "most", keepdims=0),
        helper.make_node("Greater", ["most", "zero"], ["is_positive"], "is_positive"),
        helper.make_node("If", ["is_positive"], ["y"], "if", **branches),
    ]
    stored = [numpy_helper.from_array(np.array(3), "rounds"), numpy_helper.from_array(np.float32(0), "zero")]
    graph = helper.make_graph(nodes, "g", [tensor("x"), tensor("h")], [tensor("y"), tensor("states")], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def inner(graph: onnx.GraphProto, node: str, attribute: str = "body") -> onnx.GraphProto:
    found = next(one for one in graph.node if one.name == node)
    return next(one.g for one in found.attribute if one.name == attribute)


def named(graph: onnx.GraphProto, name: str) -> onnx.NodeProto:
    return next(one for one in graph.node if one.name == name)


def other_weight(graph: onnx.GraphProto) -> None:
    held = next(one for one in inner(graph, "scan").initializer if one.name == "scan_w")
    held.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(WEIGHT.T), "scan_w"))


def without_relu(graph: onnx.GraphProto) -> None:
    scan = inner(graph, "scan")
    scan.node.remove(named(scan, "relu"))
    named(scan, "half").input[0] = "a"


def stale(graph: onnx.GraphProto) -> None:
    named(inner(graph, "scan"), "seen").input[0] = "s"


def turned_round(graph: onnx.GraphProto) -> None:
    named(inner(graph, "loop"), "difference").input[:] = ["last", "p"]


def other_slope(graph: onnx.GraphProto) -> None:
    named(inner(graph, "if", "then_branch"), "leaky").attribute[0].f = 0.3


def exchanged(graph: onnx.GraphProto) -> None:
    for attribute in named(graph, "if").attribute:
        attribute.name = {"then_branch": "else_branch", "else_branch": "then_branch"}[attribute.name]


def one_round_less(graph: onnx.GraphProto) -> None:
    graph.initializer[0].CopyFrom(numpy_helper.from_array(np.array(2), "rounds"))


FAULTS: dict[str, tuple[Callable[[onnx.GraphProto], None], str, set[str]]] = {
    "a weight in a Scan": (other_weight, "scan", {"weight_transposed"}),
    "an operator that a Scan lacks": (without_relu, "scan", {"activation_missing"}),
    "what a Scan lists": (stale, "scan", {"input_source"}),
    "operands in a Loop": (turned_round, "loop", {"operands_swapped"}),
    "rounds of a Loop": (one_round_less, "loop", {"trip_count"}),
    "a setting in the branch that is taken": (other_slope, "if", {"activation_alpha"}),
    "the branches": (exchanged, "if", {"branches_swapped"}),
}


def origins(change: Callable[[onnx.GraphProto], None]) -> tuple[Origin, ...]:
    candidate = network()
    change(candidate.graph)
    return localise(OnnxGraph(network()), OnnxGraph(candidate), FEEDS).origins


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_inside_is_named_at_the_operator_around_it(fault: str) -> None:
    change, where, causes = FAULTS[fault]
    (origin,) = origins(change)
    assert origin.reference == (where,)
    assert origin.cause in causes


def test_the_operator_inside_is_told() -> None:
    (origin,) = origins(other_weight)
    assert "product" in origin.detail


def test_other_names_are_no_fault() -> None:
    assert localise(OnnxGraph(network()), OnnxGraph(renamed_inside(network())), FEEDS).origins == ()


def test_a_fault_is_found_under_other_names_too() -> None:
    candidate = network()
    other_weight(candidate.graph)
    (origin,) = localise(OnnxGraph(network()), OnnxGraph(renamed_inside(candidate)), FEEDS).origins
    assert (origin.reference, origin.cause) == (("scan",), "weight_transposed")


def renamed_inside(model: onnx.ModelProto) -> onnx.ModelProto:
    """Tensors of the Scan's body under other names."""
    scan = inner(model.graph, "scan")
    names = {name: f"other_{name}" for node in scan.node for name in (*node.input, *node.output)}
    for node in scan.node:
        node.name = f"other {node.name}"
        node.input[:] = [names[name] for name in node.input]
        node.output[:] = [names[name] for name in node.output]
    for value in (*scan.input, *scan.output, *scan.initializer):
        value.name = names[value.name]
    return model

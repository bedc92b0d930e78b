"""Hypotheses about structure: an operator left out, replaced by a relative, followed by one too many, fed wrongly."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from regraft.compare.causes.attributes import ACTIVATIONS, kind_of
from regraft.compare.causes.interface import Hypothesis
from regraft.compare.roles import moves_only, role

if TYPE_CHECKING:
    from regraft.runtime.onnx_graph import OnnxGraph
    from regraft.runtime.operator_graph import OperatorNode

_RELATIVES = (
    frozenset(
        {"Relu", "LeakyRelu", "Elu", "Sigmoid", "Tanh", "Softplus", "Softsign", "HardSwish", "HardSigmoid", "Selu"}
    ),
    frozenset({"Add", "Sub"}),
    frozenset({"Mul", "Div"}),
    frozenset({"Max", "Min"}),
    frozenset({"ReduceMean", "ReduceSum", "ReduceMax"}),
    frozenset({"Floor", "Ceil", "Round"}),
    frozenset({"MaxPool", "AveragePool"}),
    frozenset({"Less", "LessOrEqual"}),
    frozenset({"Greater", "GreaterOrEqual"}),
    frozenset({"GlobalAveragePool", "GlobalMaxPool"}),
    frozenset({"ArgMax", "ArgMin"}),
)
_AFTER = ("Relu", "Sigmoid", "Tanh", "Neg", "Softplus")
_MAX_SOURCES = 24


def structure(graph: OnnxGraph, node: OperatorNode, values: Mapping[str, Any]) -> Iterator[Hypothesis]:
    """Variants of what stands around an operator; see `Family`."""
    made = [name for name in node.outputs if name]
    now = values.get(made[0]) if made else None
    if now is None or not hasattr(now, "shape"):
        return
    for name in node.inputs:
        held = values.get(name, graph.constant(name) if name else None)
        if held is not None and getattr(held, "shape", None) == now.shape and held.dtype == now.dtype:
            yield Hypothesis(
                _missing(node), f"{node.operator} is missing", functools.partial(_left_out, made[0], name, held)
            )
    for relatives in _RELATIVES:
        if node.operator in relatives:
            for other in sorted(relatives - {node.operator}):
                yield from replaced_by(graph, node, other)
    if node.operator == "Erf":
        for name, form in (("tanh", _tanh_form), ("sigmoid", _sigmoid_form)):
            run = functools.partial(_as_function, node, form)
            yield Hypothesis("gelu_approximation", f"the {name} form of GELU in place of Erf", run)
    if node.operator == "Round":
        run = functools.partial(_as_function, node, _half_away)
        yield Hypothesis("rounding_mode", "halves are rounded away from zero", run)
    for other in _AFTER:
        run = functools.partial(_followed, graph, node, other, made[0])
        yield Hypothesis("node_inserted", f"{other} behind {node.operator}", run)


def replaced_by(graph: OnnxGraph, node: OperatorNode, other: str) -> Iterator[Hypothesis]:
    """The hypothesis that an operator was replaced by one of another kind, on the same operands."""
    if other != node.operator:
        run = functools.partial(_replaced, graph, node, other)
        yield Hypothesis(kind_of(node.operator), f"{other} in place of {node.operator}", run)


def _missing(node: OperatorNode) -> str:
    if node.operator in ACTIVATIONS:
        return "activation_missing"
    if moves_only(node.operator):
        return "layout"
    return "bias_missing" if role(node.operator) == "add" else "node_missing"


def sources(graph: OnnxGraph, node: OperatorNode, values: Mapping[str, Any]) -> Iterator[Hypothesis]:
    """Another tensor of the same shape in place of an operand, those made nearby first; see `Family`."""
    order = {name: i for i, one in enumerate(graph.nodes) for name in one.outputs}
    for name in node.inputs:
        held = values.get(name)
        if held is None or not hasattr(held, "shape") or held.ndim < 2:
            continue
        others = [
            other
            for other, value in values.items()
            if other != name
            and getattr(value, "shape", None) == held.shape
            and value.dtype == held.dtype
            and order.get(other, -1) < order.get(node.outputs[0], 0)
        ]
        others.sort(key=lambda other: abs(order.get(other, -1) - order.get(name, -1)))
        for other in others[:_MAX_SOURCES]:
            run = functools.partial(_fed, graph, node, name, other)
            yield Hypothesis("input_source", f"{node.operator} takes {other} in place of {name}", run)


def _tanh_form(u: Any) -> Any:
    """erf(u) of which GELU(√2 u) is its tanh approximation (Hendrycks and Gimpel, section 2)."""
    import numpy as np

    x = np.sqrt(2.0) * u.astype(np.float64)
    return np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3))


def _sigmoid_form(u: Any) -> Any:
    """erf(u) of which GELU(√2 u) is x · sigmoid(1.702 x)."""
    import numpy as np

    return 2.0 / (1.0 + np.exp(-1.702 * np.sqrt(2.0) * u.astype(np.float64))) - 1.0


def _half_away(x: Any) -> Any:
    import numpy as np

    return np.trunc(x + np.copysign(0.5, x))


def _as_function(node: OperatorNode, form: Callable[[Any], Any], values: Mapping[str, Any]) -> dict[str, Any]:
    x = values[node.inputs[0]]
    return {node.outputs[0]: form(x).astype(x.dtype)}


def _left_out(made: str, name: str, held: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    return {made: values.get(name, held)}


def _replaced(graph: OnnxGraph, node: OperatorNode, other: str, values: Mapping[str, Any]) -> dict[str, Any]:
    import onnx

    copy = onnx.NodeProto()
    copy.CopyFrom(graph.protos[node.name])
    copy.op_type = other
    if other in ("Relu", "Sigmoid", "Tanh", "Softplus", "HardSwish", "LeakyRelu", "Elu", "HardSigmoid", "Selu"):
        del copy.attribute[:]
    return graph.run_proto(copy, values)


def _followed(graph: OnnxGraph, node: OperatorNode, other: str, made: str, values: Mapping[str, Any]) -> dict[str, Any]:
    from onnx import helper

    found = graph.run(node, values)
    behind = graph.run_proto(helper.make_node(other, [made], ["behind"]), {**values, **found})
    return {**found, made: behind["behind"]}


def _fed(graph: OnnxGraph, node: OperatorNode, name: str, other: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return graph.run(node, {**values, name: values[other]})

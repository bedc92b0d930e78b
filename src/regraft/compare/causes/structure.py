"""Hypotheses about structure: an operator left out, replaced by a relative, followed by one too many, fed wrongly."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from regraft.compare.causes.attributes import ACTIVATIONS, kind_of
from regraft.compare.causes.interface import Hypothesis
from regraft.compare.causes.relatives import FORMS, in_the_words_of, relatives
from regraft.compare.roles import moves_only, role

if TYPE_CHECKING:
    from regraft.runtime.operator_graph import EditableGraph, OperatorNode

_MAX_SOURCES = 24


def structure(graph: EditableGraph, node: OperatorNode, values: Mapping[str, Any]) -> Iterator[Hypothesis]:
    """Variants of what stands around an operator; see `Family`."""
    made = [name for name in node.outputs if name]
    now = values.get(made[0]) if made else None
    if now is None or not hasattr(now, "shape"):
        return
    for name in node.inputs:
        held = values.get(name, graph.constant(name) if name else None)
        if held is not None and getattr(held, "shape", None) == now.shape and held.dtype == now.dtype:
            yield Hypothesis(
                _missing(graph, node), f"{node.operator} is missing", functools.partial(_left_out, made[0], name, held)
            )
    for other in relatives(node.operator):
        yield from replaced_by(graph, node, other)
    if role(node.operator) == "erf":
        for name, form in (("tanh", _tanh_form), ("sigmoid", _sigmoid_form)):
            run = functools.partial(_as_function, node, form)
            yield Hypothesis("gelu_approximation", f"the {name} form of GELU in place of Erf", run)
    if role(node.operator) == "round":
        run = functools.partial(_as_function, node, _half_away)
        yield Hypothesis("rounding_mode", "halves are rounded away from zero", run)
    kind = role(node.operator)
    if kind in _INTEGER_FORMS and now.dtype.kind in "iu":
        word, forms = _INTEGER_FORMS[kind]
        for detail, operation in forms:
            run = functools.partial(_as_integers, graph, node, operation)
            yield Hypothesis(word, f"{node.operator} of integers {detail}", run)
    if kind in ("mul", "div") and now.dtype.kind == "f":
        run = functools.partial(_cut_to_integers, graph, node)
        yield Hypothesis("dtype_promotion", f"{node.operator} is done on integers", run)
    if kind in ("expand", "tile"):
        for axis in range(1, now.ndim - 1):
            run = functools.partial(_repeated_otherwise, graph, node, axis)
            yield Hypothesis("repeat_order", f"{node.operator} repeats axis {axis} as a whole, not each part", run)
    for name, behind in FORMS.items():
        run = functools.partial(_followed, graph, node, behind, made[0])
        yield Hypothesis("node_inserted", f"{name} behind {node.operator}", run)


def replaced_by(graph: EditableGraph, node: OperatorNode, other: str) -> Iterator[Hypothesis]:
    """The hypothesis that an operator was replaced by one of another kind, on the same operands.

    Args:
        graph: that the operator is of.
        node: the operator.
        other: the kind, in any framework's words.
    """
    kind = in_the_words_of(node.operator, other)
    if kind is not None and kind != node.operator:
        run = functools.partial(graph.run_changed, node, operator=kind)
        yield Hypothesis(kind_of(node.operator), f"{kind} in place of {node.operator}", run)


def _missing(graph: EditableGraph, node: OperatorNode) -> str:
    if role(node.operator) in ACTIVATIONS:
        return "activation_missing"
    if moves_only(node.operator):
        return "layout"
    if kind_of(node.operator) == "rounding_mode":
        return "rounding_mode"
    has_constant = any(graph.constant(name) is not None for name in node.inputs if name)
    return "bias_missing" if role(node.operator) == "add" and has_constant else "node_missing"


def sources(graph: EditableGraph, node: OperatorNode, values: Mapping[str, Any]) -> Iterator[Hypothesis]:
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


def _repeated_otherwise(
    graph: EditableGraph, node: OperatorNode, axis: int, values: Mapping[str, Any]
) -> dict[str, Any]:
    """a b a b where a a b b is meant: the copies of axis + 1 in place of those of each part of axis."""
    import numpy as np

    made = graph.run(node, values)[node.outputs[0]]
    return {node.outputs[0]: np.ascontiguousarray(made.swapaxes(axis, axis + 1)).reshape(made.shape)}


def _in_float(operation: str, finish: str) -> Callable[[Any, Any], Any]:
    def compute(a: Any, b: Any) -> Any:
        import numpy as np

        kind = np.float64 if finish == "floor" else np.float32
        return getattr(np, finish)(getattr(np, operation)(a.astype(kind), b.astype(kind)))

    return compute


_INTEGER_FORMS = {
    "div": (
        "integer_division",
        (
            ("is rounded down", _in_float("divide", "floor")),
            ("is done in float32 and rounded", _in_float("divide", "round")),
            ("is done in float32 and cut off", _in_float("divide", "trunc")),
        ),
    ),
    "pow": ("integer_pow", (("is done in float32", _in_float("power", "trunc")),)),
}


def _as_integers(
    graph: EditableGraph, node: OperatorNode, form: Callable[[Any, Any], Any], values: Mapping[str, Any]
) -> dict[str, Any]:
    import numpy as np

    a, b = (_value(graph, name, values) for name in node.inputs[:2])
    with np.errstate(all="ignore"):
        return {node.outputs[0]: form(a, b).astype(a.dtype)}


def _cut_to_integers(graph: EditableGraph, node: OperatorNode, values: Mapping[str, Any]) -> dict[str, Any]:
    import numpy as np

    a, b = (np.trunc(_value(graph, name, values)) for name in node.inputs[:2])
    with np.errstate(all="ignore"):
        made = a * b if role(node.operator) == "mul" else np.trunc(a / b)
    return {node.outputs[0]: made.astype(values[node.outputs[0]].dtype)}


def _value(graph: EditableGraph, name: str, values: Mapping[str, Any]) -> Any:
    return values[name] if name in values else graph.constant(name)


def _half_away(x: Any) -> Any:
    import numpy as np

    return np.trunc(x + np.copysign(0.5, x))


def _as_function(node: OperatorNode, form: Callable[[Any], Any], values: Mapping[str, Any]) -> dict[str, Any]:
    x = values[node.inputs[0]]
    return {node.outputs[0]: form(x).astype(x.dtype)}


def _left_out(made: str, name: str, held: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    return {made: values.get(name, held)}


def _followed(
    graph: EditableGraph, node: OperatorNode, form: Callable[[Any], Any], made: str, values: Mapping[str, Any]
) -> dict[str, Any]:
    found = graph.run(node, values)
    return {**found, made: form(found[made].astype("float64")).astype(found[made].dtype)}


def _fed(graph: EditableGraph, node: OperatorNode, name: str, other: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return graph.run(node, {**values, name: values[other]})

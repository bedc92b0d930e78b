"""Hypotheses about lone numbers: the value that would explain the divergence is looked for, not guessed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from regraft.compare.causes.settings import EPSILONS
from regraft.compare.causes.weights import cause_of_operand, scalar_word

if TYPE_CHECKING:
    import onnx

    from regraft.compare.walk import Walk
    from regraft.runtime.onnx_graph import OnnxGraph
    from regraft.runtime.operator_graph import OperatorNode

_REFINEMENTS = 48
_GOLDEN = (math.sqrt(5) - 1) / 2
_FLOAT_ATTRIBUTES = {"epsilon": "epsilon", "alpha": "activation_alpha", "beta": "activation_alpha"}


class Scalar(msgspec.Struct, frozen=True):
    """One number of an operator that can be varied.

    Attributes:
        cause: the word for a wrong one.
        name: of the operand or attribute.
        now: its value.
        run: (number, values) → the operator's results with that number.
    """

    cause: str
    name: str
    now: float
    run: Callable[[float, Mapping[str, Any]], dict[str, Any]]


def scalars(graph: OnnxGraph, node: OperatorNode, walk: Walk, *, is_reference: bool) -> Iterator[Scalar]:
    """The numbers of an operator: operands of one element, and attributes."""
    import numpy as np

    for name in dict.fromkeys(node.inputs):
        value = graph.constant(name) if name else None
        if value is None or value.size != 1 or value.dtype.kind != "f":
            continue
        known = cause_of_operand(node.operator, list(node.inputs).index(name))
        word = known or (scalar_word(walk, node, value) if is_reference else "constant_value")

        def vary(
            number: float,
            values: Mapping[str, Any],
            name: str = name,
            shape: Any = value.shape,
            kind: Any = value.dtype,
        ) -> dict[str, Any]:
            return graph.run(node, {**values, name: np.full(shape, number, dtype=kind)})

        yield Scalar(word, name, float(value.item()), vary)
    proto = graph.protos[node.name]
    for attribute in proto.attribute:
        if attribute.name in _FLOAT_ATTRIBUTES and attribute.type == attribute.FLOAT:

            def set_to(number: float, values: Mapping[str, Any], name: str = attribute.name) -> dict[str, Any]:
                return graph.run_proto(_with(proto, name, number), values)

            yield Scalar(_FLOAT_ATTRIBUTES[attribute.name], attribute.name, attribute.f, set_to)


def fitted(scalar: Scalar, error: Callable[[float], float]) -> Iterator[float]:
    """Numbers to try: usual ones, then the one that a search for the least error ends at.

    Args:
        scalar: which number.
        error: number → error of what follows, infinite where it cannot be run.
    """
    now = scalar.now
    usual = [now * 10, now / 10, now * 2, now / 2, -now, 0.0, 1.0, now**2]
    usual += [1 / now, math.copysign(abs(now) ** 0.5, now)] if now else []
    if scalar.cause == "epsilon" or 0 < abs(now) <= 1e-2:
        usual = [*EPSILONS, *usual]
    tried = {value: error(value) for value in dict.fromkeys(usual) if value != now}
    best = min(tried, key=lambda value: tried[value], default=now)
    yield best
    sign = math.copysign(1.0, best if best else now if now else 1.0)
    size = abs(best) or abs(now) or 1.0
    low, high = math.log(size) - 3.0, math.log(size) + 3.0
    yield sign * math.exp(_least(lambda power: error(sign * math.exp(power)), low, high))


def _least(error: Callable[[float], float], low: float, high: float) -> float:
    """Golden-section search; a function with one valley is assumed."""
    a, b = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_a, at_b = error(a), error(b)
    for _ in range(_REFINEMENTS):
        if at_a < at_b:
            high, b, at_b = b, a, at_a
            a = high - _GOLDEN * (high - low)
            at_a = error(a)
        else:
            low, a, at_a = a, b, at_b
            b = low + _GOLDEN * (high - low)
            at_b = error(b)
    return a if at_a < at_b else b


def _with(proto: onnx.NodeProto, name: str, number: float) -> onnx.NodeProto:
    import onnx

    copy = onnx.NodeProto()
    copy.CopyFrom(proto)
    for attribute in copy.attribute:
        if attribute.name == name:
            attribute.f = number
    return copy

"""Hypotheses about lone numbers: the value that would explain the divergence is looked for, not guessed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from regraft.compare.causes.attributes import cause_word
from regraft.compare.causes.knobs import EPSILONS, NUMBERS
from regraft.compare.causes.weights import cause_of_operand, scalar_word
from regraft.compare.roles import role

if TYPE_CHECKING:
    from regraft.runtime.operator_graph import EditableGraph, OperatorNode

_REFINEMENTS = 48
_MASKS = (-1e9, -1e4, -65504.0, -3.4028234663852886e38, -math.inf, -1e3, -1e2, -1e1, -1.0)
"""What scores that must not be seen are set to."""
_GOLDEN = (math.sqrt(5) - 1) / 2


class Scalar(msgspec.Struct, frozen=True):
    """One number of an operator that can be varied.

    Attributes:
        cause: the word for a wrong one.
        name: of the operand or setting.
        now: its value.
        run: (number, values) → the operator's results with that number.
    """

    cause: str
    name: str
    now: float
    run: Callable[[float, Mapping[str, Any]], dict[str, Any]]


def scalars(graph: EditableGraph, node: OperatorNode, values: Mapping[str, Any]) -> Iterator[Scalar]:
    """The numbers of an operator: operands of one element, and settings."""
    import numpy as np

    for name in dict.fromkeys(node.inputs):
        value = graph.constant(name) if name else None
        if value is None or value.size != 1 or value.dtype.kind != "f":
            continue
        known = cause_of_operand(node.operator, list(node.inputs).index(name))

        def vary(
            number: float,
            values: Mapping[str, Any],
            name: str = name,
            shape: Any = value.shape,
            kind: Any = value.dtype,
        ) -> dict[str, Any]:
            return graph.run(node, {**values, name: np.full(shape, number, dtype=kind)})

        yield Scalar(known or scalar_word(graph, node, value), name, float(value.item()), vary)
    for name, given in graph.settings(node).items():
        if name not in NUMBERS:
            continue
        setting = _usual_scale(values.get(node.inputs[0])) if given is None and name == "scale" else given
        if not isinstance(setting, int | float) or isinstance(setting, bool):
            continue

        def set_to(number: float, values: Mapping[str, Any], name: str = name) -> dict[str, Any]:
            return graph.run_changed(node, values, settings={name: number})

        word = cause_word(node.operator, name)
        if name == "other" or role(node.operator) == "linear":
            kind = "mul" if role(node.operator) == "linear" else None
            word = scalar_word(graph, node, np.array(float(setting)), kind=kind)
            word = "bias_missing" if name == "beta" else word
        yield Scalar(word, name, float(setting), set_to)


def _usual_scale(query: Any) -> float | None:
    """What attention multiplies its scores by when it is told nothing.

    Source: Vaswani et al., Attention Is All You Need, 2017, equation 1.
    """
    return float(query.shape[-1] ** -0.5) if hasattr(query, "shape") and query.ndim else None


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
    if scalar.cause == "mask_value":
        usual = [*_MASKS, *usual]
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

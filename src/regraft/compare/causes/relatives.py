"""Operators that are taken for one another, in the words of each framework."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from regraft.compare.roles import role

_ONNX = {
    "relu": "Relu", "leakyrelu": "LeakyRelu", "elu": "Elu", "sigmoid": "Sigmoid", "tanh": "Tanh",
    "softplus": "Softplus", "softsign": "Softsign", "hardswish": "HardSwish", "hardsigmoid": "HardSigmoid",
    "selu": "Selu", "gelu": "Gelu", "exp": "Exp", "add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div",
    "max": "Max", "min": "Min", "mean": "ReduceMean", "sum": "ReduceSum", "reducemax": "ReduceMax", "floor": "Floor",
    "ceil": "Ceil", "round": "Round", "max_pool": "MaxPool", "average_pool": "AveragePool", "less": "Less",
    "lessorequal": "LessOrEqual", "greater": "Greater", "greaterorequal": "GreaterOrEqual",
    "globalaveragepool": "GlobalAveragePool", "globalmaxpool": "GlobalMaxPool", "argmax": "ArgMax",
    "argmin": "ArgMin",
}  # fmt: skip
_ATEN = {
    "relu": "aten.relu.default", "leakyrelu": "aten.leaky_relu.default", "elu": "aten.elu.default",
    "sigmoid": "aten.sigmoid.default", "tanh": "aten.tanh.default", "softplus": "aten.softplus.default",
    "hardswish": "aten.hardswish.default", "hardsigmoid": "aten.hardsigmoid.default", "selu": "aten.selu.default",
    "gelu": "aten.gelu.default", "silu": "aten.silu.default", "mish": "aten.mish.default", "exp": "aten.exp.default",
    "add": "aten.add.Tensor", "sub": "aten.sub.Tensor", "mul": "aten.mul.Tensor", "div": "aten.div.Tensor",
    "max": "aten.maximum.default", "min": "aten.minimum.default", "mean": "aten.mean.dim",
    "sum": "aten.sum.dim_IntList", "reducemax": "aten.amax.default", "floor": "aten.floor.default",
    "ceil": "aten.ceil.default", "round": "aten.round.default", "max_pool": "aten.max_pool2d.default",
    "average_pool": "aten.avg_pool2d.default", "less": "aten.lt.Tensor", "lessorequal": "aten.le.Tensor",
    "greater": "aten.gt.Tensor", "greaterorequal": "aten.ge.Tensor", "argmax": "aten.argmax.default",
    "argmin": "aten.argmin.default", "bilinear": "aten.upsample_bilinear2d.vec",
    "nearest": "aten.upsample_nearest2d.vec", "bicubic": "aten.upsample_bicubic2d.vec",
}  # fmt: skip
_RELATIVES = tuple(
    tuple(line.split())
    for line in (
        "relu leakyrelu elu sigmoid tanh softplus softsign hardswish hardsigmoid selu gelu silu mish exp",
        "add sub", "mul div", "max min", "mean sum reducemax", "floor ceil round", "max_pool average_pool",
        "less lessorequal", "greater greaterorequal", "globalaveragepool globalmaxpool", "argmax argmin",
        "bilinear nearest bicubic",
    )
)  # fmt: skip
_CALLED = {name: word for words in (_ONNX, _ATEN) for word, name in words.items()}


def relatives(operator: str) -> Iterator[str]:
    """Operators that are put in the place of one by mistake, in the words of the same framework."""
    words = _words(operator)
    own = _word(operator)
    for family in _RELATIVES:
        if own in family:
            yield from (words[other] for other in family if other != own and other in words)


def in_the_words_of(operator: str, other: str) -> str | None:
    """What an operator of any framework is called in that of another operator; None where it is not known there."""
    if _words(operator) is _words(other):
        return other
    return _words(operator).get(_word(other))


def _words(operator: str) -> dict[str, str]:
    return _ATEN if operator.startswith("aten.") else _ONNX


def _word(operator: str) -> str:
    return _CALLED.get(operator, role(operator))


def _relu(x: Any) -> Any:
    return x * (x > 0)


def _sigmoid(x: Any) -> Any:
    import numpy as np

    return 0.5 + 0.5 * np.tanh(0.5 * x)


def _tanh(x: Any) -> Any:
    import numpy as np

    return np.tanh(x)


def _softplus(x: Any) -> Any:
    import numpy as np

    return np.logaddexp(0.0, x)


FORMS: dict[str, Callable[[Any], Any]] = {
    "Relu": _relu, "Sigmoid": _sigmoid, "Tanh": _tanh, "Neg": lambda x: -x, "Softplus": _softplus,
}  # fmt: skip
"""What stands behind an operator where nothing should, as functions of float64."""

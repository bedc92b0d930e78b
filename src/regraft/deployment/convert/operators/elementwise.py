"""Element by element: arithmetic, activations, comparisons, casts."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812  its customary name

from regraft.deployment.convert.operators.interface import Family
from regraft.deployment.convert.operators.known_numbers import (
    Numbers,
    cast_numbers,
    ceil,
    divided,
    floor,
    folded,
    is_symbolic,
    pairwise,
    settled,
    single,
    sym_max,
    sym_min,
)
from regraft.errors import Unsupported
from regraft.runtime.torch_tensors import torch_dtype

if TYPE_CHECKING:
    from torch import Tensor

    from regraft.deployment.convert.operators.network import Call

FAMILY = Family()
FAMILY.add(
    {
        "Exp(input)": torch.exp, "Log(input)": torch.log, "Sin(input)": torch.sin, "Cos(input)": torch.cos,
        "Tan(input)": torch.tan, "Asin(input)": torch.asin, "Acos(input)": torch.acos, "Atan(input)": torch.atan,
        "Sinh(input)": torch.sinh, "Cosh(input)": torch.cosh, "Asinh(input)": torch.asinh, "Acosh(input)": torch.acosh,
        "Atanh(input)": torch.atanh, "Tanh(input)": torch.tanh, "Erf(input)": torch.erf, "Round(X)": torch.round,
        "Sigmoid(X)": torch.sigmoid, "Softplus(X)": F.softplus, "Softsign(input)": F.softsign,
        "HardSwish(X)": F.hardswish, "Mish(X)": F.mish, "IsNaN(X)": torch.isnan, "Reciprocal(X)": torch.reciprocal,
        "Sign(input)": torch.sign, "BitwiseAnd(A, B)": torch.bitwise_and, "BitwiseOr(A, B)": torch.bitwise_or,
        "BitwiseXor(A, B)": torch.bitwise_xor, "BitwiseNot(X)": torch.bitwise_not, "Xor(A, B)": torch.logical_xor,
        "PRelu(X, slope)": lambda x, slope: torch.where(x < 0, x * slope, x),
        "LeakyRelu(X; alpha=0.01)": lambda x, alpha: F.leaky_relu(x, negative_slope=alpha),
        "Elu(X; alpha=1.0)": F.elu,
        "Celu(X; alpha=1.0)": F.celu,
        "Selu(X; alpha=1.67326319217681884765625, gamma=1.05070102214813232421875)":
            lambda x, alpha, gamma: gamma * torch.where(x > 0, x, alpha * torch.exp(x) - alpha),
        "ThresholdedRelu(X; alpha=1.0)": lambda x, alpha: torch.where(x > alpha, x, 0.0),
        "HardSigmoid(X; alpha=0.2, beta=0.5)": lambda x, alpha, beta: torch.clamp(x * alpha + beta, 0.0, 1.0),
        "Shrink(input; bias=0.0, lambd=0.5)":
            lambda x, bias, lambd: torch.where(x < -lambd, x + bias, torch.where(x > lambd, x - bias, 0.0)).to(x.dtype),
        "Swish(X; alpha=1.0)": lambda x, alpha: x * torch.sigmoid(alpha * x),
        "Gelu(X; approximate='none')": lambda x, approximate: F.gelu(x, approximate=approximate),
    }
)  # fmt: skip


@FAMILY.maps("Relu(X)")
def _relu(x: Tensor) -> Tensor:
    return torch.relu(x)


@FAMILY.maps("Identity(input)", numbers=lambda values: values)
def _identity(data: Tensor) -> Tensor:
    return data


@FAMILY.maps("Dropout(data, ratio?, #training_mode?; ratio=0.5, seed?, is_test=1)")
def _dropout(
    data: Tensor, _: Tensor | None, training_mode: Numbers | None, ratio: float, seed: int | None, is_test: int
) -> tuple[Tensor, Tensor]:
    """Networks are converted for inference, where dropout does nothing."""
    if training_mode is not None and training_mode.any():
        raise Unsupported("Dropout in training mode has no mapping")
    return data, torch.ones_like(data, dtype=torch.bool)


@FAMILY.maps("Abs(X)", numbers=single(np.abs, abs))
def _abs(x: Tensor) -> Tensor:
    return torch.abs(x) if x.dtype not in (torch.uint8, torch.bool) else x


@FAMILY.maps("Neg(X)", numbers=single(np.negative, operator.neg))
def _neg(x: Tensor) -> Tensor:
    return -x


@FAMILY.maps("Floor(X)", numbers=single(np.floor, floor))
def _floor(x: Tensor) -> Tensor:
    return torch.floor(x)


@FAMILY.maps("Ceil(X)", numbers=single(np.ceil, ceil))
def _ceil(x: Tensor) -> Tensor:
    return torch.ceil(x)


@FAMILY.maps("Sqrt(X)", numbers=single(np.sqrt, torch.sym_sqrt))
def _sqrt(x: Tensor) -> Tensor:
    return torch.sqrt(x)


@FAMILY.maps("Add(A, B; axis?, broadcast=1, consumed_inputs?)", numbers=pairwise(np.add, operator.add))
def _add(a: Tensor, b: Tensor, axis: int | None, broadcast: int, consumed_inputs: Any) -> Tensor:
    return torch.add(a, _aligned(a, b, axis))


@FAMILY.maps("Sub(A, B; axis?, broadcast=1, consumed_inputs?)", numbers=pairwise(np.subtract, operator.sub))
def _sub(a: Tensor, b: Tensor, axis: int | None, broadcast: int, consumed_inputs: Any) -> Tensor:
    return torch.sub(a, _aligned(a, b, axis))


@FAMILY.maps("Mul(A, B; axis?, broadcast=1, consumed_inputs?)", numbers=pairwise(np.multiply, operator.mul))
def _mul(a: Tensor, b: Tensor, axis: int | None, broadcast: int, consumed_inputs: Any) -> Tensor:
    return torch.mul(a, _aligned(a, b, axis))


@FAMILY.maps("Div(A, B; axis?, broadcast=1, consumed_inputs?)", numbers=divided)
def _div(a: Tensor, b: Tensor, axis: int | None, broadcast: int, consumed_inputs: Any) -> Tensor:
    b = _aligned(a, b, axis)
    if a.is_floating_point():
        return torch.div(a, b)
    return torch.div(a, b, rounding_mode="trunc")


def _aligned(a: Tensor, b: Tensor, axis: int | None) -> Tensor:
    """Before opset 7, the second operand's dimensions were those of the first from `axis` on."""
    if axis is None or b.ndim == 0:
        return b
    return b.reshape(*b.shape, *(1,) * (a.ndim - axis % a.ndim - b.ndim))


@FAMILY.maps("Mod(A, B; fmod=0)", numbers=pairwise(np.mod, operator.mod))
def _mod(a: Tensor, b: Tensor, fmod: int) -> Tensor:
    return torch.fmod(a, b) if fmod else torch.remainder(a, b)


@FAMILY.maps("Pow(X, Y; axis?, broadcast=1)", numbers=pairwise(np.power, operator.pow))
def _pow(x: Tensor, y: Tensor, axis: int | None, broadcast: int) -> Tensor:
    return torch.pow(x, _aligned(x, y, axis)).to(x.dtype)


@FAMILY.maps("BitShift(X, Y; direction)")
def _bit_shift(x: Tensor, y: Tensor, direction: str) -> Tensor:
    if x.dtype not in (torch.uint8, torch.int32, torch.int64):
        raise Unsupported(f"BitShift of {x.dtype} has no mapping")
    shift = torch.bitwise_left_shift if direction == "LEFT" else torch.bitwise_right_shift
    return shift(x, y)


@FAMILY.maps("Sum(*data_0)")
def _sum(*data: Tensor) -> Tensor:
    total: Tensor = folded(torch.add)(*data)
    return total


@FAMILY.maps("Mean(*data_0)")
def _mean(*data: Tensor) -> Tensor:
    total: Tensor = folded(torch.add)(*data)
    return total / len(data)


@FAMILY.maps("Max(*data_0; consumed_inputs?)", numbers=folded(pairwise(np.maximum, sym_max)))
def _max(*data: Tensor, consumed_inputs: Any) -> Tensor:
    found: Tensor = folded(torch.maximum)(*data)
    return found


@FAMILY.maps("Min(*data_0; consumed_inputs?)", numbers=folded(pairwise(np.minimum, sym_min)))
def _min(*data: Tensor, consumed_inputs: Any) -> Tensor:
    found: Tensor = folded(torch.minimum)(*data)
    return found


@FAMILY.maps("Clip(input, min?, max?; min=-3.4028234663852886e+38, max=3.4028234663852886e+38)", until=10)
def _clip_attributes(x: Tensor, *_: Tensor, min: float, max: float) -> Tensor:  # noqa: A002  ONNX's names
    return torch.clamp(x, min, max)


@FAMILY.maps("Clip(input, min?, max?)", since=11)
def _clip(x: Tensor, low: Tensor | None, high: Tensor | None) -> Tensor:
    """The upper limit wins where the two cross, as for torch."""
    if low is None and high is None:
        return x
    return torch.clamp(x, low, high)


@FAMILY.maps("Equal(A, B; axis?, broadcast=1)", numbers=pairwise(np.equal, operator.eq))
def _equal(a: Tensor, b: Tensor, axis: int | None, broadcast: int) -> Tensor:
    return torch.eq(a, _aligned(a, b, axis))


@FAMILY.maps("Greater(A, B; axis?, broadcast=1)", numbers=pairwise(np.greater, operator.gt))
def _greater(a: Tensor, b: Tensor, axis: int | None, broadcast: int) -> Tensor:
    return torch.gt(a, _aligned(a, b, axis))


@FAMILY.maps("Less(A, B; axis?, broadcast=1)", numbers=pairwise(np.less, operator.lt))
def _less(a: Tensor, b: Tensor, axis: int | None, broadcast: int) -> Tensor:
    return torch.lt(a, _aligned(a, b, axis))


@FAMILY.maps("GreaterOrEqual(A, B)", numbers=pairwise(np.greater_equal, operator.ge))
def _greater_or_equal(a: Tensor, b: Tensor) -> Tensor:
    return torch.ge(a, b)


@FAMILY.maps("LessOrEqual(A, B)", numbers=pairwise(np.less_equal, operator.le))
def _less_or_equal(a: Tensor, b: Tensor) -> Tensor:
    return torch.le(a, b)


@FAMILY.maps("Not(X)", numbers=single(np.logical_not, operator.not_))
def _not(x: Tensor) -> Tensor:
    return torch.logical_not(x)


@FAMILY.maps("And(A, B)", numbers=pairwise(np.logical_and, lambda a, b: bool(a) and bool(b)))
def _and(a: Tensor, b: Tensor) -> Tensor:
    return torch.logical_and(a, b)


@FAMILY.maps("Or(A, B)", numbers=pairwise(np.logical_or, lambda a, b: bool(a) or bool(b)))
def _or(a: Tensor, b: Tensor) -> Tensor:
    return torch.logical_or(a, b)


@FAMILY.maps("IsInf(X; detect_negative=1, detect_positive=1)")
def _is_inf(x: Tensor, detect_negative: int, detect_positive: int) -> Tensor:
    found = torch.zeros_like(x, dtype=torch.bool)
    if detect_positive:
        found = found | (x == math.inf)
    return found | (x == -math.inf) if detect_negative else found


def _chosen(condition: Numbers, a: Numbers, b: Numbers) -> Numbers:
    if is_symbolic(a) or is_symbolic(b):
        a, b = a.astype(object), b.astype(object)
    return settled(np.where(condition.astype(bool), a, b))


@FAMILY.maps("Where(condition, X, Y)", numbers=_chosen)
def _where(condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return torch.where(condition, x, y)


def _cast_known(values: Numbers, to: int, **_: Any) -> Numbers:
    return cast_numbers(values, np.dtype(onnx_dtype(to)))


def onnx_dtype(number: int) -> str:
    """The numpy-style name of an ONNX element type.

    Raises:
        Unsupported: it is none of numbers.
    """
    import onnx

    name = onnx.helper.tensor_dtype_to_np_dtype(number).name
    if number == onnx.TensorProto.STRING:
        raise Unsupported("text has no place in torch")
    return str(name)


def _castable_dtype(number: int) -> torch.dtype:
    try:
        return torch_dtype(onnx_dtype(number))
    except Unsupported:
        raise Unsupported(f"torch has no {onnx_dtype(number)}") from None


@FAMILY.maps("Cast(input; to, saturate=1, round_mode='up')", numbers=_cast_known)
def _cast(x: Tensor, to: int, saturate: int, round_mode: Any) -> Tensor:
    dtype = _castable_dtype(to)
    if "float8" in str(dtype) or "float4" in str(dtype):
        raise Unsupported(f"Cast to {dtype} rounds in another way in torch")
    return x.to(dtype)


@FAMILY.maps("CastLike(input, target_type; saturate=1, round_mode='up')")
def _cast_like(call: Call, x: Tensor, target: Tensor, saturate: int, round_mode: Any) -> Tensor:
    return x.to(target.dtype)

"""Values that are known while a graph is walked: shapes, axes, scales. numpy arrays, of symbols where sizes are.

torch.export keeps a size dynamic only as long as it is a number of the program, not an element of a tensor; ONNX
computes shapes with tensors. So what is derived from shapes and constants alone is computed here, on arrays whose
elements may be `torch.SymInt`.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from regraft.errors import Unsupported
from regraft.runtime.torch_tensors import torch_dtype

Numbers: TypeAlias = NDArray[Any]

sym_float: Any = torch.sym_float
sym_int: Any = torch.sym_int
sym_max: Any = torch.sym_max
sym_min: Any = torch.sym_min
MAX_NUMBERS = 1024
"""Elements of a constant that is taken for numbers rather than for data."""
_INTEGERS = (int, torch.SymInt)


def shape_of(tensor: torch.Tensor) -> Numbers:
    """The sizes of a tensor, int64 or symbols."""
    return settled(np.array([*tensor.shape], dtype=object))


def settled(values: Numbers) -> Numbers:
    """An array of objects that are plain numbers after all gets their dtype."""
    if values.dtype != object or any(isinstance(item, torch.SymInt | torch.SymFloat) for item in values.flat):
        return values
    kinds = {type(item) for item in values.flat}
    if kinds <= {bool, np.bool_}:
        return values.astype(bool) if kinds else values.astype(np.int64)
    return values.astype(np.float32 if any(isinstance(item, float | np.floating) for item in values.flat) else np.int64)


def is_symbolic(values: Numbers) -> bool:
    """Does a size occur in it that is not known?"""
    return values.dtype == object


def listed(values: Numbers) -> list[Any]:
    """Plain Python numbers and symbols, of an array of rank 0 or 1."""
    return [item if is_symbolic(values) else item.item() for item in np.atleast_1d(values)]


def only(values: Numbers) -> Any:
    """The one number of an array of one element."""
    (item,) = listed(values.reshape(-1))
    return item


def tensor_from_numbers(values: Numbers, *, spelled: bool = False) -> torch.Tensor:
    """The tensor of the same values; symbols are written into it when the program runs.

    Args:
        spelled: element by element also where a constant would do: branches of a program cannot hold constants.
    """
    if not is_symbolic(values):
        dtype = torch_dtype(values.dtype.name)
        if values.size == 1:
            return torch.full(values.shape, values.item(), dtype=dtype)
        if values.size == 0:
            return torch.zeros(values.shape, dtype=dtype)
        if not spelled:
            return tensor_from_constant(values)
    else:
        dtype = torch.int64 if all(isinstance(item, _INTEGERS) for item in values.flat) else torch.float32
    scalars = [torch.scalar_tensor(item, dtype=dtype) for item in values.astype(object).flat]
    return torch.stack(scalars).reshape(values.shape)


def tensor_from_constant(values: Numbers) -> torch.Tensor:
    """A tensor with a copy of the values.

    Raises:
        Unsupported: torch has no such type.
    """
    name = values.dtype.name
    if name == "bfloat16":  # numpy knows it through ml_dtypes, torch.from_numpy does not
        return torch.from_numpy(values.view(np.uint16).astype(np.int32)).to(torch.int16).view(torch.bfloat16)
    try:
        return torch.from_numpy(np.array(values))
    except TypeError as error:
        raise Unsupported(f"torch has no tensors of {name}") from error


def divided(a: Numbers, b: Numbers, **_: Any) -> Numbers:
    """Integers are divided towards zero; sizes are never negative."""
    if is_symbolic(a) or is_symbolic(b):
        integers = all(isinstance(item, (*_INTEGERS, np.integer)) for item in (*a.flat, *b.flat))
        return _pairwise(operator.floordiv if integers else operator.truediv, a, b)
    if np.issubdtype(a.dtype, np.integer):
        return np.trunc(np.divide(a, b)).astype(a.dtype)
    return np.divide(a, b).astype(a.dtype)


def _pairwise(function: Callable[[Any, Any], Any], a: Numbers, b: Numbers) -> Numbers:
    return settled(np.asarray(np.frompyfunc(function, 2, 1)(a.astype(object), b.astype(object)), dtype=object))


def pairwise(function: Callable[..., Any], symbolic: Callable[[Any, Any], Any]) -> Callable[..., Numbers]:
    """A numpy function of two arrays that computes symbols by a function of its own."""

    def compute(a: Numbers, b: Numbers, **_: Any) -> Numbers:
        if is_symbolic(a) or is_symbolic(b):
            return _pairwise(symbolic, a, b)
        return np.asarray(function(a, b))

    return compute


def single(function: Callable[..., Any], symbolic: Callable[[Any], Any]) -> Callable[..., Numbers]:
    """A numpy function of one array, likewise."""

    def compute(a: Numbers, **_: Any) -> Numbers:
        if is_symbolic(a):
            return settled(np.asarray(np.frompyfunc(symbolic, 1, 1)(a), dtype=object))
        return np.asarray(function(a))

    return compute


def folded(function: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    """A function of two arrays as one of many."""

    def compute(*arrays: Any, **_: Any) -> Any:
        result = arrays[0]
        for array in arrays[1:]:
            result = function(result, array)
        return result

    return compute


def cast_numbers(values: Numbers, dtype: np.dtype[Any]) -> Numbers:
    """Numbers in another dtype; symbols know only integers and floating point."""
    if not is_symbolic(values):
        return values.astype(dtype)
    if np.issubdtype(dtype, np.bool_):
        return np.array([bool(item != 0) for item in values.flat]).reshape(values.shape)
    turn = sym_int if np.issubdtype(dtype, np.integer) else sym_float
    return settled(np.asarray(np.frompyfunc(turn, 1, 1)(values), dtype=object))


def stacked(arrays: Iterable[Numbers], axis: int) -> Numbers:
    """Joined along an axis; one symbol makes all of them objects."""
    known = list(arrays)
    if any(map(is_symbolic, known)):
        known = [array.astype(object) for array in known]
    return settled(np.concatenate(known, axis=axis))


def floor(value: Any) -> Any:
    """Of a symbol."""
    return value if isinstance(value, _INTEGERS) else sym_float(math.floor(value))


def ceil(value: Any) -> Any:
    """Of a symbol."""
    return value if isinstance(value, _INTEGERS) else sym_float(math.ceil(value))

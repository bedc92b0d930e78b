"""Reductions over axes, and softmax."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from regraft.deployment.convert.operators.interface import Family, row
from regraft.deployment.convert.operators.known_numbers import Numbers, is_symbolic, listed, settled

if TYPE_CHECKING:
    from torch import Tensor

FAMILY = Family()


def _over(function: Callable[[Tensor, list[int], bool], Tensor]) -> Callable[..., Tensor]:
    """A reduction as ONNX parametrises it: no axes are all axes, or none where `noop_with_empty_axes` says so."""

    def compute(data: Tensor, axes: Numbers | None, keepdims: int, noop_with_empty_axes: int) -> Tensor:
        places = [] if axes is None else [axis % data.ndim for axis in listed(axes)]
        if not places and noop_with_empty_axes:
            return function(data.unsqueeze(0), [0], False)
        places = places or list(range(data.ndim))
        return function(data, places, bool(keepdims)) if places else function(data.reshape(1), [0], False)

    return compute


def _product(data: Tensor, axes: list[int], keepdims: bool) -> Tensor:
    for axis in sorted(axes, reverse=True):
        data = torch.prod(data, axis, keepdim=keepdims, dtype=data.dtype)
    return data


def _extreme(function: Callable[..., Tensor]) -> Callable[[Tensor, list[int], bool], Tensor]:
    """The largest of nothing is the smallest number there is."""
    lowest = function is torch.amax

    def compute(data: Tensor, axes: list[int], keepdims: bool) -> Tensor:
        if any(isinstance(data.shape[axis], int) and data.shape[axis] == 0 for axis in axes):
            sizes = [1 if i in axes else size for i, size in enumerate(data.shape) if keepdims or i not in axes]
            limits = torch.finfo(data.dtype) if data.is_floating_point() else torch.iinfo(data.dtype)
            edge = float("inf") if data.is_floating_point() else limits.max
            worst = -edge if lowest and data.is_floating_point() else limits.min if lowest else edge
            return torch.full(sizes, worst, dtype=data.dtype)
        return function(data, axes, keepdims)

    return compute


def _known(function: Callable[..., Any]) -> Callable[..., Numbers]:
    def compute(values: Numbers, axes: Numbers | None, keepdims: int, noop_with_empty_axes: int) -> Numbers:
        places = None if axes is None else tuple(listed(axes))
        if not places and noop_with_empty_axes:
            return values
        result = function(values, axis=places or None, keepdims=bool(keepdims))
        return settled(np.asarray(result, dtype=object)) if is_symbolic(values) else np.asarray(result, values.dtype)

    return compute


def _mean(data: Tensor, axes: list[int], keepdims: bool) -> Tensor:
    if data.is_floating_point():
        return torch.mean(data, axes, keepdim=keepdims)
    return torch.mean(data.double(), axes, keepdim=keepdims).to(data.dtype)


def _sum(data: Tensor, axes: list[int], keepdims: bool) -> Tensor:
    return torch.sum(data, axes, keepdim=keepdims, dtype=data.dtype)


_TORCH: dict[str, Callable[[Tensor, list[int], bool], Tensor]] = {
    "ReduceSum": _sum,
    "ReduceMean": _mean,
    "ReduceMax": _extreme(torch.amax),
    "ReduceMin": _extreme(torch.amin),
    "ReduceProd": _product,
    "ReduceL1": lambda x, axes, keep: _sum(x.abs(), axes, keep),
    "ReduceL2": lambda x, axes, keep: _sum(x * x, axes, keep).sqrt().to(x.dtype),
    "ReduceSumSquare": lambda x, axes, keep: _sum(x * x, axes, keep),
    "ReduceLogSum": lambda x, axes, keep: _sum(x, axes, keep).log(),
    "ReduceLogSumExp": lambda x, axes, keep: torch.logsumexp(x, axes, keepdim=keep),
}
_NUMPY: dict[str, Callable[..., Any]] = {
    "ReduceSum": np.sum,
    "ReduceMax": np.max,
    "ReduceMin": np.min,
    "ReduceProd": np.prod,
}
FAMILY.rows += [
    row(
        f"{name}(data, #axes?; keepdims=1, noop_with_empty_axes=0)",
        _over(function),
        numbers=_known(_NUMPY[name]) if name in _NUMPY else None,
    )
    for name, function in _TORCH.items()
]


def _flattened(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Before operator set 13, over everything from an axis on."""

    def compute(data: Tensor, axis: int) -> Tensor:
        axis = axis % data.ndim
        return function(data.flatten(axis), dim=axis).reshape(data.shape)

    return compute


def _hardmax(data: Tensor, dim: int) -> Tensor:
    places = torch.argmax(data, dim=dim, keepdim=True)
    return torch.zeros_like(data).scatter(dim, places, 1.0)


_OVER_AN_AXIS: dict[str, Callable[..., Tensor]] = {
    "Softmax": torch.softmax, "LogSoftmax": torch.log_softmax, "Hardmax": _hardmax,
}  # fmt: skip
for _name, _function in _OVER_AN_AXIS.items():
    FAMILY.rows += [
        row(f"{_name}(input; axis=1)", _flattened(_function), until=12),
        row(f"{_name}(input; axis=-1)", lambda data, axis, function=_function: function(data, dim=axis), since=13),
    ]

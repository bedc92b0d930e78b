"""Integers that stand for real numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from regraft.deployment.convert.operators.convolution import convolve
from regraft.deployment.convert.operators.interface import Family
from regraft.errors import Unsupported

if TYPE_CHECKING:
    from torch import Tensor

    from regraft.deployment.convert.operators.network import Call

FAMILY = Family()
_CONV = "auto_pad='NOTSET', dilations?, group=1, kernel_shape?, pads?, strides?"


def _spread(values: Tensor, x: Tensor, axis: int, block_size: int) -> Tensor:
    """Scales or zero points in the shape of what they belong to: one, one a channel, or one a block."""
    if values.numel() == 1 and values.ndim <= 1:
        return values.reshape(())
    if block_size:
        return values.repeat_interleave(block_size, dim=axis)
    shape = [1] * x.ndim
    shape[axis % x.ndim] = -1
    return values.reshape(shape)


def _dequantised(x: Tensor, scale: Tensor, zero: Tensor | None, axis: int = 1, block_size: int = 0) -> Tensor:
    real = x.to(scale.dtype)
    if zero is not None:
        real = real - _spread(zero.to(scale.dtype), x, axis, block_size)
    return real * _spread(scale, x, axis, block_size)


def _quantised(x: Tensor, scale: Tensor, zero: Tensor | None, axis: int = 1, block_size: int = 0) -> Tensor:
    kind = torch.uint8 if zero is None else zero.dtype
    if kind not in (torch.uint8, torch.int8, torch.int16, torch.int32):
        raise Unsupported(f"quantising to {kind} has no mapping")
    limits = torch.iinfo(kind)
    whole = torch.round(x.to(scale.dtype) / _spread(scale, x, axis, block_size))
    if zero is not None:
        whole = whole + _spread(zero.to(scale.dtype), x, axis, block_size)
    return torch.clamp(whole, limits.min, limits.max).to(kind)


@FAMILY.maps("DequantizeLinear(x, x_scale, x_zero_point?; axis=1, block_size=0, output_dtype=0)")
def _dequantize(x: Tensor, scale: Tensor, zero: Tensor | None, axis: int, block_size: int, output_dtype: int) -> Tensor:
    if output_dtype:
        raise Unsupported("DequantizeLinear to another type than its scale's has no mapping")
    return _dequantised(x, scale, zero, axis, block_size)


@FAMILY.maps("QuantizeLinear(x, y_scale, y_zero_point?; axis=1, block_size=0, output_dtype=0, precision=0, saturate=1)")
def _quantize(
    x: Tensor,
    scale: Tensor,
    zero: Tensor | None,
    axis: int,
    block_size: int,
    output_dtype: int,
    precision: int,
    saturate: int,
) -> Tensor:
    if output_dtype and zero is None:
        from regraft.deployment.convert.operators.elementwise import onnx_dtype
        from regraft.runtime.torch_tensors import torch_dtype

        zero = torch.zeros((), dtype=torch_dtype(onnx_dtype(output_dtype)))
    return _quantised(x, scale, zero, axis, block_size)


@FAMILY.maps("DynamicQuantizeLinear(x)")
def _dynamic_quantize(x: Tensor) -> tuple[Tensor, ...]:
    low = torch.clamp(x.amin(), max=0.0)
    high = torch.clamp(x.amax(), min=0.0)
    scale = (high - low) / 255.0
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    zero = torch.clamp(torch.round(-low / scale), 0, 255).to(torch.uint8)
    return _quantised(x, scale, zero), scale, zero


@FAMILY.maps("MatMulInteger(A, B, a_zero_point?, b_zero_point?)")
def _matmul_integer(a: Tensor, b: Tensor, a_zero: Tensor | None, b_zero: Tensor | None) -> Tensor:
    """In float64, which holds every sum of products of 8-bit integers exactly."""
    left, right = a.double(), b.double()
    if a_zero is not None:
        left = left - (a_zero.double() if a_zero.numel() == 1 else a_zero.double().unsqueeze(-1))
    if b_zero is not None:
        right = right - b_zero.double()
    return torch.matmul(left, right).to(torch.int32)


@FAMILY.maps(f"ConvInteger(x, w, x_zero_point?, w_zero_point?; {_CONV})")
def _conv_integer(x: Tensor, w: Tensor, x_zero: Tensor | None, w_zero: Tensor | None, **options: Any) -> Tensor:
    """In float64, as above."""
    data, weight = x.double(), w.double()
    if x_zero is not None:
        data = data - x_zero.double().reshape(())
    if w_zero is not None:
        weight = weight - w_zero.double().reshape(-1, *(1,) * (w.ndim - 1))
    return convolve(data, weight, None, **options).to(torch.int32)


@FAMILY.maps(f"QLinearConv(x, x_scale, x_zero_point, w, w_scale, w_zero_point, y_scale, y_zero_point, B?; {_CONV})")
def _quantised_conv(
    x: Tensor,
    x_scale: Tensor,
    x_zero: Tensor,
    w: Tensor,
    w_scale: Tensor,
    w_zero: Tensor,
    y_scale: Tensor,
    y_zero: Tensor,
    b: Tensor | None,
    **options: Any,
) -> Tensor:
    total = _conv_integer(x, w, x_zero, w_zero, **options)
    if b is not None:
        total = total + b.reshape(1, -1, *(1,) * (x.ndim - 2))
    factor = (x_scale.reshape(()) * w_scale / y_scale.reshape(())).reshape(-1, *(1,) * (x.ndim - 2))
    return _rescaled(total, factor, y_zero)


@FAMILY.maps("QLinearMatMul(a, a_scale, a_zero_point, b, b_scale, b_zero_point, y_scale, y_zero_point)")
def _quantised_matmul(call: Call, *values: Tensor) -> Tensor:
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = values
    total = _matmul_integer(a, b, a_zero, b_zero)
    left = a_scale if a_scale.numel() == 1 else a_scale.unsqueeze(-1)
    return _rescaled(total, left * b_scale / y_scale, y_zero)


def _rescaled(total: Tensor, factor: Tensor, zero: Tensor) -> Tensor:
    limits = torch.iinfo(zero.dtype)
    whole = torch.round(total.to(factor.dtype) * factor) + zero.to(factor.dtype)
    return torch.clamp(whole, limits.min, limits.max).to(zero.dtype)

"""Shapes: what is computed from them, and what only changes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812  its customary name

from regraft.deployment.convert.operators.interface import Family
from regraft.deployment.convert.operators.known_numbers import (
    MAX_NUMBERS,
    Numbers,
    is_symbolic,
    listed,
    only,
    settled,
    shape_of,
    stacked,
)
from regraft.errors import Unsupported
from regraft.runtime.torch_tensors import torch_dtype

if TYPE_CHECKING:
    from torch import Tensor

    from regraft.deployment.convert.operators.network import Call

FAMILY = Family()


@FAMILY.maps("Shape(data; start=0, end?)", numbers=lambda values, start, end: np.array(values.shape[start:end]))
def _shape(data: Tensor, start: int, end: int | None) -> Numbers:
    return settled(shape_of(data)[start:end])


@FAMILY.maps("Size(data)", numbers=lambda values: np.array(values.size))
def _size(data: Tensor) -> Numbers:
    return settled(np.array(data.numel(), dtype=object))


def _resolved(shape: Any, sizes: list[Any], allowzero: int) -> list[Any]:
    """A zero takes the size that is there."""
    return [shape[i] if not allowzero and isinstance(size, int) and size == 0 else size for i, size in enumerate(sizes)]


def _reshape_known(values: Numbers, shape: Numbers, allowzero: int = 0, **_: Any) -> Numbers:
    return values.reshape([int(size) for size in _resolved(values.shape, listed(shape), allowzero)])


@FAMILY.maps("Reshape(data, #shape; allowzero=0, consumed_inputs?)", numbers=_reshape_known)
def _reshape(data: Tensor, shape: Numbers, allowzero: int, consumed_inputs: Any) -> Tensor:
    return data.reshape(_resolved(data.shape, listed(shape), allowzero))


@FAMILY.maps("Flatten(input; axis=1)")
def _flatten(data: Tensor, axis: int) -> Tensor:
    axis = axis + data.ndim if axis < 0 else axis
    rows = 1
    for size in data.shape[:axis]:
        rows = rows * size
    columns = 1
    for size in data.shape[axis:]:
        columns = columns * size
    return data.reshape(rows, columns)


def _transposed_known(values: Numbers, perm: list[int] | None) -> Numbers:
    return np.transpose(values, perm)


@FAMILY.maps("Transpose(data; perm?)", numbers=_transposed_known)
def _transpose(data: Tensor, perm: list[int] | None) -> Tensor:
    return data.permute(perm if perm is not None else list(range(data.ndim))[::-1])


def _squeeze_known(values: Numbers, axes: Numbers | None) -> Numbers:
    return np.squeeze(values, None if axes is None else tuple(listed(axes)))


@FAMILY.maps("Squeeze(data, #axes?)", numbers=_squeeze_known)
def _squeeze(data: Tensor, axes: Numbers | None) -> Tensor:
    return torch.squeeze(data) if axes is None else torch.squeeze(data, tuple(listed(axes)))


def _with_ones(rank: int, axes: Numbers) -> list[int]:
    """The axes to insert, in ascending order, of the result."""
    places = listed(axes)
    return sorted(axis % (rank + len(places)) for axis in places)


def _unsqueeze_known(values: Numbers, axes: Numbers) -> Numbers:
    return np.expand_dims(values, tuple(listed(axes)))


@FAMILY.maps("Unsqueeze(data, #axes)", numbers=_unsqueeze_known)
def _unsqueeze(data: Tensor, axes: Numbers) -> Tensor:
    for axis in _with_ones(data.ndim, axes):
        data = data.unsqueeze(axis)
    return data


def _concat_known(*values: Numbers, axis: int) -> Numbers:
    return stacked(values, axis)


@FAMILY.maps("Concat(*inputs; axis=1)", numbers=_concat_known)
def _concat(*inputs: Tensor, axis: int) -> Tensor:
    return torch.cat(inputs, dim=axis)


def _parts(call: Call, extent: Any, split: Numbers | None, num_outputs: int | None) -> list[Any]:
    """The sizes to split into; unequal ones leave the smallest for the end."""
    if split is not None:
        return listed(split)
    count = num_outputs or call.outputs
    size = (extent + count - 1) // count
    return [size] * (count - 1) + [extent - size * (count - 1)]


@FAMILY.maps("Split(input, #split?; axis=0, num_outputs?)")
def _split(call: Call, data: Tensor, split: Numbers | None, axis: int, num_outputs: int | None) -> tuple[Tensor, ...]:
    return tuple(torch.split(data, _parts(call, data.shape[axis], split, num_outputs), dim=axis))


def _slice_known(
    values: Numbers, starts: Numbers, ends: Numbers, axes: Numbers | None = None, steps: Numbers | None = None
) -> Numbers:
    where: list[Any] = [slice(None)] * values.ndim
    for axis, start, end, step in _ranges(starts, ends, axes, steps):
        where[axis] = slice(start, end if step > 0 or end >= -values.shape[axis] else None, step)
    return settled(values[tuple(where)])


def _ranges(starts: Numbers, ends: Numbers, axes: Numbers | None, steps: Numbers | None) -> list[tuple[Any, ...]]:
    firsts, lasts = listed(starts), listed(ends)
    places = listed(axes) if axes is not None else list(range(len(firsts)))
    strides = listed(steps) if steps is not None else [1] * len(firsts)
    return list(zip(places, firsts, lasts, strides, strict=True))


@FAMILY.maps("Slice(data, #starts, #ends, #axes?, #steps?)", numbers=_slice_known)
def _slice(data: Tensor, starts: Numbers, ends: Numbers, axes: Numbers | None, steps: Numbers | None) -> Tensor:
    for axis, start, end, step in _ranges(starts, ends, axes, steps):
        data = _sliced(data, axis, start, end, step)
    return data


def _sliced(data: Tensor, axis: int, start: Any, end: Any, step: int) -> Tensor:
    if step > 0:
        where = [slice(None)] * (axis % data.ndim) + [slice(start, end, step)]
        return data[tuple(where)]
    size = data.shape[axis]
    first = size - 1 if isinstance(start, int) and start >= 1 << 30 else start
    first = first + size if isinstance(first, int) and first < 0 else first
    last = -1 if isinstance(end, int) and end < -(1 << 30) else end + size if isinstance(end, int) and end < 0 else end
    if isinstance(size, int):
        first, last = min(first, size - 1), max(last, -1)
    return torch.index_select(data, axis, torch.arange(first, last, step))


def _expand_known(values: Numbers, shape: Numbers) -> Numbers:
    sizes = [int(size) for size in listed(shape)]
    return np.array(np.broadcast_to(values, np.broadcast_shapes(values.shape, tuple(sizes))))


@FAMILY.maps("Expand(input, #shape)")
def _expand(data: Tensor, shape: Numbers) -> Tensor:
    """Both may broadcast: a 1 in `shape` keeps what is there."""
    sizes = listed(shape)
    rank = max(len(sizes), data.ndim)
    wanted = [1] * (rank - len(sizes)) + sizes
    here = [1] * (rank - data.ndim) + [*data.shape]
    kept = [mine if isinstance(size, int) and size == 1 else size for size, mine in zip(wanted, here, strict=True)]
    return data.expand(kept)


@FAMILY.maps("Tile(input, #repeats)")
def _tile(data: Tensor, repeats: Numbers) -> Tensor:
    return data.repeat(listed(repeats))


def _filled_known(shape: Numbers, value: Numbers | None) -> Numbers:
    one = np.zeros(1, dtype=np.float32) if value is None else value
    return np.full([int(size) for size in listed(shape)], one.item(), dtype=one.dtype)


@FAMILY.maps("ConstantOfShape(#input; value?)")
def _constant_of_shape(shape: Numbers, value: Numbers | None) -> Tensor | Numbers:
    one = np.zeros(1, dtype=np.float32) if value is None else value
    sizes = listed(shape)
    if all(isinstance(size, int) for size in sizes) and one.dtype == np.int64 and np.prod(sizes) <= MAX_NUMBERS:
        return _filled_known(shape, value)
    return torch.full(sizes, one.item(), dtype=torch_dtype(one.dtype.name))


@FAMILY.maps("Range(#start, #limit, #delta; stash_type=1)")
def _range(start: Numbers, limit: Numbers, delta: Numbers, stash_type: int) -> Tensor | Numbers:
    bounds = [only(start), only(limit), only(delta)]
    if not any(map(is_symbolic, (start, limit, delta))) and start.dtype == np.int64:
        values = np.arange(*bounds, dtype=start.dtype)
        if values.size <= MAX_NUMBERS:
            return values
    dtype = torch.int64 if is_symbolic(start) else torch_dtype(start.dtype.name)
    return torch.arange(*bounds, dtype=dtype)


@FAMILY.maps("EyeLike(input; dtype?, k=0)")
def _eye_like(data: Tensor, dtype: int | None, k: int) -> Tensor:
    from regraft.deployment.convert.operators.elementwise import onnx_dtype

    kind = data.dtype if dtype is None else torch_dtype(onnx_dtype(dtype))
    rows, columns = torch.arange(data.shape[0]), torch.arange(data.shape[1])
    return (columns[None, :] - rows[:, None] == k).to(kind)


@FAMILY.maps("DepthToSpace(input; blocksize, mode='DCR')")
def _depth_to_space(data: Tensor, blocksize: int, mode: str) -> Tensor:
    if mode == "CRD":
        return F.pixel_shuffle(data, blocksize)
    b, c, h, w = data.shape
    depth = c // (blocksize * blocksize)
    moved = data.reshape(b, blocksize, blocksize, depth, h, w).permute(0, 3, 4, 1, 5, 2)
    return moved.reshape(b, depth, h * blocksize, w * blocksize)


@FAMILY.maps("SpaceToDepth(input; blocksize, mode='DCR')")
def _space_to_depth(data: Tensor, blocksize: int, mode: str) -> Tensor:
    b, c, h, w = data.shape
    order = (0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4)
    moved = data.reshape(b, c, h // blocksize, blocksize, w // blocksize, blocksize).permute(order)
    return moved.reshape(b, c * blocksize * blocksize, h // blocksize, w // blocksize)


_PAD_MODES = {"reflect": "reflect", "edge": "replicate", "wrap": "circular"}


@FAMILY.maps("Pad(data, #pads, constant_value?, #axes?; mode='constant', value=0.0, paddings?)")
def _pad(
    data: Tensor,
    pads: Numbers,
    constant_value: Tensor | None,
    axes: Numbers | None,
    mode: str,
    value: float,
    paddings: list[int] | None,
) -> Tensor:
    amounts = listed(pads)
    places = [axis % data.ndim for axis in listed(axes)] if axes is not None else list(range(data.ndim))
    around = [[0, 0] for _ in range(data.ndim)]
    for i, axis in enumerate(places):
        around[axis] = [amounts[i], amounts[i + len(places)]]
    if mode == "constant":
        flat = [amount for pair in around[::-1] for amount in pair]
        if constant_value is None:
            return F.pad(data, flat, value=value)
        if data.dtype is torch.bool:
            raise Unsupported("Pad of bool with a value has no mapping")
        return _padded_with(data, flat, constant_value)
    return _padded_by_itself(data, around, mode)


def _padded_with(data: Tensor, flat: list[Any], value: Tensor) -> Tensor:
    """The value is a tensor of one element, which F.pad does not take."""
    inside = F.pad(torch.ones_like(data, dtype=torch.bool), flat, value=False)
    return torch.where(inside, F.pad(data, flat), value.to(data.dtype).reshape(()))


def _padded_by_itself(data: Tensor, around: list[list[Any]], mode: str) -> Tensor:
    """Axis by axis, with elements that are picked by their place: F.pad does so for the last three axes alone."""
    for axis, (before, after) in enumerate(around):
        if isinstance(before, int) and isinstance(after, int) and before == after == 0:
            continue
        size = data.shape[axis]
        places = torch.arange(-before, size + after)
        if mode == "edge":
            places = places.clamp(0, size - 1)
        elif mode == "wrap":
            places = torch.remainder(places, size)
        else:
            places = (size - 1) - ((size - 1) - torch.remainder(places, 2 * (size - 1))).abs()
        data = torch.index_select(data, axis, places)
    return data

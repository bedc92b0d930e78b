"""Elements picked by place: gathers, scatters, sorting, what depends on the data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812  its customary name

from regraft.deployment.convert.operators.interface import Family
from regraft.deployment.convert.operators.known_numbers import Numbers, is_symbolic, listed, only, settled
from regraft.errors import Unsupported

if TYPE_CHECKING:
    from torch import Tensor

FAMILY = Family()


def _positive(indices: Tensor, size: Any) -> Tensor:
    """Negative indices count from the end."""
    return torch.where(indices < 0, indices + size, indices)


def _take_known(values: Numbers, indices: Numbers, axis: int = 0) -> Numbers:
    taken = np.take(values, indices.astype(np.int64), axis=axis)
    return settled(np.asarray(taken, dtype=values.dtype))


@FAMILY.maps("Gather(data, indices; axis=0)", numbers=_take_known)
def _gather(data: Tensor, indices: Tensor, axis: int) -> Tensor:
    axis = axis % data.ndim
    flat = _positive(indices.reshape(-1).long(), data.shape[axis])
    taken = torch.index_select(data, axis, flat)
    return taken.reshape([*data.shape[:axis], *indices.shape, *data.shape[axis + 1 :]])


@FAMILY.maps("GatherElements(data, indices; axis=0)")
def _gather_elements(data: Tensor, indices: Tensor, axis: int) -> Tensor:
    return torch.gather(data, axis, _positive(indices.long(), data.shape[axis]))


@FAMILY.maps("GatherND(data, indices; batch_dims=0)")
def _gather_nd(data: Tensor, indices: Tensor, batch_dims: int) -> Tensor:
    return data[_places(data, indices.long(), batch_dims)]


def _places(data: Tensor, indices: Tensor, batch_dims: int) -> tuple[Tensor, ...]:
    """Index tensors for the leading axes: the batch's own places, then the columns of `indices`."""
    rank = indices.ndim - 1
    own = [
        torch.arange(data.shape[axis]).reshape([-1 if i == axis else 1 for i in range(rank)])
        for axis in range(batch_dims)
    ]
    columns = [_positive(indices[..., i], data.shape[batch_dims + i]) for i in range(indices.shape[-1])]
    return (*own, *columns)


_REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


@FAMILY.maps("ScatterElements(data, indices, updates; axis=0, reduction='none')")
@FAMILY.maps("Scatter(data, indices, updates; axis=0, reduction='none')")
def _scatter_elements(data: Tensor, indices: Tensor, updates: Tensor, axis: int, reduction: str) -> Tensor:
    places = _positive(indices.long(), data.shape[axis])
    if reduction == "none":
        return torch.scatter(data, axis, places, updates)
    return torch.scatter_reduce(data, axis, places, updates, _REDUCTIONS[reduction])


@FAMILY.maps("ScatterND(data, indices, updates; reduction='none')")
def _scatter_nd(data: Tensor, indices: Tensor, updates: Tensor, reduction: str) -> Tensor:
    places = _places(data, indices.long(), 0)
    if reduction == "none":
        return torch.index_put(data, places, updates)
    if reduction == "add":
        return torch.index_put(data, places, updates, accumulate=True)
    if len(places) != data.ndim:
        raise Unsupported(f"ScatterND of slices with reduction {reduction} has no mapping")
    flat = torch.zeros((), dtype=torch.int64)
    for place, size in zip(places, data.shape, strict=True):
        flat = flat * size + place
    kind = _REDUCTIONS[reduction]
    return torch.scatter_reduce(data.reshape(-1), 0, flat.reshape(-1), updates.reshape(-1), kind).reshape(data.shape)


@FAMILY.maps("OneHot(indices, #depth, values; axis=-1)")
def _one_hot(indices: Tensor, depth: Numbers, values: Tensor, axis: int) -> Tensor:
    classes = torch.arange(int(only(depth)))
    places = torch.where(indices < 0, indices + classes.numel(), indices)
    axis = axis % (indices.ndim + 1)
    shape = [1] * (indices.ndim + 1)
    shape[axis] = -1
    hit = places.unsqueeze(axis) == classes.reshape(shape)
    return torch.where(hit, values[1], values[0])


@FAMILY.maps("TopK(X; axis=-1, k)", until=9)
def _top_k_attribute(x: Tensor, axis: int, k: int) -> tuple[Tensor, ...]:
    return _top_k(x, np.array(k), axis, 1, 1)


@FAMILY.maps("TopK(X, #K; axis=-1, largest=1, sorted=1)", since=10)
def _top_k(x: Tensor, k: Numbers, axis: int, largest: int, sorted: int) -> tuple[Tensor, ...]:  # noqa: A002
    """Equal elements keep their order, which `torch.topk` does not promise."""
    count = only(k)
    values, places = torch.sort(x, dim=axis, descending=bool(largest), stable=True)
    return values.narrow(axis, 0, count), places.narrow(axis, 0, count)


def _extreme(function: Any) -> Any:
    def compute(x: Tensor, axis: int, keepdims: int, select_last_index: int) -> Tensor:
        if not select_last_index:
            found: Tensor = function(x, dim=axis, keepdim=bool(keepdims))
            return found
        last: Tensor = x.shape[axis] - 1 - function(x.flip(axis), dim=axis, keepdim=bool(keepdims))
        return last

    return compute


FAMILY.add(
    {
        "ArgMax(data; axis=0, keepdims=1, select_last_index=0)": _extreme(torch.argmax),
        "ArgMin(data; axis=0, keepdims=1, select_last_index=0)": _extreme(torch.argmin),
    }
)


@FAMILY.maps("NonZero(X)", numbers=lambda values: np.stack(np.nonzero(values)))
def _non_zero(x: Tensor) -> Tensor:
    return torch.nonzero(x).t()


@FAMILY.maps("Compress(input, condition; axis?)")
def _compress(data: Tensor, condition: Tensor, axis: int | None) -> Tensor:
    places = torch.nonzero(condition).reshape(-1)
    return torch.index_select(data.reshape(-1) if axis is None else data, axis or 0, places)


@FAMILY.maps("CumSum(x, #axis; exclusive=0, reverse=0)")
def _cumulative_sum(x: Tensor, axis: Numbers, exclusive: int, reverse: int) -> Tensor:
    place = int(only(axis))
    x = x.flip(place) if reverse else x
    total = torch.cumsum(x, place, dtype=x.dtype)
    total = total - x if exclusive else total
    return total.flip(place) if reverse else total


@FAMILY.maps("CumProd(x, #axis; exclusive=0, reverse=0)")
def _cumulative_product(x: Tensor, axis: Numbers, exclusive: int, reverse: int) -> Tensor:
    place = int(only(axis))
    x = x.flip(place) if reverse else x
    if exclusive:
        one = torch.ones_like(x.narrow(place, 0, 1))
        x = torch.cat([one, x.narrow(place, 0, x.shape[place] - 1)], dim=place)
    total = torch.cumprod(x, place, dtype=x.dtype)
    return total.flip(place) if reverse else total


@FAMILY.maps("Trilu(input, #k?; upper=1)")
def _triangle(data: Tensor, k: Numbers | None, upper: int) -> Tensor:
    diagonal = 0 if k is None else int(only(k))
    return torch.triu(data, diagonal) if upper else torch.tril(data, diagonal)


@FAMILY.maps("ReverseSequence(input, sequence_lens; batch_axis=1, time_axis=0)")
def _reverse_sequence(data: Tensor, lengths: Tensor, batch_axis: int, time_axis: int) -> Tensor:
    moved = data.movedim((batch_axis, time_axis), (0, 1))  # (B, T, …)
    steps = torch.arange(moved.shape[1])[None, :]
    places = torch.where(steps < lengths[:, None], lengths[:, None] - 1 - steps, steps)
    places = places.reshape(*places.shape, *(1,) * (moved.ndim - 2)).expand_as(moved)
    return torch.gather(moved, 1, places).movedim((0, 1), (batch_axis, time_axis))


@FAMILY.maps("Unique(X; axis?, sorted=1)")
def _unique(x: Tensor, axis: int | None, sorted: int) -> tuple[Tensor, ...]:  # noqa: A002
    if not sorted or axis is not None:
        raise Unsupported("Unique along an axis, or unsorted, has no mapping")
    values, inverse, counts = torch.unique(x, sorted=True, return_inverse=True, return_counts=True)
    inverse = inverse.reshape(-1)
    order = torch.arange(inverse.numel())
    first = torch.full_like(values, inverse.numel(), dtype=torch.int64)
    return values, torch.scatter_reduce(first, 0, inverse, order, "amin"), inverse, counts


@FAMILY.maps(
    "NonMaxSuppression(boxes, scores, #max_output_boxes_per_class?, iou_threshold?, score_threshold?;"
    " center_point_box=0)"
)
def _non_max_suppression(*_: Any, **__: Any) -> Tensor:
    raise Unsupported(
        "how many boxes it keeps depends on the data, and torch has no such operator",
        hint="cut the network before it, and suppress outside",
    )


@FAMILY.maps("SequenceConstruct(*inputs)")
def _sequence(*inputs: Tensor) -> Any:
    return [*inputs]


@FAMILY.maps("SequenceEmpty(; dtype?)")
def _sequence_empty(dtype: int | None) -> Any:
    return []


@FAMILY.maps("SequenceInsert(input_sequence, tensor, #position?)")
def _sequence_insert(values: list[Tensor], tensor: Tensor, position: Numbers | None) -> Any:
    place = len(values) if position is None else int(only(position))
    return [*values[:place], tensor, *values[place:]]


@FAMILY.maps("SequenceErase(input_sequence, #position?)")
def _sequence_erase(values: list[Tensor], position: Numbers | None) -> Any:
    place = len(values) - 1 if position is None else int(only(position)) % len(values)
    return [*values[:place], *values[place + 1 :]]


@FAMILY.maps("SequenceAt(input_sequence, #position)")
def _sequence_at(values: list[Tensor], position: Numbers) -> Tensor:
    return values[int(only(position))]


@FAMILY.maps("SequenceLength(input_sequence)")
def _sequence_length(values: list[Tensor]) -> Numbers:
    return np.array(len(values))


@FAMILY.maps("ConcatFromSequence(input_sequence; axis, new_axis=0)")
def _concat_from_sequence(values: list[Tensor], axis: int, new_axis: int) -> Tensor:
    return torch.stack(values, axis) if new_axis else torch.cat(values, axis)


@FAMILY.maps("SplitToSequence(input, #split?; axis=0, keepdims=1)")
def _split_to_sequence(data: Tensor, split: Numbers | None, axis: int, keepdims: int) -> Any:
    if split is None:
        parts = torch.split(data, 1, axis)
        return [part if keepdims else part.squeeze(axis) for part in parts]
    if is_symbolic(split):
        raise Unsupported("a size decides how many parts there are, and torch.export needs to know it beforehand")
    return [*torch.split(data, listed(split) if split.ndim else int(only(split)), axis)]


@FAMILY.maps("GridSample(X, grid; mode='linear', padding_mode='zeros', align_corners=0)")
def _grid_sample(x: Tensor, grid: Tensor, mode: str, padding_mode: str, align_corners: int) -> Tensor:
    names = {"linear": "bilinear", "cubic": "bicubic", "bilinear": "bilinear", "bicubic": "bicubic"}
    kind = names.get(mode, mode)
    return F.grid_sample(x, grid, mode=kind, padding_mode=padding_mode, align_corners=bool(align_corners))

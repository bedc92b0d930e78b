"""Convolutions and pools, of one to three dimensions; sizes may be symbols, paddings may depend on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F  # noqa: N812  its customary name

from regraft.deployment.convert.operators.interface import Family
from regraft.deployment.convert.operators.known_numbers import sym_max, sym_min
from regraft.errors import Unsupported

if TYPE_CHECKING:
    from torch import Tensor

    from regraft.deployment.convert.operators.network import Call

FAMILY = Family()


def _max_pool1d(x: Tensor, *options: Any, return_indices: bool = False) -> Any:
    """torch 2.13 exports its `max_pool1d` for the length of the example alone, and that with indices for any."""
    values, places = F.max_pool1d(x, *options, return_indices=True)
    return (values, places) if return_indices else values


_MAXIMA: dict[int, Callable[..., Any]] = {1: _max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
_AVERAGES = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def _by_rank(table: dict[int, Callable[..., Any]], rank: int) -> Callable[..., Any]:
    if rank not in table:
        raise Unsupported(f"{rank} spatial dimensions; torch knows 1 to 3")
    return table[rank]


def paddings(
    sizes: Sequence[Any], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], auto: str, pads: Any
) -> list[tuple[Any, Any]]:
    """(before, after) of each spatial axis."""
    rank = len(kernel)
    if auto in ("NOTSET", "VALID", ""):
        given = list(pads) if pads is not None and auto != "VALID" else [0] * (2 * rank)
        return [(given[i], given[i + rank]) for i in range(rank)]
    found = []
    for size, width, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        count = (size + stride - 1) // stride
        total = sym_max((count - 1) * stride + (width - 1) * dilation + 1 - size, 0)
        small = total // 2
        found.append((total - small, small) if auto == "SAME_LOWER" else (small, total - small))
    return found


def padded(x: Tensor, around: Sequence[tuple[Any, Any]], value: float = 0.0) -> tuple[Tensor, list[Any]]:
    """What torch pads by itself is left to it (same on both sides); the rest is put around the tensor."""
    if all(isinstance(a, int) and isinstance(b, int) and a == b for a, b in around):
        return x, [before for before, _ in around]
    flat = [amount for pair in reversed(around) for amount in pair]
    return F.pad(x, flat, value=value), [0] * len(around)


def _lacking(
    sizes: Sequence[Any],
    around: Sequence[tuple[Any, Any]],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> list[Any]:
    """How much each axis is shorter than the window of a pool, where there is one window all the same.

    ONNX rounds the number of windows down, which gives none. ONNX Runtime rounds the quotient towards zero: a window
    that lacks less than a stride is there, cut off. One that lacks more is left to torch, which refuses it.
    """
    found = []
    for size, (before, after), width, stride, dilation in zip(sizes, around, kernel, strides, dilations, strict=True):
        least = (width - 1) * dilation + 1 - before - after
        is_enough = isinstance(least, int) and least <= 1  # no axis is empty
        found.append(0 if is_enough or stride == 1 else sym_max(sym_min(least - size, stride - 1), 0))
    return found


def _is_whole(lacking: Sequence[Any]) -> bool:
    return all(isinstance(one, int) and one == 0 for one in lacking)


@FAMILY.maps("Conv(X, W, B?; auto_pad='NOTSET', dilations?, group=1, kernel_shape?, pads?, strides?)")
def convolve(
    x: Tensor,
    w: Tensor,
    b: Tensor | None,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    """Conv."""
    rank = x.ndim - 2
    strides, dilations = strides or [1] * rank, dilations or [1] * rank
    around = paddings(x.shape[2:], [*w.shape[2:]], strides, dilations, auto_pad, pads)
    x, inside = padded(x, around)
    result: Tensor = _by_rank(_CONVOLUTIONS, rank)(x, w, b, strides, inside, dilations, group)
    return result


@FAMILY.maps(
    "ConvTranspose(X, W, B?; auto_pad='NOTSET', dilations?, group=1, kernel_shape?, output_padding?, output_shape?,"
    " pads?, strides?)"
)
def _transposed(
    x: Tensor,
    w: Tensor,
    b: Tensor | None,
    auto_pad: str,
    dilations: Sequence[int] | None,
    group: int,
    kernel_shape: Sequence[int] | None,
    output_padding: Sequence[int] | None,
    output_shape: Sequence[int] | None,
    pads: Sequence[int] | None,
    strides: Sequence[int] | None,
) -> Tensor:
    """The whole result is computed, and what `pads` says is cut off it: torch cuts both sides alike."""
    rank = x.ndim - 2
    strides, dilations = strides or [1] * rank, dilations or [1] * rank
    extra = list(output_padding or [0] * rank)
    cut = _cut(x.shape[2:], w.shape[2:], strides, dilations, extra, auto_pad, output_shape, pads)
    transposed = _by_rank(_TRANSPOSED, rank)
    if all(isinstance(a, int) and a == b and a >= 0 for a, b in cut) and _is_legal(extra, strides, dilations):
        result: Tensor = transposed(x, w, b, strides, [a for a, _ in cut], extra, group, dilations)
        return result
    result = transposed(x, w, b, strides, 0, 0, group, dilations)
    return F.pad(result, [amount for (a, b), e in reversed([*zip(cut, extra, strict=True)]) for amount in (-a, e - b)])


def _is_legal(extra: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> bool:
    """torch refuses an output padding that is not smaller than stride or dilation."""
    return all(e < max(s, d) for e, s, d in zip(extra, strides, dilations, strict=True))


def _cut(
    sizes: Sequence[Any],
    kernel: Sequence[Any],
    strides: Sequence[int],
    dilations: Sequence[int],
    extra: Sequence[int],
    auto: str,
    output_shape: Sequence[int] | None,
    pads: Sequence[int] | None,
) -> list[tuple[Any, Any]]:
    rank = len(strides)
    if output_shape is None and auto in ("NOTSET", "VALID", ""):
        given = list(pads or [0] * (2 * rank))
        return [(given[i], given[i + rank]) for i in range(rank)]
    wanted = list(output_shape)[-rank:] if output_shape else [n * s for n, s in zip(sizes, strides, strict=True)]
    found = []
    for i in range(rank):
        whole = strides[i] * (sizes[i] - 1) + extra[i] + (kernel[i] - 1) * dilations[i] + 1
        total = whole - wanted[i]
        small = total // 2
        found.append((small, total - small) if auto == "SAME_UPPER" else (total - small, small))
    return found


@FAMILY.maps("MaxPool(X; auto_pad='NOTSET', ceil_mode=0, dilations?, kernel_shape, pads?, storage_order=0, strides?)")
def _max_pool(
    call: Call,
    x: Tensor,
    auto_pad: str,
    ceil_mode: int,
    dilations: Sequence[int] | None,
    kernel_shape: Sequence[int],
    pads: Sequence[int] | None,
    storage_order: int,
    strides: Sequence[int] | None,
) -> Tensor | tuple[Tensor, ...]:
    rank = x.ndim - 2
    strides, dilations = strides or [1] * rank, dilations or [1] * rank
    around = paddings(x.shape[2:], kernel_shape, strides, dilations, auto_pad, pads)
    if not ceil_mode:
        lacking = _lacking(x.shape[2:], around, kernel_shape, strides, dilations)
        around = [(before, after + more) for (before, after), more in zip(around, lacking, strict=True)]
    kind = x.dtype
    x = x if x.is_floating_point() else x.float()
    original = x.shape
    x, inside = padded(x, around, float("-inf"))
    if any(2 * amount > width for amount, width in zip(inside, kernel_shape, strict=True)):  # torch refuses that
        x, inside = F.pad(x, [a for pair in reversed(around) for a in pair], value=float("-inf")), [0] * rank
    pool = _by_rank(_MAXIMA, rank)
    if call.outputs == 1:
        result: Tensor = pool(x, kernel_shape, strides, inside, dilations, bool(ceil_mode))
        return result.to(kind)
    if x.shape != original or storage_order:
        raise Unsupported("MaxPool with indices and uneven padding, or in column order, has no mapping")
    values, places = pool(x, kernel_shape, strides, inside, dilations, bool(ceil_mode), return_indices=True)
    planes = torch.arange(original[0] * original[1]).reshape(original[0], original[1], *(1,) * rank)
    return values.to(kind), places + planes * (x[0, 0].numel())


@FAMILY.maps(
    "AveragePool(X; auto_pad='NOTSET', ceil_mode=0, count_include_pad=0, dilations?, kernel_shape, pads?, strides?)"
)
def _average_pool(
    x: Tensor,
    auto_pad: str,
    ceil_mode: int,
    count_include_pad: int,
    dilations: Sequence[int] | None,
    kernel_shape: Sequence[int],
    pads: Sequence[int] | None,
    strides: Sequence[int] | None,
) -> Tensor:
    rank = x.ndim - 2
    strides, dilations = strides or [1] * rank, dilations or [1] * rank
    around = paddings(x.shape[2:], kernel_shape, strides, dilations, auto_pad, pads)
    lacking = [0] * rank if ceil_mode else _lacking(x.shape[2:], around, kernel_shape, strides, dilations)
    plain = all(isinstance(a, int) and a == b and 2 * a <= k for (a, b), k in zip(around, kernel_shape, strict=True))
    plain = plain and all(dilation == 1 for dilation in dilations)
    if not _is_whole(lacking):
        if plain and not any(a for a, _ in around):
            return _averaged_short(x, kernel_shape, strides, lacking, bool(count_include_pad))
        around = [(before, after + more) for (before, after), more in zip(around, lacking, strict=True)]
    elif plain:
        pool = _by_rank(_AVERAGES, rank)
        result: Tensor = pool(
            x, kernel_shape, strides, [a for a, _ in around], bool(ceil_mode), bool(count_include_pad)
        )
        return result
    return _averaged(x, kernel_shape, strides, dilations, around, bool(ceil_mode), bool(count_include_pad))


def _averaged_short(
    x: Tensor, kernel: Sequence[int], strides: Sequence[int], lacking: Sequence[Any], counts_padding: bool
) -> Tensor:
    """Without padding, of what may be shorter than the window: there is one window then, of fewer elements."""
    x = F.pad(x, [amount for more in reversed(lacking) for amount in (0, more)])
    result: Tensor = _by_rank(_AVERAGES, len(kernel))(x, kernel, strides)
    for width, more in zip(kernel, lacking, strict=True):
        if not counts_padding:
            result = result * (width / (width - more))
    return result


def _averaged(
    x: Tensor,
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    around: Sequence[tuple[Any, Any]],
    ceil_mode: bool,
    counts_padding: bool,
) -> Tensor:
    """The sum over each window divided by how many elements of it count."""
    flat = [amount for pair in reversed(around) for amount in pair]
    ones = F.pad(torch.ones_like(x), flat, value=1.0 if counts_padding else 0.0)
    x = F.pad(x, flat)
    if ceil_mode:
        beyond = [_beyond(x.shape[2 + i], around[i], kernel[i], strides[i], dilations[i]) for i in range(len(kernel))]
        flat = [amount for extra in reversed(beyond) for amount in (0, extra)]
        ones, x = F.pad(ones, flat), F.pad(x, flat)
    return _window_sums(x, kernel, strides, dilations) / _window_sums(ones, kernel, strides, dilations)


def _beyond(size: Any, around: tuple[Any, Any], width: int, stride: int, dilation: int) -> Any:
    """What the last window reaches over; one that starts in the padding behind is left out."""
    reach = (width - 1) * dilation + 1
    count = (size - reach + stride - 1) // stride + 1
    if (count - 1) * stride >= size - around[1]:
        count -= 1
    return sym_max((count - 1) * stride + reach - size, 0)


def _window_sums(x: Tensor, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> Tensor:
    b, c = x.shape[:2]
    window = torch.ones((1, 1, *kernel), dtype=x.dtype)
    sums = _by_rank(_CONVOLUTIONS, len(kernel))(x.reshape(b * c, 1, *x.shape[2:]), window, None, strides, 0, dilations)
    result: Tensor = sums.reshape(b, c, *sums.shape[2:])
    return result


@FAMILY.maps("LpPool(X; auto_pad='NOTSET', ceil_mode=0, dilations?, kernel_shape, p=2, pads?, strides?)")
def _power_pool(
    x: Tensor,
    auto_pad: str,
    ceil_mode: int,
    dilations: Sequence[int] | None,
    kernel_shape: Sequence[int],
    p: int,
    pads: Sequence[int] | None,
    strides: Sequence[int] | None,
) -> Tensor:
    if ceil_mode:
        raise Unsupported("LpPool with ceil_mode has no mapping")
    rank = x.ndim - 2
    strides, dilations = strides or [1] * rank, dilations or [1] * rank
    around = paddings(x.shape[2:], kernel_shape, strides, dilations, auto_pad, pads)
    powers = F.pad(x.abs() ** p, [amount for pair in reversed(around) for amount in pair])
    return _window_sums(powers, kernel_shape, strides, dilations) ** (1.0 / p)


def _spatial(x: Tensor) -> list[int]:
    return list(range(2, x.ndim))


FAMILY.add(
    {
        "GlobalAveragePool(X)": lambda x: torch.mean(x, _spatial(x), keepdim=True),
        "GlobalMaxPool(X)": lambda x: torch.amax(x, _spatial(x), keepdim=True),
        "GlobalLpPool(X; p=2)": lambda x, p: torch.sum(x.abs() ** p, _spatial(x), keepdim=True) ** (1.0 / p),
    }
)

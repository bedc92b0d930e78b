"""Which tensor of the reference an array of the candidate is: by value, whatever its name and layout."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from regraft.compare.noise import Ratio

if TYPE_CHECKING:
    from regraft.compare.canonical import CanonicalTensor
    from regraft.runtime.interface import Array

MATCH_RMS, MATCH_PEAK = 8.0, 16.0
"""Ratios up to which one operator of another runtime counts as the same: calibrated on benign conversions."""
_NEAR = 1e4
"""Within so many thresholds, the floor of the whole segment is worth looking at."""
_MAX_PERMUTED_AXES = 5
_BLOCKS = (8, 16, 4)
"""Channels that convolution kernels keep together (onnxruntime's NCHWc)."""
_SAMPLE = 4096
_HUGE = 1e30


class Layout(msgspec.Struct, frozen=True):
    """How an array of the candidate lies, seen from the reference's.

    Attributes:
        shape: of the candidate's array.
        axes: transposing the candidate's array by these gives the reference's; None where both have the same order.
        block: channels that are stored innermost, 0 for none.
    """

    shape: tuple[int, ...]
    axes: tuple[int, ...] | None = None
    block: int = 0

    def to_reference(self, value: Array, shape: tuple[int, ...]) -> Array:
        """The candidate's array as the reference has it."""
        if self.block:
            n, c, *rest = self.shape
            value = value.reshape(n, c // self.block, *rest, self.block)
            value = value.transpose(0, 1, value.ndim - 1, *range(2, value.ndim - 1))
        elif self.axes is not None:
            value = value.transpose(self.axes)
        return value.reshape(shape)

    def to_candidate(self, value: Array) -> Array:
        """The reference's array as the candidate has it."""
        import numpy as np

        if self.block:
            n, c, *rest = self.shape
            value = value.reshape(n, c // self.block, self.block, *rest)
            value = value.transpose(0, 1, *range(3, value.ndim), 2)
        elif self.axes is not None:
            shape = [self.shape[axis] for axis in self.axes]
            value = value.reshape(shape).transpose(np.argsort(self.axes))
        return np.ascontiguousarray(value).reshape(self.shape)

    def __str__(self) -> str:
        if self.block:
            return f"blocks of {self.block} channels"
        return "same order" if self.axes is None else f"axes {self.axes}"


class Match(msgspec.Struct, frozen=True):
    """A tensor of the reference that an array of the candidate agrees with.

    Attributes:
        name: of the reference's tensor.
        layout: of the candidate's array.
        ratio: divergence in noise floors; None for integers, which agree exactly.
        by: what tied them: `value`, `segment` (within the floor of the operators in between), or `position`.
        is_sound: False for pairs that correspond but diverge.
    """

    name: str
    layout: Layout
    ratio: Ratio | None
    by: str = "value"
    is_sound: bool = True


Preference = Callable[["CanonicalTensor"], tuple[int, ...]]
Segment = Callable[[str], "CanonicalTensor | None"]


class Traced(Protocol):
    """What an index wants of a trace."""

    unit: float
    """Unit roundoff of the judged precision."""
    tensors: dict[str, CanonicalTensor]


class TensorIndex:
    """The reference's tensors by size and moments.

    Args:
        trace: of the reference.
        blocked: the candidate has operators that keep channels in blocks, so that such layouts are looked for.
    """

    def __init__(self, trace: Traced, *, blocked: bool = False) -> None:
        self._trace = trace
        self.blocked = blocked
        self._by_size: dict[int, list[CanonicalTensor]] = {}
        for tensor in trace.tensors.values():
            if tensor.value.dtype != object:
                self._by_size.setdefault(tensor.value.size, []).append(tensor)
        self._moments = {size: self._moments_of(tensors) for size, tensors in self._by_size.items()}

    def of_size(self, size: int) -> list[CanonicalTensor]:
        """Tensors with so many elements, in the reference's order."""
        return self._by_size.get(size, [])

    def _moments_of(self, tensors: list[CanonicalTensor]) -> Any:
        """One row a tensor: mean, RMS, by how much they may differ, and whether it is of integers."""
        import numpy as np

        return np.array([(*_moments(one.value), self._slack(one), one.own is None) for one in tensors])  # (n, 4)

    def find(self, value: Array, *, prefer: Preference | None = None, segment: Segment | None = None) -> Match | None:
        """The tensor that an array agrees with, within rounding.

        Args:
            value: of the candidate.
            prefer: sorts tensors that agree equally; the smallest is taken.
            segment: tensor name → the tensor with the floor of all operators between it and what is known.
        """
        if value.dtype == object:
            return None
        nearby = self._nearby(value)
        nearby.sort(key=prefer or (lambda tensor: (tensor.maker,)))
        for tensor in nearby:
            match = self.agrees(value, tensor, segment=segment)
            if match is not None:
                return match
        return None

    def _nearby(self, value: Array) -> list[CanonicalTensor]:
        """Tensors whose mean and RMS are those of an array, generously."""
        import numpy as np

        tensors = self._by_size.get(value.size)
        if not tensors:
            return []
        rows = self._moments[value.size]
        mean, rms = _moments(value)
        far = (np.abs(rows[:, 0] - mean) > rows[:, 2]) | (np.abs(rows[:, 1] - rms) > rows[:, 2])  # NaN is not far
        kind = rows[:, 3] == (value.dtype.kind in "iub")
        return [tensors[place] for place in np.flatnonzero(kind & ~far)]

    def agrees(self, value: Array, tensor: CanonicalTensor, *, segment: Segment | None = None) -> Match | None:
        """Does an array agree with one tensor, in any layout?"""
        near: tuple[Layout, Ratio] | None = None
        for layout in layouts(value.shape, tensor.value.shape, blocked=self.blocked):
            turned = layout.to_reference(value, tensor.value.shape)
            if tensor.own is None:
                if _equal(turned, tensor):
                    return Match(tensor.name, layout, None)
                continue
            if not _may_agree(turned, tensor, self._slack(tensor)):
                continue
            ratio = tensor.ratio(turned, unit=self._trace.unit)
            if ratio is None:
                continue
            if is_within(ratio):
                return Match(tensor.name, layout, ratio)
            if ratio.rms < MATCH_RMS * _NEAR and (near is None or ratio.rms < near[1].rms):
                near = (layout, ratio)
        if near is None or segment is None:
            return None
        wider = segment(tensor.name)
        if wider is None:
            return None
        ratio = wider.ratio(near[0].to_reference(value, tensor.value.shape), unit=self._trace.unit)
        return Match(tensor.name, near[0], ratio, by="segment") if ratio is not None and is_within(ratio) else None

    def _slack(self, tensor: CanonicalTensor) -> float:
        """By how much moments may differ: generous, the elements decide."""
        if tensor.own is None:
            return 0.0
        return _NEAR * MATCH_RMS * max(tensor.own.rms, self._trace.unit * tensor.own.scale_rms)


def is_within(ratio: Ratio) -> bool:
    """Is a divergence one that rounding of the same operator explains?"""
    return ratio.rms <= MATCH_RMS and ratio.peak <= MATCH_PEAK


def layouts(theirs: tuple[int, ...], ours: tuple[int, ...], *, blocked: bool = False) -> Iterator[Layout]:
    """Ways in which an array of one shape may hold the numbers of an array of another; the plain one first.

    Args:
        theirs: shape of the candidate's array.
        ours: shape of the reference's; as many elements.
        blocked: the candidate has operators that keep channels in blocks.
    """
    yield Layout(theirs)
    wide = tuple(extent for extent in theirs if extent != 1)
    if 2 <= len(theirs) <= _MAX_PERMUTED_AXES and sorted(wide) == sorted(extent for extent in ours if extent != 1):
        order = [axis for axis in range(len(theirs)) if theirs[axis] != 1]
        rest = tuple(axis for axis in range(len(theirs)) if theirs[axis] == 1)
        target = tuple(extent for extent in ours if extent != 1)
        for chosen in itertools.permutations(order):
            if tuple(theirs[axis] for axis in chosen) == target and list(chosen) != order:
                yield Layout(theirs, (*chosen, *rest))
    if blocked and len(theirs) == 4 and theirs == ours:
        yield from (Layout(theirs, block=block) for block in _BLOCKS if theirs[1] % block == 0 and theirs[1] > block)


def _moments(value: Array) -> tuple[float, float]:
    """Mean and RMS: what does not change when numbers are rearranged; masks are left out."""
    import numpy as np

    if not value.size:
        return 0.0, 0.0
    wide: Any = value.ravel()
    if wide.dtype.kind != "f" or not np.abs(wide).max() < _HUGE:
        wide = wide.astype(np.float64)
        wide = wide[np.abs(wide) < _HUGE]
        if not wide.size:
            return 0.0, 0.0
    mean = float(wide.mean(dtype=np.float64))
    return mean, float(np.sqrt(np.square(wide, dtype=np.float64).mean()))


def _may_agree(value: Array, tensor: CanonicalTensor, slack: float) -> bool:
    """A look at some of the elements, before all of them are compared."""
    import numpy as np

    if value.size <= _SAMPLE:
        return True
    step = value.size // 64
    ours, theirs = tensor.value.ravel()[::step].astype(np.float64), value.ravel()[::step].astype(np.float64)
    usable = np.isfinite(ours) & np.isfinite(theirs) & (np.abs(ours) < 1e30)
    if not usable.any():
        return True
    error = np.sqrt(np.square(ours[usable] - theirs[usable]).mean())
    return bool(error <= slack * 10)


def _equal(value: Array, tensor: CanonicalTensor) -> bool:
    import numpy as np

    differs = value != tensor.value
    if tensor.unstable is not None:
        differs = differs & np.logical_not(tensor.unstable)
    return not differs.any()

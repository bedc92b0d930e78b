"""Which tensor of the reference an array of the candidate is: by value, whatever its name and layout."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from regraft.compare.deviation import HUGE
from regraft.compare.noise import Ratio

if TYPE_CHECKING:
    from regraft.compare.canonical import CanonicalTensor
    from regraft.runtime.interface import Array

MATCH_RMS, MATCH_PEAK = 8.0, 16.0
"""Ratios up to which one operator of another runtime counts as the same: calibrated on benign conversions."""
_NEAR = 1e4
"""Within so many thresholds, the floor of the whole segment is worth looking at."""
_MAX_PERMUTED_AXES = 5
_BLOCKED_AXES = 4
_BLOCKS = (8, 16, 4)
"""Channels that convolution kernels keep together (onnxruntime's NCHWc)."""
_SAMPLE = 64
"""Elements that are compared before all are."""


class Layout(msgspec.Struct, frozen=True):
    """How an array of the candidate lies, seen from the reference's.

    Attributes:
        shape: of the candidate's array.
        axes: transposing the candidate's array by these gives the reference's; None where both have the same order.
        block: channels that are stored innermost, 0 for none.
        channels: how many channels hold something, where others fill up the last block; 0 for all.
    """

    shape: tuple[int, ...]
    axes: tuple[int, ...] | None = None
    block: int = 0
    channels: int = 0

    def to_reference(self, value: Array, shape: tuple[int, ...]) -> Array:
        """The candidate's array as the reference has it."""
        if self.block:
            n, c, *rest = self.shape
            value = value.reshape(n, c // self.block, *rest, self.block)
            value = value.transpose(0, 1, value.ndim - 1, *range(2, value.ndim - 1))
            if self.channels:
                value = value.reshape(self.shape)[:, : self.channels]
        elif self.axes is not None:
            value = value.transpose(self.axes)
        return value.reshape(shape)

    def to_candidate(self, value: Array) -> Array:
        """The reference's array as the candidate has it."""
        import numpy as np

        if self.block:
            n, c, *rest = self.shape
            if self.channels:
                filling = np.zeros((n, c - self.channels, *rest), value.dtype)
                value = np.concatenate([value.reshape(n, self.channels, *rest), filling], axis=1)
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
    """The reference's tensors by size, by some of their elements, and by moments.

    Args:
        trace: of the reference.
        blocked: the candidate has operators that keep channels in blocks, so that such layouts are looked for.
    """

    def __init__(self, trace: Traced, *, blocked: bool = False) -> None:
        self._trace = trace
        self.blocked = blocked
        self._groups: dict[int, _Group] = {}
        by_size: dict[int, list[CanonicalTensor]] = {}
        for tensor in trace.tensors.values():
            if tensor.value.dtype != object:
                by_size.setdefault(tensor.value.size, []).append(tensor)
        self._groups = {size: _Group(tensors, trace.unit) for size, tensors in by_size.items()}

    def of_size(self, size: int) -> list[CanonicalTensor]:
        """Tensors with so many elements, in the reference's order."""
        return self._groups[size].tensors if size in self._groups else []

    def find(
        self, value: Array, *, prefer: Preference | None = None, segment: Segment | None = None, name: str = ""
    ) -> Match | None:
        """The tensor that an array agrees with, within rounding.

        Most arrays lie as the reference's do: a few elements tell which tensors they can be. Only where none of those
        agrees are moments looked at, which do not depend on the order of elements.

        Args:
            value: of the candidate.
            prefer: sorts tensors that agree equally; the smallest is taken.
            segment: tensor name → the tensor with the floor of all operators between it and what is known.
            name: that `prefer` prefers to all others; empty for none.
        """
        group = self._groups.get(value.size) if value.dtype != object else None
        named = self._trace.tensors.get(name)
        is_like = named is not None and (named.value.size, _is_discrete(named.value)) == (
            value.size,
            _is_discrete(value),
        )
        if named is not None and named.maker >= 0 and is_like:
            match = self._agrees_as_it_lies(value, named)
            if match is not None:
                return match
        rank = prefer or _in_order
        if group is None:
            return self._first(value, sorted(self.filled_up(value), key=rank), segment)
        for tensor in sorted(group.alike(value), key=rank):
            match = self._agrees_as_it_lies(value, tensor)
            if match is None:
                continue
            twins = group.twins(tensor)
            before = [one for one in twins if rank(one) < rank(tensor)] if len(twins) > 1 else []
            return self._first(value, sorted(before, key=rank), segment) or match
        nearby = [*sorted(group.nearby(value), key=rank), *sorted(self.filled_up(value), key=rank)]
        return self._first(value, nearby, segment)

    def filled_up(self, value: Array) -> list[CanonicalTensor]:
        """Tensors of fewer channels that an array may be with its last block of channels filled up."""
        if not self.blocked or value.ndim != _BLOCKED_AXES or value.dtype.kind != "f":
            return []
        n, c, *rest = value.shape
        block = max(block for block in (*_BLOCKS, 1) if c % block == 0)
        wanted = [(n, channels, *rest) for channels in range(c - block + 1, c)]
        return [one for shape in wanted for one in self.of_size(math.prod(shape)) if one.value.shape == shape]

    def _first(self, value: Array, tensors: Iterable[CanonicalTensor], segment: Segment | None) -> Match | None:
        matches = (self.agrees(value, tensor, segment=segment) for tensor in tensors)
        return next((match for match in matches if match is not None), None)

    def _agrees_as_it_lies(self, value: Array, tensor: CanonicalTensor) -> Match | None:
        layout = Layout(value.shape)
        turned = value.reshape(tensor.value.shape)
        if tensor.own is None:
            return Match(tensor.name, layout, None) if _equal(turned, tensor) else None
        ratio = tensor.ratio(turned, unit=self._trace.unit)
        return Match(tensor.name, layout, ratio) if ratio is not None and is_within(ratio) else None

    def agrees(self, value: Array, tensor: CanonicalTensor, *, segment: Segment | None = None) -> Match | None:
        """Does an array agree with one tensor, in any layout?"""
        near: tuple[Layout, Ratio] | None = None
        for layout in layouts(value.shape, tensor.value.shape, blocked=self.blocked):
            turned = layout.to_reference(value, tensor.value.shape)
            if tensor.own is None:
                if _equal(turned, tensor):
                    return Match(tensor.name, layout, None)
                continue
            if not _may_agree(turned, tensor, _slack(tensor, self._trace.unit)):
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


class _Group:
    """Tensors of one size, with what is compared before their elements are.

    Args:
        tensors: in the reference's order.
        unit: unit roundoff of the judged precision.
    """

    def __init__(self, tensors: list[CanonicalTensor], unit: float) -> None:
        import numpy as np

        self.tensors = tensors
        self._slack = np.array([_slack(one, unit) for one in tensors])  # (n,)
        self._limits = np.square(10 * self._slack)
        is_discrete = np.array([one.own is None for one in tensors])
        self._kinds = {True: is_discrete, False: ~is_discrete}
        self._samples = np.stack([_sample(one.value) for one in tensors])  # (n, m)
        self._compared = np.isfinite(self._samples) & (np.abs(self._samples) < HUGE)
        self._all_compared = bool(self._compared.all())
        self._twins: dict[str, list[CanonicalTensor]] = {}

    def alike(self, value: Array) -> list[CanonicalTensor]:
        """Tensors some of whose elements are those of an array, in the order in which they lie."""
        import numpy as np

        error = self._samples - _sample(value)
        mean = np.einsum("ij,ij->i", error, error) / max(1, error.shape[1])
        if not (self._all_compared and np.isfinite(mean).all()):
            usable = self._compared & np.isfinite(error)
            squares = np.square(np.where(usable, error, 0.0))
            mean = squares.sum(axis=1) / np.maximum(1, usable.sum(axis=1))
        return self._of_kind(mean <= self._limits, value)

    def nearby(self, value: Array) -> list[CanonicalTensor]:
        """Tensors whose mean and RMS are those of an array, generously."""
        import numpy as np

        far = (np.abs(self._moments - _moments(value)) > self._slack[:, None]).any(axis=1)  # NaN is not far
        return self._of_kind(~far, value)

    def twins(self, tensor: CanonicalTensor) -> list[CanonicalTensor]:
        """Tensors whose mean and RMS are those of one of them, itself included."""
        if tensor.name not in self._twins:
            self._twins[tensor.name] = self.nearby(tensor.value)
        return self._twins[tensor.name]

    @functools.cached_property
    def _moments(self) -> Any:
        import numpy as np

        return np.array([_moments(one.value) for one in self.tensors])  # (n, 2)

    def _of_kind(self, chosen: Any, value: Array) -> list[CanonicalTensor]:
        import numpy as np

        return [self.tensors[i] for i in np.flatnonzero(chosen & self._kinds[_is_discrete(value)]).tolist()]


def in_blocks(shape: tuple[int, ...], block: int) -> Layout:
    """The layout of a tensor in blocks of channels, the last of which is filled up.

    Args:
        shape: of the reference's tensor, (N, C, H, W).
        block: channels of a block.
    """
    blocks = -(-shape[1] // block)
    channels = shape[1] if shape[1] % block else 0
    return Layout((shape[0], blocks * block, *shape[2:]), block=block, channels=channels)


def is_within(ratio: Ratio) -> bool:
    """Is a divergence one that rounding of the same operator explains?"""
    return ratio.rms <= MATCH_RMS and ratio.peak <= MATCH_PEAK


def layouts(theirs: tuple[int, ...], ours: tuple[int, ...], *, blocked: bool = False) -> Iterator[Layout]:
    """Ways in which an array of one shape may hold the numbers of an array of another; the plain one first.

    Args:
        theirs: shape of the candidate's array.
        ours: shape of the reference's; as many elements, or fewer channels than blocks have.
        blocked: the candidate has operators that keep channels in blocks.
    """
    if math.prod(theirs) == math.prod(ours):
        yield Layout(theirs)
    wide = tuple(extent for extent in theirs if extent != 1)
    if 2 <= len(theirs) <= _MAX_PERMUTED_AXES and sorted(wide) == sorted(extent for extent in ours if extent != 1):
        order = [axis for axis in range(len(theirs)) if theirs[axis] != 1]
        rest = tuple(axis for axis in range(len(theirs)) if theirs[axis] == 1)
        target = tuple(extent for extent in ours if extent != 1)
        for chosen in itertools.permutations(order):
            if tuple(theirs[axis] for axis in chosen) == target and list(chosen) != order:
                yield Layout(theirs, (*chosen, *rest))
    if blocked and len(theirs) == len(ours) == _BLOCKED_AXES and (theirs[0], *theirs[2:]) == (ours[0], *ours[2:]):
        fitting = [block for block in _BLOCKS if theirs[1] % block == 0 and 0 <= theirs[1] - ours[1] < block]
        channels = ours[1] if ours[1] < theirs[1] else 0
        yield from (Layout(theirs, block=block, channels=channels) for block in fitting)


def _moments(value: Array) -> tuple[float, float]:
    """Mean and RMS: what does not change when numbers are rearranged; masks are left out."""
    import numpy as np

    if not value.size:
        return 0.0, 0.0
    wide: Any = value.ravel()
    if wide.dtype.kind != "f" or not float(np.abs(wide).max()) < HUGE:
        wide = wide.astype(np.float64)
        wide = wide[np.abs(wide) < HUGE]
        if not wide.size:
            return 0.0, 0.0
    mean = float(wide.mean(dtype=np.float64))
    return mean, float(np.sqrt(np.square(wide, dtype=np.float64).mean()))


def _sample(value: Array) -> Any:
    """Some of the elements, in the order in which they lie, in float64."""
    flat: Any = value.reshape(-1)
    return flat[:: max(1, value.size // _SAMPLE)][: _SAMPLE + 1].astype("float64")


def _may_agree(value: Array, tensor: CanonicalTensor, slack: float) -> bool:
    """A look at some of the elements, before all of them are compared."""
    import numpy as np

    ours, theirs = _sample(tensor.value), _sample(value)
    usable = np.isfinite(ours) & np.isfinite(theirs) & (np.abs(ours) < HUGE)
    if not usable.any():
        return True
    error = np.sqrt(np.square(ours[usable] - theirs[usable]).mean())
    return bool(error <= slack * 10)


def _slack(tensor: CanonicalTensor, unit: float) -> float:
    """By how much moments and single elements may differ: generous, all elements decide."""
    if tensor.own is None:
        return 0.0
    return _NEAR * MATCH_RMS * max(tensor.own.rms, unit * tensor.own.scale_rms)


def _is_discrete(value: Array) -> bool:
    return value.dtype.kind in "iub"


def _in_order(tensor: CanonicalTensor) -> tuple[int, ...]:
    return (tensor.maker,)


def _equal(value: Array, tensor: CanonicalTensor) -> bool:
    import numpy as np

    differs = value != tensor.value
    if tensor.unstable is not None:
        differs = differs & np.logical_not(tensor.unstable)
    return not differs.any()

"""The floors of one tensor, ready for many comparisons: an array is read once, in blocks that stay in the cache."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec

from regraft.compare.deviation import HUGE, Deviation, channel_rows, square_sum
from regraft.compare.noise import FLUSHED, Ratio

if TYPE_CHECKING:
    from regraft.runtime.interface import Array

_BLOCK = 1 << 16
"""Elements that are compared at a time: 256 KiB of float32, which a core's cache holds with both operands."""
_SQUARABLE = (1e-15, 1e15)
"""Floors between these are squared in float32 without loss; others are compared in float64, by `deviation`."""


class Floors(msgspec.Struct, frozen=True):
    """What `ratios` works out for one tensor, kept as arrays.

    Attributes:
        rms: floor of the RMS, in the tensor's unit.
        peaks: floor of the largest error, by channel.
        count: elements that are compared: all but masks and infinite ones.
        is_quick: squares in float32 are exact enough.
    """

    rms: float
    peaks: Array
    count: int
    is_quick: bool

    @classmethod
    def of(cls, own: Deviation, unit: float) -> Floors:
        """From the error of the reference's own run.

        Args:
            own: error of the operator's own run there.
            unit: unit roundoff of the judged precision.
        """
        import numpy as np

        peaks, scales = np.array(own.peaks), np.array(own.scale_peaks)
        largest = scales.max(initial=0.0)
        relative = max(own.peak / largest if largest > 0 else 0.0, unit)
        rms = max(own.rms, unit * own.scale_rms, FLUSHED)
        is_quick = own.n > 0 and own.incomparable == 0 and _SQUARABLE[0] < rms < _SQUARABLE[1]
        return cls(rms, np.maximum(np.maximum(peaks, relative * scales), FLUSHED), own.n, is_quick)


class SmallPart(msgspec.Struct, frozen=True):
    """The elements of a tensor that others dwarf: scores beside those that a mask pushed to −10,000.

    Attributes:
        bound: elements up to this size are part of it, zeros are not.
        count: how many there are.
        own: error of the operator's own run there.
    """

    bound: float
    count: int
    own: Deviation

    def places(self, value: Array) -> Array:
        """Where they are, as booleans of the tensor's shape."""
        import numpy as np

        with np.errstate(over="ignore"):  # a bound beyond float16 is infinite there
            found: Array = (np.abs(value) <= self.bound) & (value != 0)
        return found

    def hidden(self, value: Array) -> Array:
        """All other places, of a block of finite values."""
        import numpy as np

        with np.errstate(over="ignore"):
            found: Array = (np.abs(value) > self.bound) | (value == 0)
        return found


def quick_ratio(
    other: Array, value: Array, floors: Floors, small: tuple[SmallPart, Floors] | None = None
) -> Ratio | None:
    """The ratio of an array to a tensor in one pass; None where `deviation` has to look closer.

    Differences of float32 numbers are taken in float32: half a unit in the last place of the difference is all that
    this can lose.

    Args:
        other: of the tensor's shape, floating.
        value: of the tensor.
        floors: of the tensor.
        small: elements that the others dwarf, with floors of their own; the larger ratio counts.
    """
    import numpy as np

    if not floors.is_quick or (small is not None and not small[1].is_quick):
        return None
    theirs, ours, channels = channel_rows(other, value)
    dtype = np.result_type(other.dtype, value.dtype, np.float32)
    rows = max(1, _BLOCK // ours.shape[1])
    buffer = np.empty((min(rows, len(ours)), ours.shape[1]), dtype)
    peaks: Any = None
    rest: list[Any] = []
    squares, fine_squares, fine_peak = 0.0, 0.0, 0.0
    for start in range(0, len(ours), rows):
        truth = ours[start : start + rows]
        error = buffer[: len(truth)]
        if not _difference(theirs[start : start + rows], truth, error, is_masked=floors.count < value.size):
            return None
        flat = error.reshape(-1)
        squares += square_sum(flat)
        np.abs(error, out=error)
        if channels is None:  # (rows, C): a column a channel
            highest = error.max(axis=0)
            peaks = highest if peaks is None else np.maximum(peaks, highest, out=peaks)
        else:  # (N·C, S): a row a channel
            rest.append(error.max(axis=1))
        if small is not None:
            error[small[0].hidden(truth)] = 0.0
            fine_squares += square_sum(flat)
            fine_peak = max(fine_peak, float(flat.max()))
    if channels is not None:
        peaks = np.concatenate(rest).reshape(-1, channels).max(axis=0)
    if not math.isfinite(squares) or not np.isfinite(peaks).all():
        return None
    rms, peak = math.sqrt(squares / floors.count) / floors.rms, float((peaks / floors.peaks).max())
    if small is not None:
        part, own = small
        rms = max(rms, math.sqrt(fine_squares / part.count) / own.rms)
        peak = max(peak, fine_peak / float(own.peaks[0]))
    return Ratio(rms, peak, floors.rms)


def _difference(other: Array, value: Array, out: Array, *, is_masked: bool) -> bool:
    """Write the difference of two blocks, 0 at masks; False where one has a mask and the other has not."""
    import numpy as np

    if not is_masked:
        np.subtract(other, value, out=out, dtype=out.dtype)
        return True
    with np.errstate(invalid="ignore", over="ignore"):
        np.subtract(other, value, out=out, dtype=out.dtype)
        masked = ~(np.abs(value) < HUGE)
    if masked.any():
        theirs, ours = other[masked].astype(out.dtype), value[masked].astype(out.dtype)
        same = (np.abs(theirs) >= HUGE) & (np.sign(theirs) == np.sign(ours)) | np.isnan(theirs) & np.isnan(ours)
        out[masked] = 0.0
        return bool(same.all())
    return True


__all__ = ["Floors", "SmallPart", "quick_ratio"]

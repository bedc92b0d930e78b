"""What rounding may do to one small case, number by number: a limit that a script can apply without Regraft."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from regraft.compare.deviation import HUGE, Deviation, deviation
from regraft.compare.matching import MATCH_PEAK, MATCH_RMS

if TYPE_CHECKING:
    from regraft.runtime.interface import Array

_DWARFED = 100.0
"""Elements beyond so many times the median have a limit of their own, so that they do not hide the others."""
_LEAST_SCALE = 1e-3
"""Of the whole tensor: channels that are smaller count as so large, or rounding of a zero would be a divergence."""


class Allowance(msgspec.Struct, frozen=True):
    """Limits of one tensor.

    Attributes:
        elements: largest absolute difference that rounding explains, by element; infinite where nothing is compared.
        rms: the same for the root mean square over the compared elements; infinite for integers.
    """

    elements: Array
    rms: float

    def margin(self, computed: Array, expected: Array) -> float:
        """How many times a difference exceeds the limits; at most 1 where rounding explains it."""
        import numpy as np

        difference = self.difference(computed, expected)
        compared = np.isfinite(self.elements)
        if not compared.any():
            return 0.0
        with np.errstate(divide="ignore", invalid="ignore"):
            over = np.nan_to_num(difference[compared] / self.elements[compared], nan=0.0, posinf=np.inf)
        rms = float(np.sqrt(np.square(difference[compared]).mean()))
        return max(float(over.max()), rms / self.rms if self.rms > 0 else 0.0)

    def difference(self, computed: Array, expected: Array) -> Any:
        """Absolute difference by element: 0 where nothing is compared, infinite where one of the two is no number."""
        import numpy as np

        with np.errstate(invalid="ignore", over="ignore"):
            found = np.abs(computed.astype(np.float64) - expected.astype(np.float64))
        return np.where(np.isfinite(self.elements), np.nan_to_num(found, nan=np.inf, posinf=np.inf), 0.0)


def allowance(expected: Array, own: Array | None, *, unit: float, relative: float = 0.0) -> Allowance:
    """Limits from the error of the reference's own run, as the walk sets them.

    Args:
        expected: the exact values.
        own: what the reference makes of the same inputs in its own precision; None where it cannot be run.
        unit: unit roundoff of that precision.
        relative: floor per RMS of the expected values that is known otherwise; the larger of the two counts.
    """
    import numpy as np

    if expected.dtype.kind != "f":
        unstable = np.zeros(expected.shape, bool) if own is None else own != expected
        return Allowance(np.where(unstable, np.inf, 0.0), float("inf"))
    plain = own if own is not None and own.shape == expected.shape else expected
    error = deviation(plain, expected)
    floor = max(unit, relative)
    whole = max(error.scale_peaks, default=0.0)
    peaks = [
        MATCH_PEAK * max(peak, floor * max(scale, _LEAST_SCALE * whole))
        for peak, scale in zip(error.peaks, error.scale_peaks, strict=True)
    ]
    limits = np.broadcast_to(_by_channel(peaks, expected.shape), expected.shape).copy()
    size = np.abs(expected)
    compared = np.isfinite(expected) & (size < HUGE)
    limits = np.minimum(limits, _of_small(plain, expected, compared, floor))
    limits[~compared] = np.inf
    return Allowance(limits, MATCH_RMS * max(error.rms, floor * error.scale_rms))


def _by_channel(peaks: list[float], shape: tuple[int, ...]) -> Any:
    import numpy as np

    if len(peaks) == 1:
        return np.array(peaks[0])
    axis = 1 if len(shape) >= 4 else len(shape) - 1
    return np.array(peaks).reshape([-1 if position == axis else 1 for position in range(len(shape))])


def _of_small(plain: Array, expected: Array, compared: Any, floor: float) -> Any:
    """A limit for the elements that others dwarf; infinite for those others."""
    import numpy as np

    size = np.abs(expected)
    usable = compared & (size > 0)
    bound = _DWARFED * float(np.median(size[usable])) if usable.any() else np.inf
    small = usable & (size <= bound)
    if not small.any() or small.sum() == usable.sum():
        return np.full(expected.shape, np.inf)
    error: Deviation = deviation(plain[small], expected[small])
    return np.where(small, MATCH_PEAK * max(error.peak, floor * float(size[small].max())), np.inf)


__all__ = ["Allowance", "allowance"]

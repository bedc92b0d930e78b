"""Noise floor: the deviation from exact arithmetic that rounding alone produces."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import msgspec

from regraft.compare.deviation import Deviation

UNIT_ROUNDOFF = {
    "float64": 2.0**-53,
    "float32": 2.0**-24,
    "tensorfloat32": 2.0**-11,
    "float16": 2.0**-11,
    "bfloat16": 2.0**-8,
}
"""Half the distance from 1 to the next number: the largest relative error of rounding to nearest.

Source: Higham, Accuracy and Stability of Numerical Algorithms, section 2.1.
"""


FLUSHED = 2.0**-126
"""The smallest normal float32: processors and kernels may take what is smaller for zero, so no floor is lower."""
OF_ONE = 0.25
"""Units of one by which a sigmoid may be wrong, however small it is."""
_SMALLEST_NORMAL = {"float64": 2.0**-1022, "float16": 2.0**-14}


class Ratio(msgspec.Struct, frozen=True):
    """A deviation in noise floors.

    Attributes:
        rms: RMS of the candidate's error over RMS of the floor.
        peak: largest over channels of the candidate's largest error over the floor's largest.
        floor: the floor's RMS, in the tensor's unit.
    """

    rms: float
    peak: float
    floor: float


def unit_roundoff(precision: str) -> float:
    """Unit roundoff of a floating-point precision.

    Raises:
        KeyError: it is none that has one (`int8`, `mixed`).
    """
    return UNIT_ROUNDOFF[precision]


def smallest_normal(precision: str) -> float:
    """The smallest normal number of a precision; most have the exponents of float32."""
    return _SMALLEST_NORMAL.get(precision, FLUSHED)


def least_floor(own: Sequence[Deviation], precision: str) -> float:
    """What no floor of an output is below: the smallest normal number, and for probabilities a part of one.

    Kernels make a sigmoid from numbers near one: onnxruntime says 0 where it is 2e-9.

    Args:
        own: error of the reference at one output, feed by feed.
        precision: whose floor it is.
    """
    is_probability = bool(own) and all(one.low >= 0.0 and one.high <= 1.0 for one in own)
    return max(smallest_normal(precision), OF_ONE * unit_roundoff(precision) if is_probability else 0.0)


def ratios(
    candidate: Sequence[Deviation], own: Sequence[Deviation], *, unit: float, smallest: float = FLUSHED
) -> list[Ratio]:
    """Deviations of a candidate in units of the deviation that the reference itself has, feed by feed.

    The floor of a feed is the largest of four: the reference's own error on it; the median over the feeds of
    its own relative error times the scale on this feed (an output of a few numbers can be exact by chance); one
    unit roundoff of the scale (so that a floor is never zero); the smallest normal number, as what is smaller may
    be flushed to zero. Where the output is zero throughout, its scale is the largest of the other feeds.

    Args:
        candidate: error of the candidate at one tensor, one entry a feed.
        own: error of the reference at the same tensor on the same feeds.
        unit: unit roundoff of the precision that the floor is for.
        smallest: what no floor is below, see `least_floor`.
    Returns:
        one ratio a feed; 0 where candidate and exact agree bit by bit.
    Raises:
        ValueError: the two sequences differ in length.
    Source: docs/explanation/noise-floors.md; the pooled term is ours.
    """
    pooled = statistics.median([one.relative for one in own]) if own else 0.0
    pooled_peak = statistics.median([_relative_peak(one) for one in own]) if own else 0.0
    widest = max((one.scale_rms for one in own), default=0.0)
    return [
        Ratio(
            rms=_over(theirs.rms, floor := max(ours.rms, pooled * ours.scale_rms, least)),
            peak=_peak_ratio(theirs, ours, max(pooled_peak, unit), smallest if ours.scale_rms else least),
            floor=floor,
        )
        for theirs, ours in zip(candidate, own, strict=True)
        for least in [max(unit * (ours.scale_rms or widest), smallest)]
    ]


def _relative_peak(one: Deviation) -> float:
    scale = max(one.scale_peaks, default=0.0)
    return one.peak / scale if scale > 0 else 0.0


def _peak_ratio(theirs: Deviation, ours: Deviation, relative: float, smallest: float) -> float:
    """Channel by channel; the lower bound of a channel's floor is taken from that channel's own scale."""
    return max(
        (
            _over(error, max(own, relative * scale, smallest))
            for error, own, scale in zip(theirs.peaks, ours.peaks, ours.scale_peaks, strict=True)
        ),
        default=0.0,
    )


def _over(error: float, floor: float) -> float:
    if error == 0.0:
        return 0.0
    return error / floor if floor > 0.0 else float("inf")

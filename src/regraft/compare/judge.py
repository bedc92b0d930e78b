"""From ratios to a verdict, with thresholds that were measured on benign conversions."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from enum import StrEnum
from importlib.resources import files

import msgspec

from regraft.compare.measure import OutputSeries
from regraft.compare.noise import Ratio, least_floor, ratios, unit_roundoff
from regraft.errors import Unsupported


class Judgement(StrEnum):
    """What rounding makes of a divergence."""

    WITHIN = "within"
    """Rounding explains it."""
    UNDECIDED = "undecided"
    """Between the benign and the fault threshold."""
    BEYOND = "beyond"
    """Rounding does not explain it."""


class Threshold(msgspec.Struct, frozen=True):
    """Where benign ends and fault begins, for one way to find the floor and one precision.

    Attributes:
        method: `float64` or `jitter`.
        precision: whose floor it is.
        benign_rms, benign_peak: ratios up to which rounding explains a divergence.
        fault_rms, fault_peak: ratios beyond which it does not.
        benign_cases, architectures: what they were measured on.
        false_alarms: benign cases that failed with the thresholds of the other architectures.
        false_alarm_bound: upper 95 % bound of that share, taking the cases as independent.
        false_alarm_bound_by_architecture: the same, taking the architectures as independent.
        faults, faults_failed: planted faults, and those of them that fail.
    """

    method: str
    precision: str
    benign_rms: float
    benign_peak: float
    fault_rms: float
    fault_peak: float
    benign_cases: int
    architectures: int
    false_alarms: int
    false_alarm_bound: float
    false_alarm_bound_by_architecture: float
    faults: int
    faults_failed: int

    def judgement(self, ratio: Ratio) -> Judgement:
        """Where one ratio lies."""
        if ratio.rms > self.fault_rms or ratio.peak > self.fault_peak:
            return Judgement.BEYOND
        if ratio.rms > self.benign_rms or ratio.peak > self.benign_peak:
            return Judgement.UNDECIDED
        return Judgement.WITHIN

    def severity(self, ratio: Ratio) -> float:
        """One ratio in terms of the fault threshold: beyond 1 it fails."""
        return max(ratio.rms / self.fault_rms, ratio.peak / self.fault_peak)


class OutputJudgement(msgspec.Struct, frozen=True):
    """One output, judged.

    Attributes:
        name: of the reference's output.
        judgement: over all feeds.
        ratios: feed by feed; empty for integer outputs.
        worst: feed whose RMS ratio, in terms of its threshold, or peak ratio is largest.
        reason: what decided, in words.
    """

    name: str
    judgement: Judgement
    ratios: tuple[Ratio, ...]
    worst: int
    reason: str


def threshold(method: str, precision: str) -> Threshold:
    """The measured threshold.

    Raises:
        Unsupported: this precision was not calibrated with this kind of floor.
    """
    for one in _table():
        if (one.method, one.precision) == (method, precision):
            return one
    raise Unsupported(
        f"no thresholds were measured for floors of {precision} by {method}",
        hint="give fixed tolerances: --atol and --rtol",
    )


@functools.cache
def _table() -> tuple[Threshold, ...]:
    content = files(__package__).joinpath("thresholds.json").read_bytes()
    return msgspec.json.decode(content, type=_File).thresholds


class _File(msgspec.Struct):
    thresholds: tuple[Threshold, ...]


def judge(series: OutputSeries, limits: Threshold) -> OutputJudgement:
    """Judge one output over all feeds.

    Args:
        series: deviations of the candidate and of the reference's own runs.
        limits: thresholds for the precision that the candidate is judged at.
    """
    lost = [max(0, one.incomparable - excused) for one, excused in zip(series.candidate, series.excused, strict=True)]
    if any(lost):
        feed = next(i for i, count in enumerate(lost) if count)
        reason = f"{sum(lost)} values are finite in one of the two only"
        return OutputJudgement(series.name, Judgement.BEYOND, (), feed, reason)
    flips = sum(one.flips for one in series.candidate) - sum(series.excused)
    if flips > 0:
        feed = next(i for i, one in enumerate(series.candidate) if one.flips > series.excused[i])
        reason = f"{flips} integers differ that the reference's own runs agree on"
        return OutputJudgement(series.name, Judgement.BEYOND, (), feed, reason)
    own, unit = series.own[limits.precision], unit_roundoff(limits.precision)
    found = ratios(series.candidate, own, unit=unit, smallest=least_floor(own, limits.precision))
    worst = max(range(len(found)), key=lambda i: limits.severity(found[i]))
    return OutputJudgement(series.name, _judged(found, limits), tuple(found), worst, _reason(found[worst], limits))


def _judged(found: Sequence[Ratio], limits: Threshold) -> Judgement:
    judgements = {limits.judgement(one) for one in found}
    return next((one for one in (Judgement.BEYOND, Judgement.UNDECIDED) if one in judgements), Judgement.WITHIN)


def _reason(worst: Ratio, limits: Threshold) -> str:
    return (
        f"{worst.rms:.3g} noise floors RMS (rounding explains {limits.benign_rms:.3g}), "
        f"{worst.peak:.3g} at the peak ({limits.benign_peak:.3g})"
    )

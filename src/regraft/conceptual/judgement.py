"""Claimed against measured: the margin, the outcome, and the level of agreement."""

from __future__ import annotations

import msgspec

from regraft.conceptual.claim import Claim
from regraft.conceptual.metrics import Interval
from regraft.record.evidence import Verdict

REPRODUCED, BETTER, NOT_REPRODUCED, UNDECIDED = "reproduced", "better", "not_reproduced", "undecided"
_ROUNDING = 1e-12
"""Of the subtraction of two decimals in binary."""


class Margin(msgspec.Struct, frozen=True):
    """How far measured and claimed may be apart.

    Attributes:
        half_digit: half of the last printed digit.
        nondeterminism: spread of repeated evaluations.
        declared: in place of both; None for their sum.
    """

    half_digit: float
    nondeterminism: float
    declared: float | None = None

    @property
    def size(self) -> float:
        """In the metric's unit."""
        return self.half_digit + self.nondeterminism if self.declared is None else self.declared


class Outcome(msgspec.Struct, frozen=True):
    """What comes out: the verb's word, its verdict, and how closely the numbers agree."""

    word: str
    verdict: Verdict
    agreement: str


def judge_direct(claim: Claim, value: float, margin: Margin) -> Outcome:
    """The same model on the same data: no sampling error to hide behind."""
    difference = value - claim.value
    if abs(difference) <= claim.half_digit + _ROUNDING:
        return Outcome(REPRODUCED, Verdict.PASS, "to the last printed digit")
    if abs(difference) <= margin.size + _ROUNDING:
        return Outcome(REPRODUCED, Verdict.PASS, "within the margin")
    if difference > 0:
        return Outcome(BETTER, Verdict.PASS, "none: it is better")
    return Outcome(NOT_REPRODUCED, Verdict.FAIL, "none")


def judge_interval(claim: Claim, interval: Interval, margin: Margin) -> Outcome:
    """The same model on another sample: the whole interval decides.

    It passes when no value of the interval is worse than the claim by more than the margin (non-inferiority). The
    uncertainty that the claim states about itself widens the margin.
    """
    size = margin.size + (claim.uncertainty or 0.0)
    low, high = claim.value - size, claim.value + size
    if interval.low > high:
        return Outcome(BETTER, Verdict.PASS, "none: it is better")
    if interval.low >= low - _ROUNDING:
        level = "statistically equivalent" if interval.high <= high + _ROUNDING else "not worse"
        return Outcome(REPRODUCED, Verdict.PASS, level)
    if interval.high < low:
        return Outcome(NOT_REPRODUCED, Verdict.FAIL, "none")
    return Outcome(UNDECIDED, Verdict.INCONCLUSIVE, "unknown")

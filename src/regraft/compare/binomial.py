"""Shares and paired counts, with exact intervals from the binomial distribution alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

import msgspec

CONFIDENCE = 0.95
_BISECTIONS = 60


class Share(msgspec.Struct, frozen=True):
    """A share of n, and what it lies between at 95 %."""

    value: float
    low: float
    high: float
    n: int


def share(events: int, n: int) -> Share:
    """A share with its exact two-sided interval.

    Args:
        events: how many of n ≥ 1 independent trials.
    Raises:
        ValueError: there are no trials, or more events than trials.
    Source: Clopper and Pearson, The use of confidence or fiducial limits (1934).
    """
    if not 0 <= events <= n or n == 0:
        raise ValueError(f"{events} of {n} is no share")
    miss = (1 - CONFIDENCE) / 2
    low = 0.0 if events == 0 else _root(lambda p: 1 - cumulated(events - 1, n, p), miss)
    high = 1.0 if events == n else _root(lambda p: -cumulated(events, n, p), -miss)
    return Share(events / n, low, high, n)


def mcnemar(only_first: int, only_second: int) -> float:
    """Two-sided p-value: are both kinds of disagreement equally likely?

    Args:
        only_first, only_second: pairs in which the one alone was right, and the other alone.
    Source: McNemar (1947), in its exact binomial form.
    """
    n = only_first + only_second
    return min(1.0, 2 * cumulated(min(only_first, only_second), n, 0.5))


def paired_difference(only_first: int, only_second: int, n: int) -> Share:
    """Difference of two shares of the same n rows, with a 95 % interval; may be negative.

    Args:
        only_first, only_second: rows that count for the one alone, and for the other alone.
        n: all rows, at least 1.
    Source: Agresti and Min, Simple improved confidence intervals for comparing matched proportions (2005): Wald's
        interval after a half is added to each of the four cells.
    """
    z = NormalDist().inv_cdf(1 - (1 - CONFIDENCE) / 2)
    b, c, total = only_first + 0.5, only_second + 0.5, n + 2
    centre = (b - c) / total
    half = z * math.sqrt((b + c) - (b - c) ** 2 / total) / total
    return Share((only_first - only_second) / n, centre - half, centre + half, n)


def cumulated(k: int, n: int, p: float) -> float:
    """P(B ≤ k) for a binomial B of n trials, each with chance p; summed in logarithms."""
    if k >= n:
        return 1.0
    if p <= 0.0 or p >= 1.0:
        return 1.0 if p <= 0.0 else 0.0
    whole = math.lgamma(n + 1)
    terms = (
        whole - math.lgamma(i + 1) - math.lgamma(n - i + 1) + i * math.log(p) + (n - i) * math.log1p(-p)
        for i in range(k + 1)
    )
    return min(1.0, math.fsum(math.exp(term) for term in terms))


def _root(rising: Callable[[float], float], target: float) -> float:
    """Where a function that rises on 0 … 1 takes a value."""
    low, high = 0.0, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < target else (low, middle)
    return (low + high) / 2

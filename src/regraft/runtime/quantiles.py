"""Quantiles of a sample with their intervals, without assuming a distribution."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

CONFIDENCE = 0.95


class Quantile(msgspec.Struct, frozen=True):
    """An estimate; `low` or `high` is None where the sample is too small for that bound."""

    value: float
    low: float | None
    high: float | None
    n: int


def quantile(samples: Sequence[float], q: float, *, confidence: float = CONFIDENCE) -> Quantile:
    """The q-quantile and an interval for it from order statistics.

    Args:
        samples: at least one; independent draws. Any unit.
        q: between 0 and 1.
        confidence: two-sided; each bound misses with at most half of the rest.
    Raises:
        ValueError: no samples, or q outside of 0 … 1.
    Source: David and Nagaraja, Order Statistics, 3rd ed., section 7.1: the number of samples below the true
        quantile is binomial (n, q). The estimate interpolates linearly (Hyndman and Fan's type 7), which is too
        small for high quantiles of few samples: we move it into the interval.
    """
    n = len(samples)
    if n == 0 or not 0 <= q <= 1:
        raise ValueError(f"a {q}-quantile of {n} samples")
    ordered = sorted(samples)
    place = q * (n - 1)
    below = math.floor(place)
    above = min(below + 1, n - 1)
    value = ordered[below] + (ordered[above] - ordered[below]) * (place - below)
    miss = (1 - confidence) / 2
    cumulated = _cumulated_binomial(n, q)
    lower = max((rank for rank in range(1, n + 1) if cumulated[rank - 1] <= miss), default=0)
    upper = min((rank for rank in range(1, n + 1) if cumulated[rank - 1] >= 1 - miss), default=n + 1)
    low = ordered[lower - 1] if lower else None
    high = ordered[upper - 1] if upper <= n else None
    if low is not None:
        value = max(low, value)
    if high is not None:
        value = min(high, value)
    return Quantile(value, low, high, n)


def _cumulated_binomial(n: int, q: float) -> list[float]:
    """P(B ≤ k) for k = 0 … n and B binomial (n, q), in logarithms so that large n do not underflow."""
    if q in (0, 1):
        return [1.0 if q == 0 or k == n else 0.0 for k in range(n + 1)]
    total = 0.0
    result = []
    for k in range(n + 1):
        chosen = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
        total += math.exp(chosen + k * math.log(q) + (n - k) * math.log1p(-q))
        result.append(min(1.0, total))
    return result

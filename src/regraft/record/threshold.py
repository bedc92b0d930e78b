"""A limit that a policy sets to a measurement: judged by the interval, by the value where that is exact."""

from __future__ import annotations

import operator
from collections.abc import Callable

import msgspec

from regraft.record.evidence import JSON, Measurement
from regraft.record.units import convert, is_counted

OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
_UPPER = ("<=", "<")
_NOISE_FLOORS = "noise floors"


class Threshold(msgspec.Struct, frozen=True):
    """A comparison with the interval of a measurement, never with the point that an estimate is.

    Attributes:
        name: of the measurement.
        bound: `low` or `high` compares that end; None demands it of the whole interval: met when every value
            in it meets it, violated when none does, undecided between.
        comparison: a key of OPERATORS.
        limit: in `unit`.
        of: only measurements with these conditions count.
        text: as it was written.
        line: in the policy file.
    """

    name: str
    bound: str | None
    comparison: str
    limit: float
    unit: str
    of: dict[str, JSON]
    text: str
    line: int | None = None

    def concerns(self, measurement: Measurement) -> bool:
        """Whether a measurement is one of those that it limits."""
        of = measurement.of
        return measurement.name == self.name and all(key in of and of[key] == value for key, value in self.of.items())

    def limit_in(self, unit: str) -> float | None:
        """The limit in the unit of a measurement; None when there is no such conversion."""
        return convert(self.limit, self.unit, to=unit)

    def holds(self, measurement: Measurement, limit: float) -> bool | None:
        """Whether a measurement meets it; None where that is not known or the interval lies on both sides.

        Args:
            limit: in the unit of the measurement.
        """
        compare = OPERATORS[self.comparison]
        low, high = ends(measurement)
        if self.bound is not None:
            end = low if self.bound == "low" else high
            return None if end is None else compare(end, limit)
        decides_for, decides_against = (high, low) if self.comparison in _UPPER else (low, high)
        if decides_for is not None and compare(decides_for, limit):
            return True
        if decides_against is not None and not compare(decides_against, limit):
            return False
        return None


def ends(measurement: Measurement) -> tuple[float | None, float | None]:
    """The interval within which the true value lies: of an exact one, the value twice; None where it has no end."""
    if _is_exact(measurement):
        return measurement.value, measurement.value
    return measurement.low, measurement.high


def shown(measurement: Measurement, *, digits: int = 6) -> str:
    """The measurement as a finding quotes it.

    Args:
        digits: significant ones of what is no whole number.
    """
    low, high = ends(measurement)
    if low is not None and low == high:
        return f"{measurement.name} is {_number(low, digits)} {measurement.unit}".rstrip()
    interval = f"[{_number(low, digits)}, {_number(high, digits)}]"
    return f"{measurement.name} in {interval} {measurement.unit}".rstrip()


def _is_exact(measurement: Measurement) -> bool:
    """Whether the value is all that there is to know: a size, a count, the worst of what was looked at.

    A number without an interval that was computed from a sample (a mean loss, a median time) is an estimate whose
    uncertainty nobody stated.
    """
    if measurement.value is None or measurement.low is not None or measurement.high is not None:
        return False
    is_estimate = measurement.n is not None and measurement.n > 1
    return not is_estimate or is_counted(measurement.unit) or measurement.unit == _NOISE_FLOORS


def _number(value: float | int | None, digits: int) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return "?" if value is None else f"{value:.{digits}g}"

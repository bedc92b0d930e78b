"""Thresholds: which end of an interval decides, and what is exact."""

from __future__ import annotations

import pytest

from regraft.record.evidence import Measurement
from regraft.record.threshold import Threshold, ends, shown


def limit(comparison: str, number: float, bound: str | None = None) -> Threshold:
    return Threshold("share", bound, comparison, number, "", {}, "as written")


@pytest.mark.parametrize(
    ("low", "high", "comparison", "number", "holds"),
    [
        (None, 0.04, "<=", 0.05, True),  # one end is enough, when it is the one that decides
        (None, 0.06, "<=", 0.05, None),
        (0.06, None, "<=", 0.05, False),
        (0.04, None, "<=", 0.05, None),
        (0.06, None, ">", 0.05, True),
        (None, 0.05, ">", 0.05, False),
        (0.04, 0.06, ">", 0.05, None),
    ],
)
def test_the_end_that_decides(
    low: float | None, high: float | None, comparison: str, number: float, holds: bool | None
) -> None:
    measurement = Measurement("share", 0.05, "1", low=low, high=high, n=100)
    assert limit(comparison, number).holds(measurement, number) is holds


@pytest.mark.parametrize(
    ("measurement", "is_exact"),
    [
        (Measurement("size", 90_868_376, "bytes"), True),
        (Measurement("size_on_disk", 90_868_376, "bytes", n=1), True),
        (Measurement("decision_flips", 3, "decisions", n=2000), True),
        (Measurement("rms_ratio", 2.4, "noise floors", n=4000), True),  # the worst that was seen, no estimate
        (Measurement("parameters", 22_713_216, "parameters"), True),
        (Measurement("step_wall", 4.25, "s", n=1), True),
        (Measurement("log_loss", 0.51, "nats", n=2000), False),
        (Measurement("latency_p50", 8, "ms", n=200), False),
        (Measurement("peak_memory", 90, "bytes", low=80, high=95, n=5), False),
        (Measurement("size", None, "bytes"), False),
    ],
)
def test_sizes_and_counts_are_exact_and_estimates_are_not(measurement: Measurement, is_exact: bool) -> None:
    value = measurement.value
    assert ends(measurement) == ((value, value) if is_exact else (measurement.low, measurement.high))


def test_how_they_are_shown() -> None:
    assert shown(Measurement("size", 90_868_376, "bytes")) == "size is 90,868,376 bytes"
    assert shown(Measurement("accuracy", 0.75, "", low=0.73, high=0.77)) == "accuracy in [0.73, 0.77]"
    assert shown(Measurement("log_loss", 0.51, "nats", n=2000)) == "log_loss in [?, ?] nats"

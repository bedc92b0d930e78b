"""Units: conversions within a dimension, and none across."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regraft.record.units import UNITS, amount_text, convert


@pytest.mark.parametrize(
    ("value", "unit", "to", "expected"),
    [
        (20, "ms", "s", 0.02),
        (1, "d", "h", 24),
        (1, "GiB", "MiB", 1024),
        (1, "GB", "B", 1e9),
        (70, "%", "", 0.7),
        (1, "kWh", "J", 3.6e6),
        (3, "", "decisions", 3),
        (3, "%", "decisions", None),
        (5, "floors", "noise floors", 5),
        (1, "ms", "B", None),
        (1, "parsec", "s", None),
        (1, "parsec", "parsec", 1),
    ],
)
def test_conversions(value: float, unit: str, to: str, expected: float | None) -> None:
    result = convert(value, unit, to=to)
    assert result is None if expected is None else result == pytest.approx(expected, rel=1e-15)


@given(st.floats(0.001, 1000), st.sampled_from(UNITS), st.sampled_from(UNITS))
def test_there_and_back(value: float, unit: str, to: str) -> None:
    there = convert(value, unit, to=to)
    if there is not None:
        # two roundings of a product: a few units in the last place
        assert convert(there, to, to=unit) == pytest.approx(value, rel=1e-14)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1.2e8, "bytes", "120 MB"),
        (91_369_875, "bytes", "91.4 MB"),
        (2e9, "B", "2 GB"),
        (999, "bytes", "999 bytes"),
        (16.9634, "ms", "16.96 ms"),
        (3, "", "3"),
    ],
)
def test_amounts_read_as_people_write_them(value: float, unit: str, text: str) -> None:
    assert amount_text(value, unit) == text

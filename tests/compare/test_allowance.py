from __future__ import annotations

import numpy as np
import pytest

from regraft.compare.allowance import allowance
from regraft.compare.matching import MATCH_PEAK, MATCH_RMS

UNIT = 2.0**-24


@pytest.fixture
def exact():
    return np.random.default_rng(0).normal(size=(64, 6))


def test_what_rounding_does_is_within(exact):
    own = exact.astype(np.float32)
    limits = allowance(exact, own, unit=UNIT)
    assert limits.margin(own, exact) <= 1 / MATCH_RMS  # its own error is the floor, and eight floors are allowed
    assert limits.rms >= MATCH_RMS * UNIT * np.sqrt(np.square(exact).mean())


def test_the_limits_are_those_of_the_walk(exact):
    limits = allowance(exact, exact, unit=UNIT)
    whole = np.sqrt(np.square(exact).mean())
    offset = 2 * MATCH_RMS * UNIT * whole
    # a uniform offset shows in the RMS: twice the limit, but for the rounding of a sum of 1e-6 and 1 in float64
    assert limits.margin(exact + offset, exact) == pytest.approx(2, rel=1e-6)
    peak = exact.copy()
    peak[0, 0] += 3 * MATCH_PEAK * UNIT * np.abs(exact[:, 0]).max()
    assert limits.margin(peak, exact) == pytest.approx(3, rel=1e-6)  # by channel: column 0 has a limit of its own


def test_a_small_channel_is_not_hidden_by_a_large_one(exact):
    exact[:, 1] *= 1e4
    limits = allowance(exact, exact, unit=UNIT)
    wrong = exact.copy()
    wrong[:, 0] *= 1 + 1e-5  # 160 units in the last place, and far below rounding of column 1
    assert limits.margin(wrong, exact) > 5


def test_masked_and_infinite_elements_are_left_out(exact):
    exact[0] = -3e38
    exact[1, 0] = np.inf
    limits = allowance(exact, exact, unit=UNIT)
    other = np.where(np.abs(exact) > 1e30, -1e38, exact)
    assert limits.margin(other, exact) == 0
    other[2, 2] = np.nan
    assert limits.margin(other, exact) == np.inf


def test_a_channel_of_zeros_has_the_limit_of_a_small_one(exact):
    exact[:, 0] = 0
    limits = allowance(exact, exact, unit=UNIT)
    assert (limits.elements[:, 0] > 0).all()
    assert limits.elements[:, 0].max() < limits.elements[:, 1].min()


def test_a_floor_that_is_known_otherwise_widens(exact):
    narrow, wide = (allowance(exact, None, unit=UNIT, relative=r) for r in (0.0, 1e-4))
    assert wide.rms == pytest.approx(narrow.rms * 1e-4 / UNIT)


def test_integers_agree_exactly_or_not_at_all():
    exact = np.arange(6)
    assert allowance(exact, exact, unit=UNIT).margin(exact, exact) == 0
    assert allowance(exact, exact, unit=UNIT).margin(exact + (exact == 3), exact) == np.inf
    unstable = allowance(exact, exact + (exact == 3), unit=UNIT)  # the reference's own runs disagree there
    assert unstable.margin(exact - (exact == 3), exact) == 0

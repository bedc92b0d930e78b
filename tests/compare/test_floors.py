"""The quick comparison says what the exact one says, and leaves to it what it cannot judge."""

from __future__ import annotations

import numpy as np
import pytest

from regraft.compare.deviation import Deviation, deviation
from regraft.compare.floors import Floors, SmallPart, quick_ratio
from regraft.compare.noise import ratios

UNIT = 2.0**-24


def arrays(shape: tuple[int, ...], scale: float = 1.0) -> tuple[np.ndarray, np.ndarray, Deviation]:
    """A value, what a candidate makes of it, and the error of the reference's own run; channels differ in size."""
    random = np.random.default_rng(len(shape))
    value = (scale * random.standard_normal(shape) * np.linspace(1, 9, shape[-1])).astype(np.float32)
    own = (value * (1 + 1e-6 * random.standard_normal(shape))).astype(np.float32)
    other = (value * (1 + 4e-6 * random.standard_normal(shape))).astype(np.float32)
    return value, other, deviation(own, value)


@pytest.mark.parametrize("shape", [(7,), (3, 5), (64, 33), (2, 70, 40), (2, 3, 37, 29), (1, 5, 200, 201), (5, 4, 3, 2)])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e9])
def test_it_agrees_with_the_exact_comparison(shape: tuple[int, ...], scale: float) -> None:
    value, other, own = arrays(shape, scale)
    (exact,) = ratios([deviation(other, value)], [own], unit=UNIT)
    quick = quick_ratio(other, value, Floors.of(own, UNIT))
    assert quick is not None
    # a difference and its square in float32: relative 2^-24 each, summed over blocks of 2^15 in lanes of eight
    assert quick.rms == pytest.approx(exact.rms, rel=1e-4)
    assert quick.peak == pytest.approx(exact.peak, rel=1e-6)
    assert quick.floor == pytest.approx(exact.floor, rel=1e-12)


def test_the_small_part_counts_where_it_is_worse() -> None:
    value, other, own = arrays((64, 33))
    value[::2] *= 1e5
    other = value.copy()
    small = SmallPart(50.0, 0, own)
    places = small.places(value)
    other[places] *= np.float32(1 + 1e-4)
    fine = deviation((value * np.float32(1 + 1e-6))[places], value[places])
    small = SmallPart(50.0, int(places.sum()), fine)
    floors = Floors.of(deviation(value, value), UNIT)
    whole = quick_ratio(other, value, floors)
    parted = quick_ratio(other, value, floors, (small, Floors.of(fine, UNIT)))
    assert whole is not None
    assert parted is not None
    (expected,) = ratios([deviation(other[places], value[places])], [fine], unit=UNIT)
    assert parted.rms == pytest.approx(expected.rms, rel=1e-4)
    assert parted.rms > 8 * whole.rms, "large elements hide the error of the small ones"


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_left_to_the_exact_comparison(odd: float) -> None:
    value, other, own = arrays((64, 33))
    other[3, 4] = odd
    assert quick_ratio(other, value, Floors.of(own, UNIT)) is None


@pytest.mark.parametrize("mask", [np.nan, np.inf, -np.inf, np.finfo(np.float32).min])
def test_masks_are_left_out_where_both_have_them(mask: float) -> None:
    value, other, _ = arrays((64, 33))
    value[::3], other[::3] = mask, mask
    own = deviation(np.where(abs(value) < 100, value * np.float32(1 + 2e-7), value), value)
    (exact,) = ratios([deviation(other, value)], [own], unit=UNIT)
    quick = quick_ratio(other, value, Floors.of(own, UNIT))
    assert quick is not None
    assert quick.rms == pytest.approx(exact.rms, rel=1e-4)
    assert quick.peak == pytest.approx(exact.peak, rel=1e-6)
    other[3, 4] = 1.0
    assert quick_ratio(other, value, Floors.of(own, UNIT)) is None


def test_tiny_floors_are_left_to_the_exact_comparison() -> None:
    value, other, own = arrays((64, 33), scale=1e-30)
    assert quick_ratio(other, value, Floors.of(own, UNIT)) is None, "its squares are zero in float32"

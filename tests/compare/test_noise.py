from __future__ import annotations

import numpy as np
import pytest

from regraft.compare.deviation import Deviation, deviation
from regraft.compare.noise import least_floor, ratios, smallest_normal, unit_roundoff

UNIT = unit_roundoff("float32")


def rounded(seed: int, size: int = 4000) -> tuple[Deviation, np.ndarray]:
    """A sum of many terms in float32 against float64: a floor with an error that accumulates."""
    random = np.random.default_rng(seed)
    terms = random.normal(size=(64, size))
    exact = terms.sum(axis=0)
    total = np.zeros(size, dtype=np.float32)
    for term in terms:
        total += term.astype(np.float32)
    return deviation(total, exact), exact


def test_the_reference_itself_is_one_floor_away_from_exact() -> None:
    own, _ = rounded(0)
    (found,) = ratios([own], [own], unit=UNIT)
    assert found.rms == pytest.approx(1.0)
    assert found.peak == pytest.approx(1.0)


def test_another_order_of_summation_stays_within_a_few_floors_and_a_fault_does_not() -> None:
    own, exact = rounded(0)
    again = exact.astype(np.float32)
    (benign,) = ratios([deviation(again, exact)], [own], unit=UNIT)
    (fault,) = ratios([deviation((exact * (1 + 3e-5)).astype(np.float32), exact)], [own], unit=UNIT)
    assert benign.rms < 2
    assert fault.rms > 30


def test_equal_bits_are_zero_floors() -> None:
    exact = np.arange(100.0)
    (found,) = ratios([deviation(exact, exact)], [deviation(exact, exact)], unit=UNIT)
    assert (found.rms, found.peak) == (0.0, 0.0)


def test_a_floor_is_never_zero() -> None:
    exact = np.arange(1.0, 101.0)
    off = exact * (1 + 2 * UNIT)
    (found,) = ratios([deviation(off, exact)], [deviation(exact, exact)], unit=UNIT)
    assert found.rms == pytest.approx(2, rel=1e-3)
    assert found.floor == pytest.approx(UNIT * np.sqrt((exact**2).mean()))


def test_an_output_that_is_exact_by_chance_takes_the_floor_of_the_others() -> None:
    exact = np.array([1.0])
    usual, lucky = deviation(exact * (1 + 1e-6), exact), deviation(exact, exact)
    own = [usual, usual, lucky]
    found = ratios([usual] * 3, own, unit=UNIT)
    assert found[2].rms == pytest.approx(1.0, rel=1e-6)


def test_one_bad_channel_shows_at_the_peak_though_the_others_drown_it() -> None:
    random = np.random.default_rng(0)
    exact = random.normal(size=(500, 64))
    exact[:, 0] *= 1e4
    own = exact * (1 + 1e-7 * random.normal(size=exact.shape))
    faulty = exact * (1 + 1e-7 * random.normal(size=exact.shape))
    faulty[:, 5] += 1e-4
    (found,) = ratios([deviation(faulty, exact)], [deviation(own, exact)], unit=UNIT)
    assert found.rms < 2
    assert found.peak > 50


def test_an_output_that_is_zero_throughout_takes_its_scale_from_the_other_feeds() -> None:
    """A sigmoid in another kernel says 1e-10 where this one says 0: less than a unit of what it says elsewhere."""
    own, _ = rounded(0)
    nothing = np.zeros(200)
    silent = deviation(nothing, nothing)
    quiet, loud = (deviation(np.full(200, value), nothing) for value in (1e-10, 1e-3))
    small, large = (ratios([own, one], [own, silent], unit=UNIT)[1] for one in (quiet, loud))
    assert small.rms < 1
    assert small.peak < 1
    assert large.rms > 30


def test_probabilities_are_exact_to_a_part_of_one_and_other_small_numbers_to_a_part_of_themselves() -> None:
    exact = np.full((4, 200), 2e-9)
    rounded_off = deviation(np.zeros((4, 200)), exact)
    own = deviation(exact.astype(np.float32), exact)
    (of_one,) = ratios([rounded_off], [own], unit=UNIT, smallest=least_floor([own], "float32"))
    assert of_one.rms < 1
    assert of_one.peak < 1
    mixed = deviation(-exact.astype(np.float32), -exact)
    assert least_floor([own, mixed], "float32") == smallest_normal("float32")
    (by_itself,) = ratios([rounded_off], [own], unit=UNIT)
    assert by_itself.rms > 1e6


def test_float16_has_larger_smallest_numbers() -> None:
    assert smallest_normal("float16") == np.finfo(np.float16).tiny
    assert smallest_normal("bfloat16") == smallest_normal("float32") == np.finfo(np.float32).tiny


def test_lengths_must_agree() -> None:
    own, _ = rounded(0)
    with pytest.raises(ValueError, match="argument 2"):
        ratios([own], [own, own], unit=UNIT)

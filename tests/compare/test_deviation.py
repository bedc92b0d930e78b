from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regraft.compare.deviation import deviation


@given(st.integers(1, 40), st.integers(1, 70), st.integers(0, 99))
def test_statistics_are_those_of_numpy_whatever_the_shape(rows: int, columns: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    exact = random.normal(size=(rows, columns))
    measured = (exact + 1e-3 * random.normal(size=exact.shape)).astype(np.float32)
    error = measured.astype(np.float64) - exact
    found = deviation(measured, exact)
    assert found.n == exact.size
    assert found.rms == pytest.approx(np.sqrt((error**2).mean()), rel=1e-12)
    assert found.peak == pytest.approx(np.abs(error).max(), rel=1e-12)
    assert found.scale_rms == pytest.approx(np.sqrt((exact**2).mean()), rel=1e-12)


def test_blocks_give_what_one_pass_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    exact = random.normal(size=(4, 100, 8))
    measured = exact + random.normal(size=exact.shape)
    whole = deviation(measured, exact)
    monkeypatch.setattr("regraft.compare.deviation.BLOCK_ELEMENTS", 50)
    pieces = deviation(measured, exact)
    assert pieces.peaks == whole.peaks
    assert pieces.rms == pytest.approx(whole.rms, rel=1e-12)


def test_channels_are_kept_apart_only_where_each_has_enough_values() -> None:
    assert len(deviation(np.zeros((2, 64, 5)), np.ones((2, 64, 5))).peaks) == 5
    assert len(deviation(np.zeros((2, 3, 8, 8)), np.ones((2, 3, 8, 8))).peaks) == 3
    assert len(deviation(np.zeros((2, 5)), np.ones((2, 5))).peaks) == 1


def test_masks_are_no_results_and_what_is_not_finite_must_be_so_in_both() -> None:
    exact = np.array([1.0, -1e308, -np.inf, np.nan, 2.0])
    assert deviation(np.array([1.0, -3e38, -3e38, np.nan, 2.0]), exact).incomparable == 0
    assert deviation(np.array([np.nan, -3e38, -3e38, np.nan, np.inf]), exact).incomparable == 2
    assert deviation(np.array([1.0, 3e38, 0.0, 0.0, 2.0]), exact).incomparable == 3


def test_integers_and_booleans_are_counted() -> None:
    assert deviation(np.array([1, 2, 3]), np.array([1, 5, 3])).flips == 1
    assert deviation(np.array([True, False]), np.array([True, True])).flips == 1


def test_other_shapes_are_an_error() -> None:
    with pytest.raises(ValueError, match="shapes"):
        deviation(np.zeros(3), np.zeros(4))


def test_an_empty_tensor_has_no_deviation() -> None:
    found = deviation(np.zeros((0, 4)), np.zeros((0, 4)))
    assert (found.n, found.rms, found.peak) == (0, 0.0, 0.0)

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from regraft.compare.binomial import cumulated, mcnemar, paired_difference, share

EXACT = 1e-9
"""Both sides sum the same terms in float64; bisection ends within 2^-60."""


@pytest.mark.parametrize(("events", "n"), [(0, 1), (1, 1), (0, 32), (31, 400), (20, 32), (32, 32), (500, 1000)])
def test_the_interval_is_the_one_of_clopper_and_pearson(events: int, n: int) -> None:
    found = share(events, n)
    theirs = binomtest(events, n).proportion_ci(method="exact")
    assert (found.low, found.high) == (pytest.approx(theirs.low, abs=EXACT), pytest.approx(theirs.high, abs=EXACT))
    assert found.value == events / n


@pytest.mark.parametrize(("first", "second"), [(0, 0), (1, 0), (5, 5), (23, 8), (40, 2), (400, 350)])
def test_mcnemar_is_the_exact_binomial_test(first: int, second: int) -> None:
    theirs = binomtest(first, first + second).pvalue if first + second else 1.0
    assert mcnemar(first, second) == pytest.approx(theirs, abs=EXACT)


def test_the_distribution_function_does_not_underflow() -> None:
    for k in (0, 10, 4990, 5000):
        assert cumulated(k, 10_000, 0.5) == pytest.approx(binom.cdf(k, 10_000, 0.5), rel=1e-6, abs=1e-300)


def test_the_paired_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    drop, n, times = 0.03, 300, 2000
    drawn = random.multinomial(n, [0.07, 0.04, 0.89], size=times)
    intervals = [paired_difference(int(first), int(second), n) for first, second, _ in drawn]
    covered = np.mean([one.low <= drop <= one.high for one in intervals])
    assert 0.935 < covered < 0.975  # three standard errors of 2000 draws at 95 % are 1.5 points


def test_no_trials_are_no_share() -> None:
    with pytest.raises(ValueError, match="no share"):
        share(0, 0)
    with pytest.raises(ValueError, match="no share"):
        share(3, 2)

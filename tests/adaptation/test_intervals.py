from __future__ import annotations

import numpy as np
import pytest

from regraft.adaptation.intervals import calibration_error, corrected_interval, paired, wilson


def test_wilson_agrees_with_published_values() -> None:
    # Newcombe (1998), Statistics in Medicine 17, table I: 81 of 263 → 0.2553 to 0.3662
    found = wilson(81, 263)
    assert (round(found.low, 4), round(found.high, 4)) == (0.2553, 0.3662)
    assert wilson(0, 20).low == 0
    assert wilson(20, 20).high == pytest.approx(1)


def test_mcnemar_is_the_exact_binomial() -> None:
    one = np.array([True] * 9 + [False] * 2 + [True] * 50)
    other = np.array([False] * 9 + [True] * 2 + [True] * 50)
    found = paired(one, other)
    # two-sided: 2 * sum of C(11, k), k ≤ 2, over 2^11
    assert found.p_value == pytest.approx(2 * (1 + 11 + 55) / 2**11)
    assert (found.only_first, found.only_second) == (9, 2)
    assert found.difference.value == pytest.approx(7 / 61)
    assert paired(one, one).p_value == 1


def test_corrected_interval_covers_where_the_plain_one_does_not() -> None:
    """Cross-validated scores share training rows, so the plain interval is far too narrow."""
    from sklearn.linear_model import RidgeClassifier
    from sklearn.model_selection import RepeatedStratifiedKFold

    rng = np.random.default_rng(0)
    weight = rng.normal(size=8)
    test_x = rng.normal(size=(4000, 8))
    test_y = rng.random(4000) < 1 / (1 + np.exp(-test_x @ weight))
    covered, plain = 0, 0
    for trial in range(40):
        x = rng.normal(size=(80, 8))
        y = rng.random(80) < 1 / (1 + np.exp(-x @ weight))
        truth = RidgeClassifier().fit(x, y).score(test_x, test_y)
        folds = RepeatedStratifiedKFold(n_splits=5, n_repeats=2, random_state=trial)
        scores = np.array([RidgeClassifier().fit(x[a], y[a]).score(x[b], y[b]) for a, b in folds.split(x, y)])
        wide, narrow = corrected_interval(scores, test_share=0.25), corrected_interval(scores, test_share=0.0)
        covered += wide.low <= truth <= wide.high
        plain += narrow.low <= truth <= narrow.high
    assert covered >= 34  # 95 % of 40 is 38; 34 or fewer has a chance of 5 %
    assert covered > plain


def test_calibration_error_of_known_cases() -> None:
    sure = np.array([[0.9, 0.1]] * 10)
    right = np.array([True] * 9 + [False])
    assert calibration_error(sure, right) == pytest.approx(0)
    assert calibration_error(sure, ~right) == pytest.approx(0.8)

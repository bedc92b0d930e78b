from __future__ import annotations

import numpy as np
import pytest

from regraft.adaptation.learning_curve import Curve, catch_up, learning_curve, usable_sizes
from regraft.adaptation.probe import logistic_probe


def curve(sizes: tuple[int, ...], accuracies: tuple[float, ...], *, rows: int = 4000, shift: int = 0) -> Curve:
    right = np.zeros((len(sizes), 3, rows), dtype=bool)
    for s, accuracy in enumerate(accuracies):
        right[s, :, : round(accuracy * rows)] = True
    return Curve("x", sizes, np.roll(right, shift, axis=2))


def test_catching_up_is_interpolated_in_the_logarithm() -> None:
    sizes = (100, 1000, 10000)
    ahead = curve(sizes, (0.6, 0.75, 0.8))
    behind = curve(sizes, (0.5, 0.7, 0.8))
    found = catch_up(behind, ahead, labels=1000)
    assert found.labels == pytest.approx(1000 * 10**0.5, abs=1)  # half way from .7 to .8
    assert found.low is not None
    assert found.low <= found.labels


def test_never_reached_is_more_than_the_most() -> None:
    ahead, behind = curve((100, 1000), (0.7, 0.9)), curve((100, 1000), (0.5, 0.6))
    found = catch_up(behind, ahead, labels=1000)
    assert (found.labels, found.low, found.high, found.most) == (None, None, None, 1000)
    assert catch_up(ahead, behind, labels=1000).labels == 100


def test_the_interval_says_how_unsure_the_crossing_is() -> None:
    """With few held-out rows the interval is wide, with many it is narrow."""
    sizes, low, high = (100, 1000, 10000), (0.5, 0.68, 0.8), (0.6, 0.74, 0.8)
    few = catch_up(curve(sizes, low, rows=200, shift=70), curve(sizes, high, rows=200), labels=1000)
    many = catch_up(curve(sizes, low, rows=20000, shift=7000), curve(sizes, high, rows=20000), labels=1000)
    assert few.low is not None
    assert many.low is not None
    assert many.high is not None
    assert few.low < many.low
    assert few.high is None or few.high > many.high


def test_accuracy_grows_with_labels_on_the_same_draws() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(700, 30)).astype(np.float32)
    labels = (features[:, 0] + 0.5 * rng.normal(size=700) > 0).astype(np.int64)
    where = {"pool": np.arange(400), "held_out": np.arange(400, 700), "sizes": (20, 400), "seed": 0}
    found = learning_curve(logistic_probe(), features, labels, **where)
    small, large = found.accuracies().mean(axis=1)
    assert large > small + 0.05
    assert (found.right == learning_curve(logistic_probe(), features, labels, **where).right).all()


def test_sizes_that_the_pool_does_not_allow_are_left_out() -> None:
    labels = np.array([0] * 900 + [1] * 100)
    assert usable_sizes((20, 100, 500, 5000), labels, learn=200) == (100, 200, 500)

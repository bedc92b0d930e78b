"""Metrics against values worked out by hand, and intervals that respect groups."""

from __future__ import annotations

import numpy as np
import pytest

from regraft.conceptual.evaluation.interface import Scores
from regraft.conceptual.metrics import METRICS, baseline, evaluate, resampled
from regraft.errors import Unsupported


def scores(targets: list[float], given: list[float], groups: list[int] | None = None) -> Scores:
    values = np.array(given, dtype=float)
    decisions = (values >= 0.5).astype(int)
    return Scores(np.array(targets), values, decisions, np.array(groups or range(len(given))), "items")


def test_values_worked_out_by_hand() -> None:
    four = scores([0, 0, 1, 1], [0.1, 0.6, 0.4, 0.9])
    assert evaluate("roc_auc", four) == 0.75  # three of four pairs in order
    assert evaluate("accuracy", four) == 0.5
    assert evaluate("f1", four) == 0.5  # precision and recall 1/2
    assert evaluate("spearman", scores([1, 2, 3], [10, 30, 20])) == pytest.approx(0.5)
    assert evaluate("pearson", scores([1, 2, 3], [2, 4, 6])) == pytest.approx(1.0)


def test_trivial_baselines() -> None:
    skewed = scores([0, 1, 1, 1], [0.1, 0.6, 0.4, 0.9])
    assert baseline("accuracy", skewed) == 0.75
    assert baseline("f1", skewed) == pytest.approx(6 / 7)
    assert baseline("roc_auc", skewed) == 0.5


@pytest.mark.parametrize("metric", ["roc_auc", "spearman", "pearson"])
def test_what_is_not_defined_is_told(metric: str) -> None:
    with pytest.raises(Unsupported):
        evaluate(metric, scores([1, 1, 1], [0.1, 0.2, 0.3]))
    with pytest.raises(Unsupported):
        evaluate(metric, scores([0, 1, 1], [0.3, 0.3, 0.3]))


def test_an_interval_holds_its_value_and_items_that_depend_widen_it() -> None:
    random = np.random.default_rng(0)
    targets = np.repeat(random.integers(0, 2, 40), 10)
    noise = np.repeat(random.normal(0, 0.6, 40), 10)
    given = targets + noise
    alone = Scores(targets, given, (given >= 0.5).astype(int), np.arange(400), "items")
    together = Scores(targets, given, alone.decisions, np.repeat(np.arange(40), 10), "items")
    for metric in METRICS:
        value = evaluate(metric, alone)
        narrow, wide = (resampled(metric, one, seed=1, resamples=200) for one in (alone, together))
        assert narrow.low <= value <= narrow.high
        assert wide.high - wide.low > narrow.high - narrow.low, "400 copies of 40 items are 40 items"
        assert (narrow.n, wide.n) == (400, 40)
    assert resampled("accuracy", alone, seed=3, resamples=50) == resampled("accuracy", alone, seed=3, resamples=50)


def test_one_unit_has_no_interval() -> None:
    with pytest.raises(Unsupported):
        resampled("accuracy", scores([0, 1], [0.1, 0.9], [7, 7]), seed=0)

from __future__ import annotations

import numpy as np
import pytest

from regraft.compare.decisions import decisions
from regraft.compare.deviation import deviation
from regraft.compare.judge import Judgement, Threshold, judge, threshold
from regraft.compare.measure import Answer, OutputSeries, measured
from regraft.errors import Unsupported
from regraft.runtime.interface import Signature

EXACT = np.random.default_rng(0).normal(size=(64, 40))
OWN = EXACT * (1 + 1e-7 * np.random.default_rng(1).normal(size=EXACT.shape))


def series(factor: float) -> OutputSeries:
    theirs = EXACT + factor * (OWN - EXACT)
    return OutputSeries("y", [deviation(theirs, EXACT)], {"float32": [deviation(OWN, EXACT)]}, [], [0])


def limits() -> Threshold:
    return threshold("float64", "float32")


@pytest.mark.parametrize(
    ("method", "precision", "cases", "share"),
    [
        ("float64", "float32", 300, 0.01),
        ("float64", "bfloat16", 100, 0.05),
        ("float64", "float16", 50, 0.05),
        ("float64", "tensorfloat32", 10, 0.2),
        ("jitter", "float32", 200, 0.05),
    ],
)
def test_published_thresholds_are_measured_and_ordered(method: str, precision: str, cases: int, share: float) -> None:
    one = threshold(method, precision)
    assert 1 < one.benign_rms < one.fault_rms
    assert 1 < one.benign_peak < one.fault_peak
    assert one.benign_cases >= cases
    assert one.architectures >= 8
    assert one.false_alarm_bound < share
    assert 0 < one.false_alarm_bound < one.false_alarm_bound_by_architecture < 1


def test_a_divergence_is_judged_by_where_it_lies() -> None:
    one = limits()
    assert judge(series(0.9 * min(one.benign_rms, one.benign_peak)), one).judgement is Judgement.WITHIN
    assert judge(series(1.05 * max(one.benign_rms, one.benign_peak)), one).judgement is Judgement.UNDECIDED
    assert judge(series(1.1 * max(one.fault_rms, one.fault_peak)), one).judgement is Judgement.BEYOND


def test_nothing_is_within_when_values_are_lost() -> None:
    theirs = EXACT.copy()
    theirs[3, 3] = np.nan
    one = OutputSeries("y", [deviation(theirs, EXACT)], {"float32": [deviation(OWN, EXACT)]}, [], [0])
    assert judge(one, limits()).judgement is Judgement.BEYOND


def test_an_integer_flip_counts_unless_it_is_excused() -> None:
    flip = deviation(np.array([1, 2, 3]), np.array([1, 2, 4]))
    same = deviation(np.array([1, 2, 3]), np.array([1, 2, 3]))
    own = {"float32": [same]}
    assert judge(OutputSeries("y", [flip], own, [], [0]), limits()).judgement is Judgement.BEYOND
    assert judge(OutputSeries("y", [flip], own, [], [1]), limits()).judgement is Judgement.WITHIN


def test_what_was_not_calibrated_is_not_judged() -> None:
    with pytest.raises(Unsupported, match="no thresholds"):
        threshold("jitter", "float16")


def test_a_decision_is_excused_only_within_the_floor() -> None:
    own = [deviation(np.array([[1.0, 1.0 + 1e-6]]), np.array([[1.0, 1.0]]))]
    reference = np.array([[1.0, 1.0 - 1e-6], [1.0, 0.0], [0.0, 1.0]])
    candidate = np.array([[1.0, 1.0 + 1e-6], [0.0, 1.0], [0.0, 1.0]])
    found = decisions(candidate, reference, own=own)
    assert found is not None
    assert (found.n, found.flips, found.excused) == (3, 2, 1)
    assert decisions(np.zeros((2, 3, 4)), np.zeros((2, 3, 4)), own=own) is None
    assert decisions(np.zeros((2, 1)), np.zeros((2, 1)), own=own) is None


def test_a_lost_number_is_excused_only_where_the_reference_loses_it_too() -> None:
    """Another place is a fault, though as many numbers are lost."""
    exact = EXACT.copy()
    own = OWN.copy()
    own[2, 2] = np.nan
    for place, wanted in (((2, 2), Judgement.WITHIN), ((3, 3), Judgement.BEYOND)):
        theirs = OWN.copy()
        theirs[place] = np.nan
        answer = Answer({"y": exact}, {"float32": {"y": deviation(own, exact)}}, {"y": ~np.isfinite(own)})
        (series,) = measured([answer], Said(theirs), [{}], inputs={}, outputs={"y": "y"})
        assert judge(series, limits()).judgement is wanted


class Said:
    """A model that has one answer."""

    where = "candidate"
    signature = Signature((), ())

    def __init__(self, value: np.ndarray) -> None:
        self.value = value

    def __call__(self, feeds: object) -> dict[str, np.ndarray]:
        return {"y": self.value}

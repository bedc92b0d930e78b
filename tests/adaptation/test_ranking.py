from __future__ import annotations

import numpy as np

from regraft.adaptation.intervals import Interval, wilson
from regraft.adaptation.probe import CrossValidated
from regraft.adaptation.ranking import Competitor, rank, regret, tie_groups


def competitor(name: str, scores: list[float], right: int, *, is_baseline: bool = False) -> Competitor:
    folds = np.array(scores)
    hits = np.arange(100) < right
    value = Interval(float(folds.mean()), 0, 1, len(folds))
    return Competitor(name, "probe", is_baseline, CrossValidated(folds, ()), value, wilson(right, 100), hits)


WOBBLE = [0.02, -0.02, 0.01, -0.01, 0.03, -0.03, 0.02, -0.02, 0.01, -0.01]


def test_what_cannot_be_told_apart_is_a_tie() -> None:
    first = competitor("first", [0.8 + w for w in WOBBLE], 80)
    near = competitor("near", [0.795 - w for w in WOBBLE], 81)
    far = competitor("far", [0.6 + w for w in WOBBLE], 60)
    found = rank([far, near, first])
    assert found.groups == (("first", "near"), ("far",))
    assert found.group("far") == 2
    assert found.behind["near"].low < 0 < found.behind["near"].high
    assert found.behind["far"].low > 0


def test_a_steady_small_lead_counts() -> None:
    """The comparison is paired: folds that are hard for both say nothing about which is better."""
    hard = np.linspace(0.5, 0.9, 10)
    found = rank([competitor("a", [*(hard + 0.02)], 80), competitor("b", [*hard], 78)])
    assert found.groups == (("a",), ("b",))


def test_regret_is_against_the_best_candidate_not_a_baseline() -> None:
    found = rank([
        competitor("chosen", [0.8 + w for w in WOBBLE], 78),
        competitor("missed", [0.79 - w for w in WOBBLE], 82),
        competitor("words", [0.5 + w for w in WOBBLE], 90, is_baseline=True),
    ])  # fmt: skip
    best, difference = regret(found, "chosen")
    assert best == "missed"
    assert difference.difference.value == 0.04


def test_groups_partition_the_names() -> None:
    scores = {"a": 9, "b": 8, "c": 5, "d": 4, "e": 1}
    groups = tie_groups([*scores], lambda one, other: scores[one] - scores[other] > 2)
    assert groups == [["a", "b"], ["c", "d"], ["e"]]

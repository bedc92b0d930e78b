"""Ranking: the same folds for every competitor, paired differences, and ties shown as ties."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from regraft.adaptation.intervals import Interval, Paired, corrected_interval, paired, wilson
from regraft.adaptation.probe import (
    CrossValidated,
    Method,
    chosen_strength,
    cross_validated,
    fit,
    folds_share,
    logistic_probe,
    majority,
    nearest_neighbours,
    predict,
    raw_baseline,
    raw_inputs,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from regraft.adaptation.data import LabelledData
    from regraft.adaptation.features import Features
    from regraft.adaptation.probe import Inputs
    from regraft.adaptation.splits import Split


class Competitor(msgspec.Struct, frozen=True):
    """A candidate with its probe, or a trivial baseline.

    Attributes:
        method: `probe`, `TF-IDF`, `raw pixels` or `majority class`.
        folds: (J,) accuracies of the probe in cross-validation on the learning rows, and their interval.
        neighbours: k-NN on the same folds; None for baselines.
        right: (H,) which held-out rows the probe got right after learning from all learning rows.
    """

    name: str
    method: str
    is_baseline: bool
    folds: CrossValidated
    accuracy: Interval
    held_out: Interval
    right: NDArray[np.bool_]
    neighbours: Interval | None = None


class Ranking(msgspec.Struct, frozen=True):
    """Competitors, best first by cross-validation.

    Attributes:
        groups: names in tie groups: nobody in a group is shown to be worse than its first.
        behind: name → how far it is behind the first of all, in cross-validation, at the joint confidence.
    """

    competitors: tuple[Competitor, ...]
    groups: tuple[tuple[str, ...], ...]
    behind: dict[str, Interval]

    def named(self, name: str) -> Competitor:
        """The competitor of a name."""
        return next(one for one in self.competitors if one.name == name)

    def group(self, name: str) -> int:
        """Number of the tie group that a name is in, from 1."""
        return next(number for number, group in enumerate(self.groups, start=1) if name in group)


def baselines(data: LabelledData, split: Split, *, seed: int) -> list[Competitor]:
    """The majority class, and logistic regression on the raw input."""
    inputs = raw_inputs(data)
    found = []
    for method in (raw_baseline(data), majority()):
        learn, held_out = inputs[split.learn], inputs[split.held_out]
        found.append(_competitor(method.name, method, learn, held_out, data, split, seed=seed, is_baseline=True))
    return found


def competitor(name: str, features: Features, data: LabelledData, split: Split, *, seed: int) -> Competitor:
    """A candidate by its features of the learning rows, then the held-out rows."""
    count = len(split.learn)
    learn, held_out = features.vectors[:count], features.vectors[count:]
    return _competitor(name, logistic_probe(), learn, held_out, data, split, seed=seed, is_baseline=False)


def _competitor(
    name: str,
    method: Method,
    learn: Inputs,
    held_out: Inputs,
    data: LabelledData,
    split: Split,
    *,
    seed: int,
    is_baseline: bool,
) -> Competitor:
    labels, truth = data.labels[split.learn], data.labels[split.held_out]
    folds = cross_validated(method, learn, labels, seed=seed, label=f"{method.name}: {name}")
    fitted = fit(method, learn, labels, chosen_strength(method, learn, labels, seed=seed))
    right = predict(fitted, held_out) == truth
    neighbours = None
    if not is_baseline:
        nearest = cross_validated(nearest_neighbours(len(labels)), learn, labels, seed=seed)
        neighbours = corrected_interval(nearest.scores, test_share=folds_share(), bounded=True)
    return Competitor(
        name,
        method.name,
        is_baseline,
        folds,
        corrected_interval(folds.scores, test_share=folds_share(), bounded=True),
        wilson(int(right.sum()), len(right)),
        right,
        neighbours,
    )


def rank(competitors: Sequence[Competitor]) -> Ranking:
    """Order by mean accuracy in cross-validation, then group what cannot be told apart.

    One leads another when the interval of their fold-by-fold difference excludes zero, at 95 % over all comparisons
    with the leader (Bonferroni).
    """
    ordered = sorted(competitors, key=lambda one: (-one.accuracy.value, one.name))
    by_name = {one.name: one for one in ordered}
    comparisons = max(1, len(ordered) - 1)

    def difference(one: str, other: str) -> Interval:
        gap = by_name[one].folds.scores - by_name[other].folds.scores
        return corrected_interval(gap, test_share=folds_share(), comparisons=comparisons)

    groups = tie_groups([one.name for one in ordered], lambda one, other: difference(one, other).low > 0)
    first = ordered[0].name
    behind = {one.name: difference(first, one.name) for one in ordered[1:]}
    return Ranking(tuple(ordered), tuple(map(tuple, groups)), behind)


def regret(ranking: Ranking, chosen: str) -> tuple[str, Paired]:
    """How much better the best candidate on the held-out rows would have been, and its name.

    The best of several on the same rows looks better than it is, so this is an upper estimate.
    """
    candidates = [one for one in ranking.competitors if not one.is_baseline]
    best = max(candidates, key=lambda one: (one.held_out.value, one.name == chosen))
    return best.name, paired(best.right, ranking.named(chosen).right)


def tie_groups(names: Sequence[str], leads: Callable[[str, str], bool]) -> list[list[str]]:
    """Names, best first, in groups whose members the leader is not shown to beat.

    Args:
        names: in order of their scores.
        leads: whether the first is shown to be better than the second.
    """
    waiting, groups = list(names), []
    while waiting:
        leader = waiting[0]
        group = [leader, *(name for name in waiting[1:] if not leads(leader, name))]
        groups.append(group)
        waiting = [name for name in waiting if name not in group]
    return groups

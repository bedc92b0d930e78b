"""Hypotheses about a loss over classes: what each label's part of the derivative says."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from regraft.conceptual.stages.loss_causes import LossCase, LossQuestion, Named, applied, labels_of

if TYPE_CHECKING:
    from regraft.conceptual.stages.interface import Array

_NOTHING = 1e-12
"""Derivatives below this part of the largest are none."""


def by_label(question: LossQuestion) -> Iterator[Named]:
    """Weights of classes, ignored labels and label smoothing."""
    ours, theirs = question.both()
    rows = [
        _Rows(case, _only(one.gradients), _only(other.gradients))
        for case, one, other in zip(question.cases, ours, theirs, strict=True)
        if labels_of(case) is not None and one.gradients and other.gradients
    ]
    if len(rows) < len(question.cases):
        yield from _binary(question)
        return
    yield from _ignored(rows)
    yield from _relabelled(rows)
    yield from _weighted(rows, question.tolerance)
    yield from _smoothed(rows, question.tolerance)


class _Rows:
    """Derivatives of one case, a row a label.

    Attributes:
        labels: (N,)
        ours, theirs: (N, K) derivatives.
        probabilities: (N, K) softmax of the outputs.
    """

    def __init__(self, case: LossCase, ours: Array, theirs: Array) -> None:
        import numpy as np

        found = labels_of(case)
        assert found is not None
        labels, axis = found
        output = next(iter(case.outputs.values()))
        self.labels = labels.reshape(-1)
        self.ours, self.theirs, self.probabilities = (
            np.moveaxis(value, axis, -1).reshape(-1, value.shape[axis])
            for value in (ours, theirs, applied("softmax", output, axis))
        )

    @property
    def counted(self) -> tuple[Array, Array]:
        """Which rows have a derivative, in the reference and in the candidate."""
        import numpy as np

        sizes = [np.abs(value).max(axis=1) for value in (self.ours, self.theirs)]
        one, other = (size > _NOTHING * size.max(initial=0.0) for size in sizes)
        return one, other

    def one_hot(self) -> Array:
        """(N, K) 1 at each label; rows of labels that are no classes are 0."""
        import numpy as np

        made = np.zeros(self.ours.shape)
        is_class = (self.labels >= 0) & (self.labels < made.shape[1])
        made[np.flatnonzero(is_class), self.labels[is_class]] = 1.0
        return made


def _only(gradients: dict[str, Array]) -> Array:
    return next(iter(gradients.values()))


def _ignored(rows: Sequence[_Rows]) -> Iterator[Named]:
    import numpy as np

    labels: dict[str, set[int]] = {"reference": set(), "candidate": set()}
    kept: set[int] = set()
    for one in rows:
        ours, theirs = one.counted
        labels["reference"] |= set(np.unique(one.labels[~ours & theirs]).tolist())
        labels["candidate"] |= set(np.unique(one.labels[ours & ~theirs]).tolist())
        kept |= set(np.unique(one.labels[ours & theirs]).tolist())
    for side, other in (("reference", "candidate"), ("candidate", "reference")):
        if len(labels[side]) == 1 and not labels[side] & kept:
            label = labels[side].pop()
            yield Named(
                "ignore_index",
                f"the {side} ignores the label {label}, the {other} does not",
                f"ignore_index={label}" if side == "reference" else "ignore no label",
            )


def _relabelled(rows: Sequence[_Rows]) -> Iterator[Named]:
    """Each label of the reference is another one in the candidate: the class whose derivative alone is negative."""
    import numpy as np

    taken: dict[int, set[int]] = {}
    for one in rows:
        ours, theirs = one.counted
        both = ours & theirs
        for gradient in (one.ours[both], one.theirs[both]):
            if not ((gradient < 0).sum(axis=1) == 1).all():
                return
        for mine, their in zip(
            np.argmin(one.ours[both], 1).tolist(), np.argmin(one.theirs[both], 1).tolist(), strict=True
        ):
            taken.setdefault(mine, set()).add(their)
    if any(len(found) > 1 for found in taken.values()):
        return
    moved = {mine: next(iter(found)) for mine, found in sorted(taken.items()) if found != {mine}}
    if moved:
        told = ", ".join(f"{mine} → {their}" for mine, their in list(moved.items())[:8])
        yield Named(
            "labels", f"the candidate takes other classes for the labels: {told}", "use the same order of labels"
        )


def _weighted(rows: Sequence[_Rows], tolerance: float) -> Iterator[Named]:
    """Rows of the candidate that are those of the reference times a weight of the label."""
    import numpy as np

    weights: dict[int, list[float]] = {}
    for one in sorted(rows, key=lambda one: -len(set(one.labels.tolist()))):
        ours, theirs = one.counted
        if (ours != theirs).any():
            return
        factors = (one.theirs[ours] * one.ours[ours]).sum(1) / np.square(one.ours[ours]).sum(1)
        scaled = one.ours[ours] * factors[:, None]
        if np.abs(scaled - one.theirs[ours]).max(initial=0.0) > tolerance * 10 * np.abs(scaled).max(initial=0.0):
            return
        labels = one.labels[ours]
        known = [label for label in labels.tolist() if label in weights]
        anchor = factors[0]
        if known:  # each case is divided by a number of its own
            anchor = factors[labels == known[0]][0] / weights[known[0]][0]
        for label, factor in zip(labels.tolist(), (factors / anchor).tolist(), strict=True):
            weights.setdefault(label, []).append(factor)
    if not weights or any(max(found) - min(found) > tolerance * 100 * max(found) for found in weights.values()):
        return
    least = min(found[0] for found in weights.values())
    relative = {label: found[0] / least for label, found in sorted(weights.items())}
    if max(relative.values()) - min(relative.values()) <= tolerance * 100:
        return
    told = ", ".join(f"{label}: {factor:.4g}" for label, factor in list(relative.items())[:8])
    yield Named("class weights", f"the candidate weighs labels, relative to the reference, by {told}", "")


def _smoothed(rows: Sequence[_Rows], tolerance: float) -> Iterator[Named]:
    """Both derivatives are softmax − labels smoothed by some number."""
    sides = [_smoothing(rows, "ours", tolerance), _smoothing(rows, "theirs", tolerance)]
    ours, theirs = sides
    if ours is None or theirs is None or math.isclose(ours, theirs, abs_tol=tolerance * 10):
        return
    classes = rows[0].ours.shape[1]
    ratio = theirs / ours if ours else 0.0
    if math.isclose(ratio, classes / (classes - 1), rel_tol=tolerance * 100):
        where = f"over all {classes} classes in the reference, over the other {classes - 1} in the candidate"
        detail = f"{ours:.4g} spread {where}"
    else:
        detail = f"{ours:.4g} in the reference, {theirs:.4g} in the candidate"
    yield Named("label smoothing", detail, f"label_smoothing={ours:.4g}")


def _smoothing(rows: Sequence[_Rows], side: str, tolerance: float) -> float | None:
    """How far labels are smoothed, when each row is (softmax − smoothed label) times one number a case."""
    import numpy as np

    found = []
    for one in rows:
        ours, theirs = one.counted
        rows_that_count = ours & theirs
        gradient = getattr(one, side)[rows_that_count]
        hot = one.one_hot()[rows_that_count]
        plain = one.probabilities[rows_that_count] - hot  # (N, K)
        spread = hot - 1.0 / hot.shape[1]
        basis = np.stack([plain.reshape(-1), spread.reshape(-1)], axis=1)
        solved, *_ = np.linalg.lstsq(basis, gradient.reshape(-1), rcond=None)
        error = np.abs(basis @ solved - gradient.reshape(-1)).max(initial=0.0)
        if error > tolerance * 10 * np.abs(gradient).max(initial=0.0) or solved[0] == 0:
            return None
        found.append(float(solved[1] / solved[0]))
    if not found or max(found) - min(found) > tolerance * 100:
        return None
    return 0.0 if abs(found[0]) < tolerance * 10 else found[0]


def _binary(question: LossQuestion) -> Iterator[Named]:
    """Targets of 0 and 1 beside each output: a weight of the positive ones."""
    import numpy as np

    ours, theirs = question.both()
    weights: list[tuple[float, float]] = []
    for case, one, other in zip(question.cases, ours, theirs, strict=True):
        targets = next((v for n, v in case.batch.items() if n != "inputs" and set(np.unique(v)) == {0, 1}), None)
        if targets is None or not one.gradients or not other.gradients:
            return
        mine, their = _only(one.gradients).reshape(-1), _only(other.gradients).reshape(-1)
        if targets.size != mine.size or not np.abs(mine).min(initial=1.0) > 0:
            return
        factors = their / mine
        groups = [factors[targets.reshape(-1) == label] for label in (0, 1)]
        if any(np.ptp(group) > question.tolerance * 100 * abs(group[0]) for group in groups):
            return
        weights.append((float(groups[0][0]), float(groups[1][0])))
    relative = [positive / negative for negative, positive in weights]
    if not math.isclose(relative[0], 1.0, rel_tol=question.tolerance * 100):
        yield Named(
            "class weights",
            f"positive targets weigh {relative[0]:.4g} times as much in the candidate as in the reference",
            "",
        )

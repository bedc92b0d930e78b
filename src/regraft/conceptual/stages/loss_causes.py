"""Why two loss functions differ: hypotheses, tried on values and derivatives of both."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from regraft.conceptual.stages.exact import closeness
from regraft.conceptual.stages.interface import Slope

if TYPE_CHECKING:
    from regraft.conceptual.stages.exact import Exact
    from regraft.conceptual.stages.interface import Array, Arrays
    from regraft.conceptual.stages.pairs import Paired

EXACT_TOLERANCE, ROUNDED_TOLERANCE = 1e-6, 1e-4
"""Relative differences up to which a hypothesis holds: float32 constants in float64 code differ by 6e-8."""


class LossCase(msgspec.Struct, frozen=True):
    """Outputs and the batch that they belong to.

    Attributes:
        name: how it is called.
        outputs: output → array.
        batch: what else the loss takes.
        is_probe: outputs that no pass made.
    """

    name: str
    outputs: dict[str, Array]
    batch: Arrays
    is_probe: bool = False


class Named(NamedTuple):
    """A cause, the detail with both values, and what to change."""

    cause: str
    detail: str
    fix: str


class LossQuestion:
    """Both loss functions on all cases, in the reference's names.

    Args:
        paired: both sides.
        cases: what both are asked.
        exact: the reference's answers.
        is_exact: they are in float64.
    """

    def __init__(self, paired: Paired, cases: Sequence[LossCase], exact: Sequence[Exact], is_exact: bool) -> None:
        self.paired = paired
        self.cases = tuple(cases)
        self.dtype = "float64" if is_exact else "float32"
        self.tolerance = EXACT_TOLERANCE if is_exact else ROUNDED_TOLERANCE
        candidate = paired.candidate
        self._own = candidate.outputs(candidate.weights(), candidate.batches[0], dtype="float32")
        self._kept: dict[str, list[Slope]] = {}

    def theirs(self, case: LossCase, dtype: str) -> Slope:
        """The candidate's answer."""
        outputs = self.paired.as_outputs(case.outputs, self._own)
        found = self.paired.candidate.slope(outputs, self.paired.fed(case.batch), dtype=dtype)
        back = {theirs: ours for ours, theirs in zip(case.outputs, outputs, strict=True)}
        return Slope(found.value, {back[name]: value for name, value in found.gradients.items()})

    def both(self) -> tuple[list[Slope], list[Slope]]:
        """Answers of the reference and of the candidate, in the exact precision where there is one."""
        if not self._kept:
            reference = self.paired.reference
            self._kept["ours"] = [reference.slope(one.outputs, one.batch, dtype=self.dtype) for one in self.cases]
            self._kept["theirs"] = [self.theirs(one, self.dtype) for one in self.cases]
        return self._kept["ours"], self._kept["theirs"]

    def ours_on(self, change: Callable[[LossCase], LossCase]) -> list[Array]:
        """The reference's values on changed cases."""
        changed = [change(one) for one in self.cases]
        return [self.paired.reference.slope(one.outputs, one.batch, dtype=self.dtype).value for one in changed]

    def theirs_on(self, change: Callable[[LossCase], LossCase]) -> list[Array]:
        """The candidate's values on changed cases."""
        return [self.theirs(change(one), self.dtype).value for one in self.cases]

    def holds(self, values: Sequence[Array], wanted: Sequence[Array]) -> bool:
        """Whether values are equal but for rounding."""
        return closeness(values, wanted) <= self.tolerance


def cause_of_loss(question: LossQuestion) -> Named:
    """The first hypothesis that holds; one without a cause where none does."""
    from regraft.conceptual.stages.label_causes import by_label
    from regraft.conceptual.stages.value_causes import by_formula

    for family in (_scale, _constant, _twice, by_label, by_formula, _targets):
        for found in family(question):
            return found
    return Named("", "", "")


def _scale(question: LossQuestion) -> Iterator[Named]:
    """The candidate is the reference times a number."""
    ours, theirs = question.both()
    factors = []
    for one, other in zip(ours, theirs, strict=True):
        factor = _factor(other.value, one.value)
        names = list(one.gradients)
        scaled = [one.gradients[name] * factor for name in names]
        if not question.holds([other.gradients.get(name, scaled[0] * 0) for name in names], scaled):
            return
        factors.append(factor)
    if all(math.isclose(factor, 1.0, rel_tol=question.tolerance) for factor in factors):
        return
    for found in _named_counts(question, factors):
        yield found
        return
    if all(math.isclose(factor, factors[0], rel_tol=question.tolerance) for factor in factors):
        yield _named_constant(question, factors[0])


def _factor(theirs: Array, ours: Array) -> float:
    import numpy as np

    below = float(np.sum(ours))
    return float(np.sum(theirs)) / below if below else math.nan


def _named_counts(question: LossQuestion, factors: list[float]) -> Iterator[Named]:
    """Factors that follow the number of samples, positions or labels of each case."""
    counts = [Counts.of(case) for case in question.cases]
    if len({one.samples for one in counts}) < 2:
        return
    words = {
        "samples": ("the mean over samples", "the sum"),
        "positions": ("the mean over all positions", "the sum"),
        "elements": ("the mean over all elements", "the sum"),
        "valid": ("the mean over labels that count", "the sum"),
        "per_sample": ("the mean over all positions", "the sum over positions, averaged over samples"),
        "share": ("the mean over labels that count", "the mean over all, with ignored ones"),
    }
    for name, (mean, other) in words.items():
        sizes = [float(getattr(one, name)) for one in counts]
        if all(size == 1.0 for size in sizes) or len(set(sizes)) < 2:
            continue
        for power in (1, -1):
            if all(math.isclose(f, s**power, rel_tol=question.tolerance) for f, s in zip(factors, sizes, strict=True)):
                up, down = (mean, other) if power == 1 else (other, mean)
                yield Named("reduction", f"{up} in the reference, {down} in the candidate", f"take {up}")
                return


def _named_constant(question: LossQuestion, factor: float) -> Named:
    classes = Counts.of(question.cases[0]).classes
    for size, what in ((float(classes), "number of classes"),):
        for power in (1, -1):
            if size > 2 and math.isclose(factor, size**power, rel_tol=question.tolerance):
                side = "candidate" if power == -1 else "reference"
                return Named(
                    "reduction",
                    f"the {side} averages over the {what} ({size:g}) too, the other sums over it",
                    "`batchmean`, not `mean`" if power == -1 else "`mean`, not `batchmean`",
                )
    for base, name in ((2.0, "2"), (10.0, "10")):
        for power in (1, -1):
            if math.isclose(factor, math.log(base) ** -power, rel_tol=question.tolerance):
                ours, theirs = ("e", name) if power == 1 else (name, "e")
                return Named("log base", f"log to base {ours} in the reference, {theirs} in the candidate", "")
    return Named("factor", f"the candidate is {factor:.6g} times the reference", f"divide the loss by {factor:.6g}")


class Counts(NamedTuple):
    """Sizes of a case that a reduction may divide by."""

    samples: int
    positions: int
    valid: int
    elements: int
    classes: int
    per_sample: float
    share: float

    @classmethod
    def of(cls, case: LossCase) -> Counts:
        """Counts of a case: rows of the first output, its elements, labels of the batch and those that count."""
        first = next(iter(case.outputs.values()))
        samples = int(first.shape[0]) if first.ndim else 1
        labels = labels_of(case)
        positions = int(labels[0].size) if labels is not None else samples
        valid = int((labels[0] >= 0).sum()) if labels is not None else positions
        classes = int(first.shape[labels[1]]) if labels is not None else int(first.shape[-1]) if first.ndim else 1
        return cls(
            samples, positions, valid, int(first.size), classes,
            positions / max(1, samples), valid / max(1, positions),
        )  # fmt: skip


def labels_of(case: LossCase) -> tuple[Array, int] | None:
    """Integer labels of a classification and the axis of the classes in the outputs; None for what is none.

    What is called a target or label comes first; the inputs of a network of tokens have the same shape.
    """
    first = next(iter(case.outputs.values()))
    named = sorted(case.batch.items(), key=lambda one: (not _is_target(one[0]), one[0] == "inputs"))
    for _, value in named:
        if value.dtype.kind not in "iu" or value.ndim != first.ndim - 1:
            continue
        for axis in (first.ndim - 1, 1):
            if value.shape == first.shape[:axis] + first.shape[axis + 1 :]:
                return value, axis
    return None


def _is_target(name: str) -> bool:
    return any(word in name.lower() for word in ("target", "label", "class"))


def _constant(question: LossQuestion) -> Iterator[Named]:
    """Equal derivatives, values that differ by one number."""
    import numpy as np

    ours, theirs = question.both()
    for one, other in zip(ours, theirs, strict=True):
        names = list(one.gradients)
        if not set(names) <= set(other.gradients):
            return
        if not question.holds([other.gradients[name] for name in names], [one.gradients[name] for name in names]):
            return
    gaps = [float(np.sum(other.value) - np.sum(one.value)) for one, other in zip(ours, theirs, strict=True)]
    if max(gaps) - min(gaps) <= question.tolerance * max(map(abs, gaps)):
        yield Named("constant term", f"the candidate is {gaps[0]:+.6g} larger everywhere, with equal derivatives", "")
    else:
        yield Named("constant term", "values differ and derivatives do not: a term that no output has a part in", "")


def _twice(question: LossQuestion) -> Iterator[Named]:
    """One of the two applies a function to the outputs that the other does not."""
    ours, theirs = question.both()
    words = {
        "softmax": "softmax", "log_softmax": "log-softmax", "sigmoid": "sigmoid", "log": "log", "exp": "exp",
        "negative": "negation",
    }  # fmt: skip
    axis = labels[1] if (labels := labels_of(question.cases[0])) is not None else -1
    for name, word in words.items():

        def change(case: LossCase, name: str = name) -> LossCase:
            outputs = {key: applied(name, value, axis) for key, value in case.outputs.items()}
            return msgspec.structs.replace(case, outputs=outputs)

        if question.holds([one.value for one in theirs], question.ours_on(change)):
            detail = f"the candidate takes the {word} of the outputs before its loss, the reference does not"
            yield Named("from logits", detail, f"give the loss the outputs as they are, without {word}")
        elif question.holds(question.theirs_on(change), [one.value for one in ours]):
            detail = f"the reference takes the {word} of the outputs, the candidate's loss does not"
            yield Named("from logits", detail, f"take the {word} of the outputs first")


def applied(name: str, value: Array, axis: int) -> Array:
    """A function on outputs, in float64; along the axis of the classes where it is a normalisation."""
    import numpy as np

    wide = value.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        if name in ("softmax", "log_softmax"):
            shifted = wide - wide.max(axis=axis, keepdims=True)
            logs = shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))
            result = np.exp(logs) if name == "softmax" else logs
        elif name == "sigmoid":
            result = 1.0 / (1.0 + np.exp(-wide))
        else:
            result = {"log": np.log, "exp": np.exp, "negative": np.negative}[name](wide)
    made: Array = result
    return made


def _targets(question: LossQuestion) -> Iterator[Named]:
    """The candidate reads the labels differently."""
    import numpy as np

    _, theirs = question.both()
    changes: dict[str, Callable[[Array], Array]] = {
        "one less than they are": lambda value: value - 1,
        "one more than they are": lambda value: value + 1,
        "one position later": lambda value: np.roll(value, 1, axis=-1),
        "one position earlier": lambda value: np.roll(value, -1, axis=-1),
        "in the opposite sense (1 - label)": lambda value: (1 - value).astype(value.dtype),
    }
    first = question.cases[0]
    for key, labels in first.batch.items():
        if labels.ndim == 0 or key == "inputs":
            continue
        for word, change in changes.items():

            def changed(case: LossCase, key: str = key, change: Callable[[Array], Array] = change) -> LossCase:
                return msgspec.structs.replace(case, batch={**case.batch, key: change(case.batch[key])})

            if labels.dtype.kind in "iu" and _is_illegal(change(labels), first):
                continue
            if question.holds([one.value for one in theirs], question.ours_on(changed)):
                yield Named("labels", f"the candidate takes the labels `{key}` {word}", "")


def _is_illegal(labels: Array, case: LossCase) -> bool:
    """Whether labels are no classes: code may abort the process on them."""
    classes = Counts.of(case).classes
    return bool(labels.size and (int(labels.min()) < 0 or int(labels.max()) >= classes))

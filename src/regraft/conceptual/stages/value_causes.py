"""Hypotheses about the formula of a loss: clamps inside its logarithm, and another loss over residuals."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from regraft.conceptual.stages.loss_causes import LossCase, LossQuestion, Named, applied, labels_of

if TYPE_CHECKING:
    from regraft.conceptual.stages.interface import Array, Slope

_EPSILONS = (*(digit * 10.0**-power for power in range(1, 17) for digit in (1.0, 5.0)), 2.0**-23, 2.0**-52)


def by_formula(question: LossQuestion) -> Iterator[Named]:
    """Both sides are recognised in a family of formulas; what differs is the cause."""
    ours, theirs = question.both()
    yield from _clamped(question, ours, theirs)
    yield from _residual(question, ours, theirs)


def _clamped(question: LossQuestion, ours: Sequence[Slope], theirs: Sequence[Slope]) -> Iterator[Named]:
    """Cross-entropies whose probability is held away from 0."""
    told = []
    for side in (ours, theirs):
        found = next(
            ((word, epsilon) for word, epsilon, values in _clamps(question.cases) if _fits(question, side, values)),
            None,
        )
        if found is None:
            return
        told.append(found)
    if told[0] == told[1]:
        return
    words = ["no clamp" if epsilon == 0 else f"{word} {epsilon:.3g}" for word, epsilon in told]
    yield Named("epsilon", f"{words[0]} in the reference, {words[1]} in the candidate, at the logarithm", "")


def _fits(question: LossQuestion, side: Sequence[Slope], values: Sequence[float]) -> bool:
    import numpy as np

    found = [float(np.mean(one.value)) for one in side]
    return all(
        math.isclose(a, b, rel_tol=question.tolerance, abs_tol=1e-12) for a, b in zip(found, values, strict=True)
    )


def _clamps(cases: Sequence[LossCase]) -> Iterator[tuple[str, float, list[float]]]:
    """Clamps of both kinds, with the mean loss that they give on each case."""
    makers = [maker for maker in (_of_classes, _of_binary) if all(maker(case) is not None for case in cases)]
    for maker in makers:
        chosen = [maker(case) for case in cases]
        for epsilon in (0.0, *_EPSILONS):
            for word in ("clipped to", "increased by"):
                yield word, epsilon, [_mean(one, word, epsilon) for one in chosen if one is not None]


def _of_classes(case: LossCase) -> list[Array] | None:
    """Probability of each label, from logits; None without labels."""
    import numpy as np

    found = labels_of(case)
    if found is None:
        return None
    labels, axis = found
    logits = np.moveaxis(next(iter(case.outputs.values())), axis, -1)
    rows = applied("softmax", logits, -1).reshape(-1, logits.shape[-1])
    flat = labels.reshape(-1)
    keep = (flat >= 0) & (flat < rows.shape[1])
    return [rows[np.flatnonzero(keep), flat[keep]]]


def _of_binary(case: LossCase) -> list[Array] | None:
    """Probabilities of what is there, from logits, for targets of 0 and 1; None for other targets."""
    import numpy as np

    output = next(iter(case.outputs.values()))
    targets = next(
        (v for n, v in case.batch.items() if n != "inputs" and v.size == output.size and set(np.unique(v)) <= {0, 1}),
        None,
    )
    if targets is None:
        return None
    probability = applied("sigmoid", output, -1).reshape(-1)
    flat = targets.reshape(-1)
    return [np.where(flat == 1, probability, 1.0 - probability)]


def _mean(probabilities: Sequence[Array], word: str, epsilon: float) -> float:
    import numpy as np

    values = probabilities[0]
    with np.errstate(divide="ignore"):
        if word == "clipped to":
            return float(-np.log(np.clip(values, epsilon, 1.0 - epsilon)).mean())
        return float(-np.log(values + epsilon).mean())


def _residual(question: LossQuestion, ours: Sequence[Slope], theirs: Sequence[Slope]) -> Iterator[Named]:
    """Losses of output − target: squared, absolute, Huber."""
    told = []
    for side in (ours, theirs):
        name = _kind(question.cases, side, question.tolerance)
        if name is None:
            return
        told.append(name)
    if told[0] != told[1]:
        yield Named("formula", f"{told[0]} in the reference, {told[1]} in the candidate", "")


def _kind(cases: Sequence[LossCase], side: Sequence[Slope], tolerance: float) -> str | None:
    import numpy as np

    residuals, gradients = [], []
    for case, one in zip(cases, side, strict=True):
        output = next(iter(case.outputs.values()))
        targets = next(
            (v for n, v in case.batch.items() if n != "inputs" and v.size == output.size and v.dtype.kind == "f"), None
        )
        if targets is None or not one.gradients:
            return None
        residuals.append(output.reshape(-1).astype(np.float64) - targets.reshape(-1))
        gradients.append(next(iter(one.gradients.values())).reshape(-1))
    formulas: dict[str, Callable[[Array], Array]] = {
        "squared error": lambda e: e, "absolute error": np.sign, "log-cosh": np.tanh,
    }  # fmt: skip
    for name, formula in formulas.items():
        if _is_shape(residuals, gradients, formula, tolerance):
            return name
    threshold = _threshold(residuals[0], gradients[0])
    if threshold and _is_shape(residuals, gradients, lambda e: np.clip(e, -threshold, threshold), tolerance):
        return f"Huber loss with threshold {threshold:.4g}"
    return None


def _is_shape(
    residuals: Sequence[Array], gradients: Sequence[Array], formula: Callable[[Array], Array], tolerance: float
) -> bool:
    """Whether derivatives are a formula of the residual times one number a case."""
    import numpy as np

    for residual, gradient in zip(residuals, gradients, strict=True):
        wanted = formula(residual)
        norm = float(np.square(wanted).sum())
        factor = float((wanted * gradient).sum()) / norm if norm else 0.0
        if np.abs(wanted * factor - gradient).max(initial=0.0) > tolerance * 10 * np.abs(gradient).max(initial=0.0):
            return False
    return True


def _threshold(residual: Array, gradient: Array) -> float:
    """Where a derivative that is proportional to the residual stops to grow; 0 where it never is."""
    import numpy as np

    slope = np.abs(gradient) / np.maximum(np.abs(residual), 1e-300)
    steepest = float(slope.max(initial=0.0))
    return float(np.abs(gradient).max(initial=0.0)) / steepest if steepest else 0.0

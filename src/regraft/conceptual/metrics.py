"""The metrics that claims are made in, from scikit-learn and scipy; of each, more is better."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import msgspec

from regraft.conceptual.evaluation.interface import Scores
from regraft.errors import MissingExtra, Unsupported

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RESAMPLES = 1000


class Interval(msgspec.Struct, frozen=True):
    """Percentiles of resampled values. `n` counts the units that were drawn, not their parts."""

    low: float
    high: float
    n: int


def evaluate(metric: str, scores: Scores) -> float:
    """The value of a metric.

    Raises:
        Unsupported: it is not defined on these scores (one class only, constant scores).
    """
    return _value(metric, scores.targets, scores.scores, scores.decisions)


def baseline(metric: str, scores: Scores) -> float:
    """What somebody gets who does not look: the most frequent class, or no ranking at all."""
    import numpy as np

    if metric == "roc_auc":
        return 0.5
    if metric in ("spearman", "pearson"):
        return 0.0
    classes, counts = np.unique(scores.targets, return_counts=True)
    constant = np.full_like(scores.targets, classes[np.argmax(counts)] if metric == "accuracy" else classes[-1])
    return _value(metric, scores.targets, None, constant)


def resampled(metric: str, scores: Scores, *, seed: int, resamples: int = RESAMPLES) -> Interval:
    """A 95 % interval by drawing groups with replacement.

    Raises:
        Unsupported: fewer than two groups, or too few draws on which the metric is defined.
    Source: Efron and Tibshirani, An Introduction to the Bootstrap, sections 8.5 (groups) and 13.3 (percentiles).
    """
    import numpy as np

    names, inverse = np.unique(scores.groups, return_inverse=True)
    if len(names) < 2:
        raise Unsupported("an interval takes at least two independent units")
    members = [np.flatnonzero(inverse == number) for number in range(len(names))]
    random = np.random.default_rng(seed)
    values = []
    for _ in range(resamples):
        rows = np.concatenate([members[i] for i in random.integers(0, len(names), len(names))])
        part = None if scores.decisions is None else scores.decisions[rows]
        try:
            values.append(_value(metric, scores.targets[rows], scores.scores[rows], part))
        except Unsupported:
            continue
    if len(values) < resamples / 2:
        raise Unsupported(f"{metric} is not defined on most resamples")
    low, high = np.quantile(values, [0.025, 0.975])
    return Interval(float(low), float(high), len(names))


def _value(
    metric: str,
    targets: NDArray[np.generic],
    scores: NDArray[np.floating] | None,
    decisions: NDArray[np.generic] | None,
) -> float:
    import numpy as np

    try:
        calculate = _calculators()[metric]
    except ImportError as error:
        raise MissingExtra("scikit-learn", extra="adapt") from error
    given = scores if metric in _RANKED else decisions
    if given is None:
        raise Unsupported(f"{metric} takes {'scores' if metric in _RANKED else 'decisions'}, which there are none of")
    if metric in _RANKED and (np.ptp(given.astype(float)) == 0 or len(np.unique(targets)) < 2):
        raise Unsupported(f"{metric} is not defined: all scores or all targets are the same")
    value = float(calculate(targets, given))
    if not np.isfinite(value):
        raise Unsupported(f"{metric} is not a finite number here")
    return value


def _calculators() -> Mapping[str, Callable[[NDArray[np.generic], NDArray[np.generic]], float]]:
    from scipy import stats
    from sklearn import metrics

    return {
        "accuracy": metrics.accuracy_score,
        "f1": lambda targets, decisions: metrics.f1_score(targets, decisions, average=_average(targets)),
        "roc_auc": metrics.roc_auc_score,
        "spearman": lambda targets, scores: stats.spearmanr(targets, scores).statistic,
        "pearson": lambda targets, scores: stats.pearsonr(targets, scores).statistic,
    }


def _average(targets: NDArray[np.generic]) -> str:
    import numpy as np

    return "binary" if set(np.unique(targets).tolist()) <= {0, 1} else "macro"


_RANKED = ("roc_auc", "spearman", "pearson")
METRICS = ("accuracy", "f1", "roc_auc", "spearman", "pearson")

"""Intervals and paired tests for accuracies: of cross-validation, of held-out rows, of two classifiers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CONFIDENCE = 0.95


class Interval(msgspec.Struct, frozen=True):
    """An estimate, what it lies between at 95 %, and on how many it stands."""

    value: float
    low: float
    high: float
    n: int


class Paired(msgspec.Struct, frozen=True):
    """Two classifiers on the same rows.

    Attributes:
        difference: accuracy of the first less that of the second.
        only_first, only_second: rows that one got right and the other did not.
        p_value: two-sided exact McNemar.
    """

    difference: Interval
    only_first: int
    only_second: int
    p_value: float


def corrected_interval(
    scores: NDArray[np.float64], *, test_share: float, comparisons: int = 1, bounded: bool = False
) -> Interval:
    """Interval for the mean of scores from repeated cross-validation, whose training sets overlap.

    Args:
        scores: (J,) one score, or difference of scores, for each of J ≥ 2 folds.
        test_share: rows in a test fold over rows in its training folds.
        comparisons: how many such intervals are looked at together (Bonferroni).
        bounded: cut at 0 and 1.
    Source: Nadeau and Bengio, Inference for the generalization error (2003), eq. 9: variance (1/J + n2/n1) S²,
        Student's t with J − 1 degrees of freedom; used for repeated folds as in Bouckaert and Frank (2004).
    """
    from scipy.stats import t

    count = len(scores)
    mean, deviation = float(scores.mean()), float(scores.std(ddof=1))
    level = 1 - (1 - CONFIDENCE) / (2 * max(1, comparisons))
    half = float(t.ppf(level, count - 1)) * deviation * (1 / count + test_share) ** 0.5
    low, high = mean - half, mean + half
    return Interval(mean, max(0.0, low), min(1.0, high), count) if bounded else Interval(mean, low, high, count)


def wilson(right: int, total: int) -> Interval:
    """Interval for a share of independent rows. Source: Wilson (1927), without continuity correction.

    Args:
        right: how many of `total` ≥ 1 rows.
    """
    from scipy.stats import norm

    z = float(norm.ppf(1 - (1 - CONFIDENCE) / 2))
    share = right / total
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z * (share * (1 - share) / total + z * z / (4 * total * total)) ** 0.5 / (1 + z * z / total)
    return Interval(share, max(0.0, centre - half), min(1.0, centre + half), total)


def paired(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> Paired:
    """Compare which rows two classifiers got right.

    Args:
        first, second: (N,) whether each row was right.
    Source: McNemar (1947), exact binomial form; interval of the difference by Agresti and Min (2005), adding
        a half to each cell.
    """
    from scipy.stats import binomtest, norm

    total = len(first)
    one, other = int((first & ~second).sum()), int((~first & second).sum())
    p_value = float(binomtest(one, one + other).pvalue) if one + other else 1.0
    b, c, n = one + 0.5, other + 0.5, total + 2
    half = float(norm.ppf(1 - (1 - CONFIDENCE) / 2)) * ((b + c) - (b - c) ** 2 / n) ** 0.5 / n
    centre = (b - c) / n
    return Paired(Interval((one - other) / total, centre - half, centre + half, total), one, other, p_value)


def calibration_error(probabilities: NDArray[np.float64], right: NDArray[np.bool_], *, bins: int = 15) -> float:
    """Expected calibration error: mean distance of confidence from accuracy over equal-width bins.

    Args:
        probabilities: (N, K) of each class.
        right: (N,) whether the most probable class is the true one.
    Source: Guo et al., On calibration of modern neural networks (2017), eq. 3.
    """
    import numpy as np

    confidence = probabilities.max(axis=1)
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    sums = [np.bincount(place, weights=values, minlength=bins) for values in (confidence, right.astype(float))]
    return float(np.abs(sums[0] - sums[1]).sum() / len(right))

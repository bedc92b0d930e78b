"""Learning curves: accuracy at n labels, and how many labels one method needs to catch up with another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from regraft.adaptation.intervals import CONFIDENCE
from regraft.adaptation.probe import Method, at_once, chosen_strength, fit, predict
from regraft.adaptation.splits import draw_rows
from regraft.progress import progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from regraft.adaptation.probe import Inputs

SIZES = (100, 200, 500, 1000, 2000, 4000, 6000)
DRAWS = 3
_RESAMPLES = 2000
_FIRST_DRAW = 10
"""Draws 0 and 1 are those of the split."""


class Curve(msgspec.Struct, frozen=True):
    """Which held-out rows a method got right after learning from n labels.

    Attributes:
        sizes: (S,) labels.
        right: (S, R, H) of each size, draw and held-out row.
    """

    method: str
    sizes: tuple[int, ...]
    right: NDArray[np.bool_]

    def accuracies(self) -> NDArray[np.float64]:
        """(S, R) accuracy on the held-out rows."""
        accuracies: NDArray[np.float64] = self.right.mean(axis=2)
        return accuracies


class CatchUp(msgspec.Struct, frozen=True):
    """How many labels a method needs to be as accurate as another one at `target_labels`.

    Attributes:
        labels: estimate; None for more than `most`.
        low, high: between which it lies at 95 %; None for more than `most`.
        most: the largest size that was tried.
    """

    target_labels: int
    labels: float | None
    low: float | None
    high: float | None
    most: int


def usable_sizes(sizes: Sequence[int], labels: NDArray[np.int64], *, learn: int) -> tuple[int, ...]:
    """Those sizes that the pool and its rarest class allow, and the size that the task is about."""
    import numpy as np

    rarest = float(np.bincount(labels).min()) / len(labels)
    fit_in = {size for size in (*sizes, learn) if size <= len(labels) and size * rarest >= 4}
    return tuple(sorted(fit_in))


def learning_curve(
    method: Method,
    inputs: Inputs,
    labels: NDArray[np.int64],
    *,
    pool: NDArray[np.int64],
    held_out: NDArray[np.int64],
    sizes: Sequence[int],
    seed: int,
) -> Curve:
    """Fit on several draws of every size, judge on the held-out rows.

    The penalty is chosen in inner folds of the first draw of each size. Two methods with one seed get the same draws.

    Args:
        inputs: (N, …) of all rows; those outside of pool and held-out rows are not looked at.
        labels: (N,)
    """
    import numpy as np

    right = np.zeros((len(sizes), DRAWS, len(held_out)), dtype=bool)
    with progress(f"learning curve: {method.name}", total=len(sizes) * DRAWS, unit="fits") as advance:
        chosen: dict[int, float] = {}

        def draw_of(size: int, draw: int) -> NDArray[np.int64]:
            return draw_rows(labels, pool, size, seed=seed, draw=_FIRST_DRAW + draw)

        def choose(size: int) -> None:
            rows = draw_of(size, 0)
            chosen[size] = chosen_strength(method, inputs[rows], labels[rows], seed=seed)

        def judge(place: tuple[int, int]) -> None:
            s, draw = place
            rows = draw_of(sizes[s], draw)
            fitted = fit(method, inputs[rows], labels[rows], chosen[sizes[s]])
            right[s, draw] = predict(fitted, inputs[held_out]) == labels[held_out]
            advance(1)

        largest_first = sorted(range(len(sizes)), key=lambda s: -sizes[s])
        at_once(choose, [sizes[s] for s in largest_first])
        at_once(judge, [(s, draw) for s in largest_first for draw in range(DRAWS)])
    return Curve(method.name, tuple(sizes), right)


def catch_up(behind: Curve, ahead: Curve, *, labels: int, seed: int = 0) -> CatchUp:
    """How many labels `behind` needs to be as accurate as `ahead` is at `labels`.

    Interpolated in the logarithm of the labels, on the running maximum of the mean accuracy. The interval is the
    percentile bootstrap over held-out rows, the same for both, and over draws.

    Args:
        labels: one of the sizes of `ahead`.
    Source: Efron and Tibshirani, An introduction to the bootstrap (1993), ch. 13.
    """
    import numpy as np

    target = ahead.right[ahead.sizes.index(labels)].astype(np.float64)  # (R, H)
    right = behind.right.astype(np.float64)  # (S, R, H)
    draws, rows = target.shape
    rng = np.random.default_rng(seed)
    found = np.empty(_RESAMPLES)
    by_draw = np.concatenate([target[None], right]).reshape(-1, rows)  # ((1+S)·R, H)
    for start in range(0, _RESAMPLES, 500):
        counts = rng.multinomial(rows, np.full(rows, 1 / rows), size=500) / rows  # (500, H)
        means = (counts @ by_draw.T).reshape(500, -1, draws)  # (500, 1+S, R)
        for i, one in enumerate(means):
            sampled = one[:, rng.integers(0, draws, draws)].mean(axis=1)  # (1+S,)
            found[start + i] = _crossing(behind.sizes, sampled[1:], sampled[0])
    value = _crossing(behind.sizes, right.mean(axis=(1, 2)), float(target.mean()))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(found, [tail, 1 - tail], method="inverted_cdf")
    return CatchUp(labels, _finite(value), _finite(low), _finite(high), behind.sizes[-1])


def _crossing(sizes: Sequence[int], accuracies: NDArray[np.float64], target: float) -> float:
    """Where the running maximum reaches the target; the smallest size if it starts above, infinity if never."""
    import numpy as np

    best = np.maximum.accumulate(accuracies)
    reached = np.flatnonzero(best >= target)
    if not len(reached):
        return float("inf")
    after = int(reached[0])
    if after == 0:
        return float(sizes[0])
    part = (target - best[after - 1]) / (best[after] - best[after - 1])
    return float(sizes[after - 1] * (sizes[after] / sizes[after - 1]) ** part)


def _finite(value: float) -> float | None:
    return round(float(value)) if value != float("inf") else None

"""Whole trainings over several seeds: are two implementations as good, within a margin that was declared before?"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import msgspec

from regraft.compare.judge import Judgement
from regraft.conceptual.stages.interface import Divergence, StageResult, Status
from regraft.errors import Unsupported

if TYPE_CHECKING:
    from regraft.conceptual.stages.interface import Array, Side, WeightMap

SEEDS = 8
"""Trainings of each side: 256 ways to swap the pairs, so that an interval of 90 % is exact."""
LEVEL = 0.9
_LAST = 0.1
"""Share of a curve at its end whose mean is the result of a training."""
_MAX_EXACT = 12


class CurveTest(msgspec.Struct, frozen=True):
    """Two sets of trainings, seed by seed.

    Attributes:
        difference: mean of candidate − reference, at the end of the curves.
        low, high: interval of it, from the swaps that do not reject it.
        p: share of swaps of pairs with a mean difference at least as large.
        area: the same difference of the means over whole curves.
        margin: within which both are as good.
        seeds: pairs.
    """

    difference: float
    low: float
    high: float
    p: float
    area: float
    margin: float
    seeds: int

    @property
    def is_equivalent(self) -> bool:
        """The whole interval lies within the margin: two one-sided tests at 5 %."""
        return -self.margin <= self.low and self.high <= self.margin

    @property
    def is_different(self) -> bool:
        """The interval excludes equality, and its middle lies beyond the margin."""
        return (self.low > 0 or self.high < 0) and abs(self.difference) > self.margin


def compare_curves(ours: Array, theirs: Array, *, margin: float | None = None) -> CurveTest:
    """Compare trainings in pairs by swapping them.

    Args:
        ours, theirs: (S, T) one curve a seed; S of at least 5.
        margin: in the unit of the curves; None for the standard deviation between the reference's seeds.
    Raises:
        ValueError: fewer than five seeds, shapes that differ, or numbers that are not finite.
    Source: paired permutation test (Fisher 1935, section 21) and its inversion into an interval; equivalence by two
        one-sided tests (Schuirmann 1987).
    """
    import numpy as np

    if ours.shape != theirs.shape or len(ours) < 5:
        raise ValueError(f"curves of shape {ours.shape} and {theirs.shape} cannot be compared; at least five seeds")
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        raise ValueError("a curve has numbers that are not finite")
    tail = max(1, math.ceil(ours.shape[1] * _LAST))
    ends = [curves[:, -tail:].mean(axis=1) for curves in (ours, theirs)]
    gaps = ends[1] - ends[0]  # (S,)
    signs = _signs(len(gaps))
    size = float(np.std(ends[0], ddof=1)) if margin is None else margin
    low, high = _interval(gaps, signs)
    area = float((theirs - ours).mean())
    return CurveTest(float(gaps.mean()), low, high, _p(gaps, signs), area, size, len(gaps))


def _signs(pairs: int) -> Array:
    """(R, S) all ways to swap pairs, or 4096 of them at random."""
    import numpy as np

    if pairs <= _MAX_EXACT:
        return np.array(list(itertools.product((1.0, -1.0), repeat=pairs)))
    drawn: Array = np.random.default_rng(0).choice((1.0, -1.0), (1 << _MAX_EXACT, pairs))
    drawn[0] = 1.0
    return drawn


def _p(gaps: Array, signs: Array) -> float:
    import numpy as np

    means = np.abs(signs @ gaps) / len(gaps)
    return float((means >= abs(float(gaps.mean())) - 1e-12 * (1 + means.max())).mean())


def _interval(gaps: Array, signs: Array) -> tuple[float, float]:
    """Differences that the test does not reject at 1 − LEVEL, by bisection on either side of the mean."""
    middle, width = float(gaps.mean()), float(gaps.max() - gaps.min()) + 1e-12
    ends = []
    for direction in (-1.0, 1.0):
        inside, outside = 0.0, width
        for _ in range(40):
            half = (inside + outside) / 2
            is_kept = _p(gaps - (middle + direction * half), signs) > 1 - LEVEL
            inside, outside = (half, outside) if is_kept else (inside, half)
        ends.append(middle + direction * inside)
    return ends[0], ends[1]


class CurvesStage:
    """Trainings of both with the same seeds; what is stochastic is judged by an interval, not number by number."""

    name = "curves"
    needs = frozenset({"curve"})

    def compare(self, reference: Side, candidate: Side, weights: WeightMap, *, seed: int) -> StageResult:
        """As `Stage.compare`."""
        import numpy as np

        curves = [[side.curve(seed + i) for i in range(SEEDS)] for side in (reference, candidate)]
        length = min(len(one) for side in curves for one in side)
        ours, theirs = (np.stack([one[:length] for one in side]) for side in curves)
        try:
            test = compare_curves(ours, theirs, margin=reference.margin)
        except ValueError as error:
            raise Unsupported(str(error), where=f"{reference.where}, {candidate.where}") from error
        same = [side.where for side, rows in ((reference, ours), (candidate, theirs)) if np.ptp(rows[:, -1]) == 0]
        notes = (f"{' and '.join(same)}: all seeds give the same curve; is the seed used?",) if same else ()
        measured = {
            "difference": test.difference, "low": test.low, "high": test.high, "p": test.p, "margin": test.margin,
            "seeds": float(test.seeds),
        }  # fmt: skip
        told = (
            f"the candidate's last scores are {test.difference:+.4g} from the reference's, {LEVEL:.0%} interval "
            f"{test.low:+.4g} to {test.high:+.4g}, margin {test.margin:.4g}, over {test.seeds} seeds"
        )
        if test.is_equivalent:
            return StageResult(self.name, Status.AGREES, reason=told, notes=notes, measured=measured)
        if test.is_different:
            found = Divergence("last scores", "", told, Judgement.BEYOND)
            return StageResult(self.name, Status.DIVERGES, (found,), "", notes, measured)
        reason = f"{told}: more seeds, or a wider margin"
        return StageResult(self.name, Status.UNDECIDED, reason=reason, notes=notes, measured=measured)

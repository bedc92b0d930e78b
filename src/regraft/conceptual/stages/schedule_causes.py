"""Why two sequences of learning rates differ: relations between them that hold at every step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from regraft.conceptual.stages.interface import Array

_TOLERANCE = 1e-5
"""Of the largest rate: schedules in float32 leave 1e-7."""
_INTERPOLATED = 1e-3
"""The same for rates between two steps."""
_MAX_SHIFT = 8


class RateCause(NamedTuple):
    """A relation and the part of the schedule that it is about."""

    place: str
    cause: str
    detail: str


def cause_of_rates(ours: Array, theirs: Array) -> RateCause:
    """The first relation that holds between two schedules; one without a cause where none does.

    Args:
        ours, theirs: (T,) learning rate of each step.
    """
    for family in (_shifted, _scaled, _held, _drops, _exponent, _stretched, _warm_up, _end, _shape):
        for found in family(ours, theirs):
            return found
    return RateCause("", "", "")


def _equal(one: Array, other: Array, scale: float) -> bool:
    import numpy as np

    return bool(np.abs(one - other).max(initial=0.0) <= _TOLERANCE * scale)


def _scale(ours: Array) -> float:
    import numpy as np

    return float(np.abs(ours).max(initial=0.0)) or 1.0


def _shifted(ours: Array, theirs: Array) -> Iterator[RateCause]:
    for shift in range(1, min(_MAX_SHIFT, len(ours) // 2) + 1):
        word = "one step" if shift == 1 else f"{shift} steps"
        if _equal(theirs[:-shift], ours[shift:], _scale(ours)):
            yield RateCause("every step", "off by one" if shift == 1 else "shift", f"the candidate is {word} ahead")
        elif _equal(theirs[shift:], ours[:-shift], _scale(ours)):
            yield RateCause("every step", "off by one" if shift == 1 else "shift", f"the candidate is {word} behind")


def _scaled(ours: Array, theirs: Array) -> Iterator[RateCause]:
    below = float((ours**2).sum())
    factor = float((ours * theirs).sum()) / below if below else 0.0
    if factor and _equal(theirs, ours * factor, _scale(ours) * max(1.0, abs(factor))):
        yield RateCause("every step", "base rate", f"the candidate's rates are {factor:.6g} times the reference's")


def _held(ours: Array, theirs: Array) -> Iterator[RateCause]:
    """One goes through the other's rates more slowly: it is stepped once an epoch, and changes less often."""
    import numpy as np

    for slow, fast, who in ((theirs, ours, "candidate"), (ours, theirs, "reference")):
        changes = [int(np.count_nonzero(np.diff(rates))) for rates in (slow, fast)]
        for period in range(2, len(fast) // 2 + 1) if 2 * changes[0] <= changes[1] else ():
            if slow[0] != slow[period - 1]:  # rates stay for a whole period
                break
            steps = np.arange(len(slow))
            if any(_equal(slow, fast[at], _scale(ours)) for at in (steps // period, steps // period * period)):
                yield RateCause(
                    "every step",
                    "per epoch or per step",
                    f"the {who} is stepped once in {period} steps, the other at each",
                )
                return


def _stretched(ours: Array, theirs: Array) -> Iterator[RateCause]:
    """One is the other's curve over more steps."""
    import numpy as np

    level = (float(ours.max()) + max(float(ours.min()), float(theirs.min()))) / 2
    middles = [_crossing(rates, level) for rates in (ours, theirs)]
    if not all(middles) or middles[0] == middles[1]:
        return
    factor = middles[1] / middles[0]
    slow, fast = (theirs, ours) if factor > 1 else (ours, theirs)
    places = np.arange(len(slow)) / max(factor, 1 / factor)
    if np.abs(slow - np.interp(places, np.arange(len(fast)), fast)).max() <= _INTERPOLATED * _scale(ours):
        yield RateCause("every step", "length", f"the candidate's schedule is {factor:.5g} times as long")


def _crossing(rates: Array, level: float) -> float:
    """The step, with its fraction, at which rates fall below a level for the first time; 0 where they never do."""
    import numpy as np

    below = np.flatnonzero(rates < level)
    if not below.size or not below[0]:
        return 0.0
    step = int(below[0])
    return step - float((level - rates[step]) / (rates[step - 1] - rates[step]))


def _warm_up(ours: Array, theirs: Array) -> Iterator[RateCause]:
    """They differ up to a step and agree from there on, or agree but for when the warm-up ends."""
    import numpy as np

    differ = np.abs(ours - theirs) > _TOLERANCE * _scale(ours)
    last = int(np.flatnonzero(differ)[-1])
    tops = [int(np.argmax(rates >= rates.max() * (1 - 1e-9))) for rates in (ours, theirs)]
    if last < len(ours) - 1 and last <= max(tops) + 1 and last < len(ours) // 2:
        if _equal(theirs[: last + 1], ours[1 : last + 2], _scale(ours)):
            detail = "the candidate's is one step ahead in it: (step + 1) over its length, not step"
        elif _equal(ours[: last + 1], theirs[1 : last + 2], _scale(ours)):
            detail = "the candidate's is one step behind in it: step over its length, not (step + 1)"
        elif tops[0] != tops[1]:
            detail = f"{tops[0]} steps in the reference, {tops[1]} in the candidate"
        else:
            detail = (
                f"other rates in the first {last + 1} steps: from {ours[0]:.4g}, in the candidate from {theirs[0]:.4g}"
            )
        yield RateCause("warm-up", "warm-up", detail)
    elif tops[0] != tops[1] and max(tops) < len(ours) // 2:
        after = [rates[top:] for rates, top in zip((ours, theirs), tops, strict=True)]
        size = min(map(len, after))
        same = _equal(after[0][:size], after[1][:size], _scale(ours))
        near = float(np.abs(after[0][:size] - after[1][:size]).max()) < 0.35 * _scale(ours)
        rises = [
            bool(top and (np.diff(rates[: top + 1]) > 0).all()) for rates, top in zip((ours, theirs), tops, strict=True)
        ]
        if (same or near) and any(rises):
            yield RateCause("warm-up", "warm-up", f"{tops[0]} steps in the reference, {tops[1]} in the candidate")


def _drops(ours: Array, theirs: Array) -> Iterator[RateCause]:
    """Both fall in steps: at other steps, or by another factor."""
    import numpy as np

    told = []
    for rates in (ours, theirs):
        if (rates <= 0).any():
            return
        logs = np.diff(np.log(rates))
        at = np.flatnonzero(np.abs(logs) > _TOLERANCE)
        if not at.size or at.size > len(rates) // 4:
            return
        told.append((at + 1, np.exp(logs[at])))
    (mine, my_factors), (their, their_factors) = told
    if mine.tolist() == their.tolist():
        detail = f"{my_factors[0]:.4g} in the reference, {their_factors[0]:.4g} in the candidate"
        yield RateCause(f"step {mine[0]}", "decay factor", detail)
    else:
        first = [", ".join(map(str, at[:4].tolist())) for at in (mine, their)]
        detail = f"rates fall at steps {first[0]} in the reference, at {first[1]} in the candidate"
        yield RateCause("milestones", "milestones", detail)


def _end(ours: Array, theirs: Array) -> Iterator[RateCause]:
    """The same curve between the same start and another end."""
    spans = [(float(rates.max()), float(rates[-1])) for rates in (ours, theirs)]
    (top, end), (their_top, their_end) = spans
    if top == end or their_top == their_end or abs(top - their_top) > _TOLERANCE * top:
        return
    low, their_low = (float(rates[int(rates.argmax()) :].min()) for rates in (ours, theirs))
    shapes = [
        (rates[int(rates.argmax()) :] - bottom) / (peak - bottom)
        for rates, peak, bottom in ((ours, top, low), (theirs, their_top, their_low))
    ]
    if shapes[0].shape == shapes[1].shape and _equal(shapes[0], shapes[1], 1.0):
        yield RateCause("end", "end value", f"{low:.4g} in the reference, {their_low:.4g} in the candidate")


def _exponent(ours: Array, theirs: Array) -> Iterator[RateCause]:
    """Both are powers of each other: exponential decays with other factors, polynomials of other degrees."""
    import numpy as np

    if (ours <= 0).any() or (theirs <= 0).any() or abs(ours[0] - theirs[0]) > _TOLERANCE * _scale(ours):
        return
    mine, their = np.log(ours / ours[0]), np.log(theirs / theirs[0])
    below = float((mine**2).sum())
    power = float((mine * their).sum()) / below if below else 0.0
    if power and float(np.abs(their - power * mine).max()) < 1e-4 * float(np.abs(their).max()):
        factors = [float(np.exp(logs[1])) for logs in (mine, their)]
        if np.allclose(np.diff(mine), mine[1], rtol=1e-3, atol=1e-9):
            detail = f"{factors[0]:.6g} a step in the reference, {factors[1]:.6g} in the candidate"
            yield RateCause("every step", "decay factor", detail)
        else:
            yield RateCause("every step", "power", f"the candidate's decay is that of the reference to the {power:.4g}")


def _shape(ours: Array, theirs: Array) -> Iterator[RateCause]:
    """Another curve; both named where they are well known."""
    words = [_curve(rates) for rates in (ours, theirs)]
    if words[0] != words[1]:
        yield RateCause("curve", "curve", f"{words[0]} in the reference, {words[1]} in the candidate")


def _curve(rates: Array) -> str:
    import numpy as np

    top = int(np.argmax(rates >= rates.max() * (1 - 1e-9)))
    rest = rates[top:]
    if np.ptp(rest) <= _TOLERANCE * _scale(rates):
        return "constant"
    if len(rest) < 4:
        return "unknown"
    falls = np.diff(rest)
    if np.ptp(falls) <= _TOLERANCE * 10 * float(np.abs(falls).max()):
        return "linear"
    if (rest > 0).all() and np.ptp(np.diff(np.log(rest))) <= 1e-4:
        return "exponential"
    places = np.arange(len(rest))
    for end in (len(rest), len(rest) - 1):
        cosine = rest.min() + (rest[0] - rest.min()) * (1 + np.cos(np.pi * places / end)) / 2
        if np.abs(cosine - rest).max() < 1e-2 * rest[0]:
            return "cosine"
    return "in steps" if (falls == 0).mean() > 0.75 else "another curve"

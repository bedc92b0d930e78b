"""What a stage of the reference computes exactly, what rounding makes of it, and where the candidate lies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from regraft.compare.deviation import Deviation, deviation
from regraft.compare.jitter import RUNS, jittered_feeds
from regraft.compare.judge import Judgement, threshold
from regraft.compare.noise import Ratio, least_floor, ratios, unit_roundoff
from regraft.errors import Unsupported

if TYPE_CHECKING:
    from regraft.conceptual.stages.interface import Array, Arrays

PRECISION = "float32"
_FEW = 8
"""A tensor of fewer numbers can be exact by chance: more runs make its floor."""
_RUNS_OF_FEW = 4
_UNIT = 2.0**-23


class Exact(msgspec.Struct, frozen=True):
    """One question to the reference, answered.

    Attributes:
        values: name → float64 result; where there is no float64 run, the float32 one.
        own: float32 results: as it is, then with inputs moved by one unit in the last place.
        method: `float64` or `jitter`: how the floor was found.
    """

    values: dict[str, Array]
    own: tuple[dict[str, Array], ...]
    method: str


class Judged(msgspec.Struct, frozen=True):
    """One tensor over all cases.

    Attributes:
        judgement: of the worst case.
        ratio: of the worst case.
        worst, first: the case that is worst, and the first one beyond the benign threshold.
        lost: numbers that are finite in one of the two only.
    """

    judgement: Judgement
    ratio: Ratio
    worst: int
    first: int
    lost: int = 0


def asked(run: Callable[[Arrays, str], Mapping[str, Array]], given: Arrays, *, seed: int) -> Exact:
    """Ask the reference in float64 and float32; by jitter where its code does not run in float64.

    Args:
        run: (inputs, dtype) to named results.
        given: what is moved for the jittered runs.
        seed: of the jitter.
    Raises:
        Unsupported: it does not run in float32 either.
    """
    plain = dict(run(given, PRECISION))
    try:
        values = dict(run(given, "float64"))
        is_exact = all(value.dtype.itemsize >= 8 for value in values.values() if value.dtype.kind == "f")
    except Unsupported:
        values, is_exact = plain, False
    runs = 0
    if not is_exact:
        values, runs = plain, RUNS
    elif any(value.dtype.kind == "f" and value.size < _FEW for value in values.values()):
        runs = _RUNS_OF_FEW
    moved = [dict(run(jittered_feeds(given, seed=seed + i, unit=_UNIT), PRECISION)) for i in range(runs)]
    return Exact(values, (plain, *moved), "float64" if is_exact else "jitter")


def judged(name: str, candidate: Sequence[Array], exact: Sequence[Exact], *, least: float = 0.0) -> Judged:
    """One tensor of the candidate over all cases, in noise floors.

    Args:
        name: of the tensor in `exact`.
        candidate: one float32 result a case, of the same shape as the exact one.
        least: what no floor is below, in the tensor's unit.
    """
    limits = threshold("jitter" if any(one.method == "jitter" for one in exact) else "float64", PRECISION)
    theirs = [deviation(value, one.values[name]) for value, one in zip(candidate, exact, strict=True)]
    own = [_own(name, one) for one in exact]
    lost = sum(max(0, one.incomparable - mine.incomparable) for one, mine in zip(theirs, own, strict=True))
    unit = unit_roundoff(PRECISION)
    found = ratios(theirs, own, unit=unit, smallest=max(least, least_floor(own, PRECISION)))
    worst = max(range(len(found)), key=lambda i: limits.severity(found[i]))
    judgements = [limits.judgement(one) for one in found]
    judgement = Judgement.BEYOND if lost else judgements[worst]
    first = next((i for i, one in enumerate(judgements) if one is not Judgement.WITHIN), worst)
    return Judged(judgement, found[worst], worst, first, lost)


def _own(name: str, exact: Exact) -> Deviation:
    """The largest error of the reference's own runs."""
    start = 1 if exact.method == "jitter" else 0
    runs = [deviation(one[name], exact.values[name]) for one in exact.own[start:]]
    peaks = tuple(max(values) for values in zip(*(one.peaks for one in runs), strict=True))
    return msgspec.structs.replace(runs[0], rms=max(one.rms for one in runs), peaks=peaks)


def closeness(candidate: Sequence[Array], wanted: Sequence[Array]) -> float:
    """Largest RMS difference of several arrays, each per RMS of the wanted one; infinite where shapes differ or NaN."""
    import numpy as np

    worst = 0.0
    for theirs, ours in zip(candidate, wanted, strict=True):
        if theirs.shape != ours.shape:
            return float("inf")
        scale = float(np.sqrt(np.mean(np.square(ours, dtype=np.float64)))) if ours.size else 0.0
        error = float(np.sqrt(np.mean(np.square(theirs.astype(np.float64) - ours)))) if ours.size else 0.0
        if not np.isfinite(error):
            return float("inf")
        worst = max(worst, error / scale if scale > 0 else (0.0 if error == 0 else float("inf")))
    return worst

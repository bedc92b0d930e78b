"""Why a step of a data pipeline differs: what the candidate made of a sample, from what the reference made of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

if TYPE_CHECKING:
    from regraft.conceptual.stages.interface import Array

TOLERANCE = 1e-5
"""Relative to the largest value: pipelines compute in float32."""
_TRIED = 4
"""Samples that a hypothesis must hold on."""


class StepCase(msgspec.Struct, frozen=True):
    """One sample at one step.

    Attributes:
        given: what both were given.
        ours, theirs: what they made of it; `theirs` is None where it failed.
        failure: why it failed.
        run_ours, run_theirs: the steps, for hypotheses about what they are given.
    """

    given: Any
    ours: Any
    theirs: Any
    failure: str
    run_ours: Callable[[Any], Any]
    run_theirs: Callable[[Any], Any]


class Named(NamedTuple):
    """A cause, the detail with both values, and what to change."""

    cause: str
    detail: str
    fix: str = ""


Family = Callable[[StepCase], Iterator[Named]]


def cause_of_step(cases: Sequence[StepCase], first: int) -> Named:
    """The first hypothesis that holds on the first sample that differs and on the ones after it.

    Args:
        cases: all samples.
        first: the first one that differs.
    """
    from regraft.conceptual.stages.image_causes import IMAGE_FAMILIES
    from regraft.conceptual.stages.sequence_causes import SEQUENCE_FAMILIES

    differing = [case for case in cases[first:] if _differs(case)][:_TRIED]
    families: tuple[Family, ...] = (*SEQUENCE_FAMILIES, *IMAGE_FAMILIES)
    for family in families:
        for found in family(differing[0]):
            if all(any(_alike(found, one) for one in family(case)) for case in differing[1:]):
                return found
    return Named("", "")


def _alike(one: Named, other: Named) -> bool:
    """The same cause; details may name another number for another sample."""
    return one.cause == other.cause


def _differs(case: StepCase) -> bool:
    from regraft.conceptual.stages.pipeline import as_arrays

    if case.failure:
        return True
    ours, theirs = (list(as_arrays(value).values()) for value in (case.ours, case.theirs))
    return len(ours) != len(theirs) or any(not same(a, b) for a, b in zip(ours, theirs, strict=True))


def same(one: Array, other: Array, tolerance: float = TOLERANCE) -> bool:
    """Equal shapes, and values but for rounding."""
    import numpy as np

    if one.shape != other.shape:
        return False
    scale = float(np.abs(other.astype(np.float64)).max(initial=0.0)) or 1.0
    with np.errstate(invalid="ignore"):
        return bool(np.abs(one.astype(np.float64) - other).max(initial=0.0) <= tolerance * scale)


def single(case: StepCase) -> tuple[Array, Array] | None:
    """The largest array of both results; None where one has none."""
    from regraft.conceptual.stages.pipeline import as_arrays

    ours, theirs = as_arrays(case.ours), as_arrays(case.theirs)
    if not ours or not theirs:
        return None
    return max(ours.values(), key=lambda one: one.size), max(theirs.values(), key=lambda one: one.size)


def ran(run: Callable[[Any], Any], given: Any) -> Array | None:
    """The largest array that a step makes of something; None where it fails."""
    from regraft.conceptual.stages.pipeline import as_arrays

    try:
        made = as_arrays(run(given))
    except Exception:  # noqa: BLE001  # a hypothesis that cannot be run does not hold
        return None
    return max(made.values(), key=lambda one: one.size) if made else None
